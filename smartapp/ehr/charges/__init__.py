"""Charges in the EHR: created once, revised only over the version that was read."""
