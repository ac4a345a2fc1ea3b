"""Debian's chromium, driven headless: for the tests of pages, and for the pictures in docs/."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    FrameLocator,
    Locator,
    Page,
    Playwright,
    ViewportSize,
)

from tests.support.sandbox import LONG

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


_NO_SCRIPTS = "--blink-settings=scriptEnabled=false"
"""As its user chose: what stands in `noscript` counts, which it does not with the switch of playwright."""


@contextmanager
def chromium_of(playwright: Playwright, *, scripts: bool = True) -> Iterator[Browser]:
    """A browser of our own. Raises playwright's Error where chromium is not installed."""
    arguments = _ARGUMENTS if scripts else [*_ARGUMENTS, _NO_SCRIPTS]
    browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=arguments)
    try:
        yield browser
    finally:
        browser.close()


@contextmanager
def new_window(browser: Browser, **more: Any) -> Iterator[BrowserContext]:
    """A window that knows nothing of others; more arguments are those of a context."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | more)
    context.set_default_timeout(1000 * LONG)
    try:
        yield context
    finally:
        context.close()


def launched(ehr: str, window: BrowserContext, patient: str, *, user: str | None = None) -> Page:
    """Press the EHR's button; the tab in which the app opens. `ehr`: the sandbox's address."""
    chooser = window.new_page()
    chooser.goto(f"{ehr}/" + (f"?user={user}" if user else ""))
    with window.expect_page() as opened:
        chooser.locator(f"#{patient} button[value=tab]").click()
    chooser.close()
    return opened.value


def press(place: Page | FrameLocator, name: str) -> None:
    """Press the button of that name."""
    _arrive(place, place.get_by_role("button", name=name, exact=True))


def follow(place: Page | FrameLocator, name: str) -> None:
    """Follow the link of that name; some links look like buttons, and are told as such."""
    link = place.get_by_role("link", name=name, exact=True)
    _arrive(place, link.or_(place.get_by_role("button", name=name, exact=True)))


def _arrive(place: Page | FrameLocator, by: Locator) -> None:
    """Click, and wait for what comes: a click returns when the next document begins."""
    by.first.click()
    if isinstance(place, Page):
        place.wait_for_load_state()


def framed(
    ehr: str, window: BrowserContext, patient: str, size: ViewportSize | None = None
) -> tuple[Page, FrameLocator]:
    """Press the EHR's button that opens the app inside the chart, as large as told; the EHR's page, and the
    app in it."""
    page = window.new_page()
    page.goto(f"{ehr}/")
    page.locator(f"#{patient} button[value=frame]").click()
    if size is not None:
        page.locator("#app").evaluate(
            """(frame, size) => Object.assign(frame.style,
                {border: "none", width: `${size.width}px`, height: `${size.height}px`})""",
            size,
        )
    return page, page.frame_locator("#app")
