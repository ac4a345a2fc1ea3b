"""Measured, not guessed: how fast the main job is, as ratios taken in one run (docs/performance.md)."""
