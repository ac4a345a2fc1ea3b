"""The days of a patient page's strips, which stand on pages of their own."""

from __future__ import annotations

from smartapp.commands.demo_check import Browser, Page


def days_in_full(browser: Browser, page: Page) -> Page:
    """The page with all days of the first strip of a patient page."""
    return browser.get(next(target for target, text in page.links if text == "All days"))


def days_that_open(page: Page) -> list[str]:
    """The addresses of the days that a patient page links to, in its order."""
    return [target for target, _ in page.links if "/days/" in target]
