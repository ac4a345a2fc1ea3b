"""The EHR's look, where it offers one (`smart_style_url`): colours, sizes and fonts of the keys SMART names.

The document is fetched by the guarded client from the EHR's own host, without a token. Only known keys and
plain colours, lengths and font names are taken: what comes out is a style sheet of our own making. Colours
that cannot be read on each other are left out. Whatever is wrong with it, the page has its own look.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, g

from launch.errors import LaunchError, SmartError
from smartapp.services import services
from smartapp.web.access import Open, needs
from smartapp.web.waiting import take_seat

pages = Blueprint("style", __name__, url_prefix="/s/<sid>")

KEPT_FOR = timedelta(hours=1)
_MOST_SHEETS = 200
LEAST_CONTRAST = 4.5
"""Of text on its background (WCAG 2, level AA)."""

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_LENGTH = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)(px|pt|em|rem)")
_FONT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,\-]{0,99}")
_PIXELS = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0}


def _colour(value: object) -> str | None:
    return value.lower() if isinstance(value, str) and _COLOUR.fullmatch(value) else None


def _length(least: float, most: float) -> Callable[[object], str | None]:
    """A length between two of pixels: a page must stay readable whatever it is told."""

    def read(value: object) -> str | None:
        found = _LENGTH.fullmatch(value) if isinstance(value, str) else None
        return found[0] if found and least <= float(found[1]) * _PIXELS[found[2]] <= most else None

    return read


def _font(value: object) -> str | None:
    if not isinstance(value, str) or not _FONT.fullmatch(value):
        return None
    names = [name.strip() for name in value.split(",") if name.strip()]
    return ", ".join(f'"{name}"' for name in names) + ", sans-serif"


_KNOWN: dict[str, tuple[Callable[[object], str | None], tuple[str, ...]]] = {
    "color_background": (_colour, ("--paper",)),
    "color_text": (_colour, ("--ink",)),
    "color_highlight": (
        _colour,
        ("--pico-primary", "--pico-primary-background", "--pico-primary-border", "--open"),
    ),
    "color_error": (_colour, ("--bad",)),
    "color_success": (_colour, ("--ready",)),
    "dim_border_radius": (_length(0, 24), ("--pico-border-radius",)),
    "dim_font_size": (_length(12, 24), ("--pico-font-size",)),
    "dim_spacing_size": (_length(4, 32), ("--pico-spacing",)),
    "font_family_body": (_font, ("--pico-font-family",)),
}
_SELECTOR = ':root:not([data-theme="dark"])'
_WHITE = "#ffffff"
_CARRIES_WHITE_TEXT = ("color_highlight", "color_error", "color_success")


@pages.get("/style.css")
@needs(Open.SIGNED_IN)
def sheet() -> Response:
    """The style sheet of this session's EHR; empty where it has none that can be used."""
    try:
        response = Response(_sheets.of(g.session.smart_style_url), mimetype="text/css")
    except LaunchError:
        return Response("", mimetype="text/css")  # the EHR has no seat free: in our own colours meanwhile
    response.headers["Cache-Control"] = "private, max-age=600"
    return response


def style_sheet(document: Mapping[str, Any]) -> str:
    """CSS of the known keys of a SMART style document; "" where none can be used."""
    read = {key: value for key, (of, _) in _KNOWN.items() if (value := of(document.get(key))) is not None}
    for key in _CARRIES_WHITE_TEXT:
        if key in read and contrast(read[key], _WHITE) < LEAST_CONTRAST:
            del read[key]
    text, paper = read.get("color_text", "#1b2733"), read.get("color_background", "#f3f6f9")
    # Text stands on the background and on white cards; the soft text of our own needs a light background.
    if min(contrast(text, paper), contrast(text, _WHITE), contrast("#53616f", paper)) < LEAST_CONTRAST:
        read.pop("color_text", None)
        read.pop("color_background", None)
    colours = [line for key in read if key.startswith("color_") for line in _lines(key, read[key])]
    others = [line for key in read if not key.startswith("color_") for line in _lines(key, read[key])]
    # Whoever asks for a dark page gets it: an EHR's colours are checked against light backgrounds only.
    light = ("@media not (prefers-color-scheme: dark) {", *_rule(colours), "}") if colours else ()
    return "".join(f"{line}\n" for line in (*light, *(_rule(others) if others else ())))


def _lines(key: str, value: str) -> list[str]:
    return [f"  {name}: {value};" for name in _KNOWN[key][1]]


def _rule(lines: list[str]) -> tuple[str, ...]:
    return f"{_SELECTOR} {{", *lines, "}"


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two `#rrggbb` colours, from 1 to 21 (WCAG 2)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


class _Sheets:
    """The style sheets of an hour, by address, failures included: a page never waits twice for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[datetime, str]] = {}

    def of(self, url: str | None) -> str:
        if url is None:
            return ""
        now = services().clock.now()
        with self._lock:
            kept = self._kept.get(url)
        if kept is not None and kept[0] > now:
            return kept[1]
        take_seat()
        made = _fetched(url)
        with self._lock:
            if len(self._kept) >= _MOST_SHEETS:
                self._kept.clear()
            self._kept[url] = (now + KEPT_FOR, made)
        return made


_sheets = _Sheets()


def _fetched(url: str) -> str:
    try:
        document = services().clients.of(g.issuer).oauth_get(url).require_ok().json_object()
    except SmartError:
        return ""
    return style_sheet(document)
