"""Texts of charts, EHRs and files, harmless where they are written into what is no web page."""

from __future__ import annotations


def printable(text: str, instead: str = " ") -> str:
    """Without what ends a line, moves a cursor or turns the direction of writing."""
    return "".join(character if character.isprintable() else instead for character in text)


def latin(text: str) -> str:
    """What the fonts that every reader of PDF has can show of it; for the rest a question mark."""
    return printable(text).encode("latin-1", errors="replace").decode("latin-1")
