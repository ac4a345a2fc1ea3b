"""Texts of charts, EHRs and files, harmless wherever people read them: pages, sheets, tables, terminals.

A name may hold what turns the direction of writing (so that what stands beside it reads otherwise), moves a
cursor or erases a line, or is not seen at all (so that two names look like one). None of it is ever let out.
What is kept as evidence, and JSON as data, is left as it came.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TextIO

import msgspec

HARMFUL = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters but tab and the ends of lines
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff0-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff"  # ... and these: unseen, or marks of direction
    "\u2028-\u202e"  # ends of lines and paragraphs, and what turns the direction of all that follows
    "\ud800-\udfff"  # halves of characters, which nothing can write
    "]"
)


def readable(text: str, instead: str = " ") -> str:
    """For what has lines of its own: without anything that turns, moves, hides or is hidden."""
    return HARMFUL.sub(instead, text)


def printable(text: str, instead: str = " ") -> str:
    """For one line: the same, without what ends it."""
    text = readable(text, instead)
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else instead for character in text)


def latin(text: str) -> str:
    """What the fonts that every reader of PDF has can show of it; for the rest a question mark."""
    return printable(text).encode("latin-1", errors="replace").decode("latin-1")


def on_page(value: Any) -> Any:
    """What a template writes: texts readable, everything else as it is. Markup was made of texts that went
    through here already."""
    return value if not isinstance(value, str) or hasattr(value, "__html__") else readable(value)


def escaped(text: str) -> str:
    """As JSON writes what it does not want to show, such as \\u202e: JSON stays the same JSON."""
    return HARMFUL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def laid_out(content: bytes) -> str:
    """JSON on several lines, for reading; what is no JSON as it came."""
    try:
        content = msgspec.json.format(content, indent=2)
    except msgspec.DecodeError:
        return content.decode(errors="replace")
    return escaped(content.decode(errors="replace"))


class _Terminal:
    """A stream that writes everything `escaped`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(escaped(text))
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def harmless_terminal() -> Iterator[None]:
    """Whatever is printed meanwhile, by whatever part of a command."""
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(_Terminal(sys.stdout)))
        stack.enter_context(redirect_stderr(_Terminal(sys.stderr)))
        yield
