"""Debian's chromium, driven headless: for the tests of pages, and for the pictures in docs/."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, FrameLocator, Page, sync_playwright

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


@contextmanager
def in_chromium() -> Iterator[Browser]:
    """A browser of our own. Raises playwright's Error where chromium is not installed."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), headless=True, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


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
    place.get_by_role("button", name=name, exact=True).first.click()


def follow(place: Page | FrameLocator, name: str) -> None:
    """Follow the link of that name; some links look like buttons, and are told as such."""
    link = place.get_by_role("link", name=name, exact=True)
    link.or_(place.get_by_role("button", name=name, exact=True)).first.click()
