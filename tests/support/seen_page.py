"""What is wrong with a page for somebody who sees it, hears it, or reaches it with a keyboard.

axe-core finds what a program can find; the rest is measured here. Each fault is a line that names the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import axe_playwright_python
from playwright.sync_api import Frame, Page

_AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
_OURS = Path(__file__).with_suffix(".js").read_text("utf-8")
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_OF_COLOUR = ["color-contrast", "link-in-text-block"]
LEAST_TARGET = 24
"""Pixels, of whatever can be pressed (WCAG 2.2, 2.5.8)."""
LEAST_RING = 3.0
"""Contrast of a focus ring with what is around it (WCAG 2.1, 1.4.11)."""
NARROW = 320
"""Pixels: a page of 1280 at 400 % (WCAG 2.1, 1.4.10)."""


def axe_faults(place: Page | Frame, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds against WCAG 2.2 A and AA, and against its own good practice; or by those rules."""
    return _told(place, "axeFaults", rules or _TAGS)


def small_targets(place: Page | Frame) -> list[str]:
    """Whatever can be pressed and is too small to hit."""
    return _told(place, "smallTargets", LEAST_TARGET)


def sideways(place: Page | Frame) -> list[str]:
    """Whether one has to scroll sideways to read the page."""
    return _told(place, "sideways")


def weak_rings(place: Page | Frame) -> list[str]:
    """Whatever takes the keyboard's focus without a ring around it that can be seen."""
    return _told(place, "weakRings", LEAST_RING)


def open_everything(place: Page | Frame) -> None:
    """Open whatever is closed."""
    place.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")


def _told(place: Page | Frame, question: str, given: Any = None) -> list[str]:
    # A click returns when the next document begins: until it is there, nothing can be said of it.
    place.wait_for_load_state()
    if not place.evaluate("() => 'seenPage' in window"):
        # Not as a script of the page: its content security policy has none but the app's own.
        place.evaluate(f"() => {{ {_AXE}; window.axe = axe; }}")
        place.evaluate(_OURS)
    found: list[str] = place.evaluate(f"given => window.seenPage.{question}(given)", given)
    return found


class Look:
    """Looks at page after page, light and dark, wide and narrow. `faults`: lines of what it did not like."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.faults: list[str] = []

    def at(self, page: Page, name: str) -> None:
        """Look at a page as it stands, and with everything open."""
        self._in_light(page, name)
        if page.locator("details:not([open])").count():
            name = f"{name}, all open"
            open_everything(page)
            self._in_light(page, name)
        page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        self._note(f"{name}, dark", [*axe_faults(page, _OF_COLOUR), *weak_rings(page)])
        page.emulate_media(color_scheme="light", reduced_motion="reduce")

    def _in_light(self, page: Page, name: str) -> None:
        # Without motion: a colour on its way to another is measured nowhere.
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        self._note(name, [*axe_faults(page), *weak_rings(page)])
        wide = page.viewport_size
        assert wide is not None
        page.set_viewport_size({"width": NARROW, "height": 700})
        self._note(f"{name}, {NARROW} px", [*sideways(page), *small_targets(page)])
        page.set_viewport_size(wide)
        self.seen.append(name)

    def _note(self, state: str, found: list[str]) -> None:
        self.faults += [f"{state}: {fault}" for fault in dict.fromkeys(found)]

    def liked(self) -> None:
        """Fails with all that was not liked, and where nothing was looked at."""
        assert self.seen
        assert self.faults == [], "\n".join(self.faults)
