"""Makes the pictures in docs/pictures/ anew (`make pictures`): the main states of the demo's pages, as they
are in a side panel of 400 pixels, on a tablet of 768 and on a desk of 1280, on a day that is always the same.

Needs Debian's chromium. Nothing of them is compared by a test: fonts differ between machines. Look at each.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from PIL import Image
from playwright.sync_api import BrowserContext, Page, sync_playwright

from smartapp.commands.demo import Demo
from tests.support.chromium import chromium_of, follow, launched, new_window, press

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
BEGINS = datetime.fromisoformat("2026-12-02T12:00")
WIDTHS = {400: 700, 768: 900, 1280: 800}
"""How high the window is at each width; a picture shows more of a page that is longer."""
HIGHEST = 1400
THERAPIST = "Practitioner/syn-therapist"
COLOURS = 128
"""As many as flat pages have, so that a picture is small and its letters stay sharp."""


def states(ehr: str, window: BrowserContext) -> Iterator[tuple[str, Page]]:
    """Each state by its name, in the order in which they come about."""
    yield from _a_month(ehr, window)
    yield from _what_did_not_count(ehr, window)
    yield from _a_call(ehr, window)


def _chart(ehr: str, window: BrowserContext, patient: str) -> Page:
    app = launched(ehr, window, patient, user=THERAPIST)
    app.locator("#findings").wait_for()
    return app


def _a_month(ehr: str, window: BrowserContext) -> Iterator[tuple[str, Page]]:
    app = _chart(ehr, window, "ready-musculoskeletal")
    patient_page = app.url
    _open_day(app, 5)
    yield "answer", app
    app.goto(patient_page)
    follow(app, "Accept all 3 together")
    app.get_by_role("button", name="Write 3 charges to the EHR").wait_for()
    yield "preview", app
    press(app, "Write 3 charges to the EHR")
    app.get_by_role("heading", name="All 3 charges are in the EHR").wait_for()
    yield "written", app
    follow(app, "Open the audit record of 98977")
    app.get_by_role("heading", name="Audit record of").wait_for()
    yield "audit-record", app


def _what_did_not_count(ehr: str, window: BrowserContext) -> Iterator[tuple[str, Page]]:
    app = _chart(ehr, window, "messy-chart")
    _open_day(app, 5)
    yield "left-out", app
    app.locator(".opened:visible").get_by_role("link", name="Technical").click()
    app.locator("#raw").wait_for()
    yield "record", app


def _a_call(ehr: str, window: BrowserContext) -> Iterator[tuple[str, Page]]:
    app = _chart(ehr, window, "calls-not-in-the-ehr")
    follow(app, "Log time or a conversation")
    app.get_by_label("Date", exact=True).fill("2026-11-24")
    app.get_by_label("Start", exact=True).fill("10:00")
    app.get_by_label("End", exact=True).fill("10:22")
    app.get_by_label("Whose time").select_option(label="Devon Synthetic-Therapist")
    app.get_by_label("What was done").select_option("phone-call")
    app.get_by_label("Live, two-way").select_option("yes")
    press(app, "Save and sign")
    app.locator("#entry-length").wait_for()
    yield "call", app


def _open_day(app: Page, day: int) -> None:
    app.locator(f"a.cell[data-day='{day}']").first.click()
    app.locator(".opened:visible").wait_for()


def take(page: Page, name: str) -> int:
    """A picture of the page at each width; how many bytes they have."""
    taken = 0
    for width, height in WIDTHS.items():
        page.set_viewport_size({"width": width, "height": height})
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        shown = whole.crop((0, 0, whole.width, min(whole.height, HIGHEST)))
        file = FOLDER / f"{name}-{width}.webp"
        shown.quantize(COLOURS, dither=Image.Dither.NONE).convert("RGB").save(file, lossless=True, method=6)
        taken += file.stat().st_size
    return taken


def main() -> int:
    """Make them all, and say how large they are together."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.webp"):
        old.unlink()
    with ExitStack() as stack:
        demo = stack.enter_context(Demo(as_of=BEGINS, readings=500))
        browser = stack.enter_context(chromium_of(stack.enter_context(sync_playwright())))
        window = stack.enter_context(new_window(browser, reduced_motion="reduce"))
        taken = sum(take(page, name) for name, page in states(demo.ehr_url, window))
    print(f"{len(list(FOLDER.glob('*.webp')))} pictures, {taken:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
