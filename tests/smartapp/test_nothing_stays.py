"""What a page was made from goes with its answer: no text of a chart waits in the process for Python's
garbage collector, which may look much later."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import msgspec
import pytest

from smartapp.ehr.reading.findings import Findings

PATIENT = "ready-musculoskeletal"
SECONDS = 2
TEMPLATES = Path(str(files("smartapp") / "templates"))


@pytest.fixture
def collector() -> Iterator[None]:
    """Does not look while the test runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def charts_there() -> int:
    return sum(type(one) is Findings for one in gc.get_objects())


def none_stays() -> bool:
    """The thread that answered may have something left to do."""
    until = time.monotonic() + SECONDS
    while charts_there() and time.monotonic() < until:
        time.sleep(0.01)
    return not charts_there()


@pytest.mark.usefixtures("collector")
def test_no_chart_stays_when_a_page_was_shown(world: Any, browser: Any) -> None:
    page = world.open(browser, PATIENT)
    gc.collect()
    held = msgspec.json.decode(
        world.store.reading.snapshot_of(urlsplit(page.url).path.split("/")[2]).result, type=Findings
    )
    assert charts_there() == 1
    del held
    session = page.url.removesuffix("/")
    # The form of a charge holds itself (WTForms), and what it was made from with it.
    asked = {
        urldefrag(link).url for link, _ in page.links if link.startswith(session) and "/charges/" not in link
    }
    # Of what the page names many of (days, records, windows) one each: the others are made alike.
    of_a_kind = {re.sub(r"/[0-9a-f]{24}$", "", address): address for address in sorted(asked - {page.url})}
    addresses = [page.url, *of_a_kind.values(), f"{session}/content", f"{session}/what-if?add-days=3"]
    assert len(addresses) > 10
    stays = []
    for address in addresses:
        assert browser.get(address).status == 200
        if not none_stays():
            stays.append(address)
            gc.collect()
    assert stays == []


def test_no_template_makes_macros_for_one_page() -> None:
    """A macro of a page, or one that is imported with its context, and what it was given hold each other:
    neither goes with the answer. Made once for all pages it also takes less time."""
    texts = {str(one.relative_to(TEMPLATES)): one.read_text("utf-8") for one in TEMPLATES.rglob("*.html")}
    assert [name for name, text in texts.items() if re.search("import .* with context", text)] == []
    imported = {name for text in texts.values() for name in re.findall(r'(?:import|from) "([^"]+)"', text)}
    assert {name for name, text in texts.items() if "{% macro " in text} == imported
