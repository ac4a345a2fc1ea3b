"""The synthetic charts tell the same story on each day: what is earned, in question or charged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

from launch.sandbox.patients import charts, stories
from launch.sandbox.patients.staff import practice
from launch.sandbox.patients.tales import LARGE
from smartapp.commands.evaluate import evaluate
from smartapp.configuration.site_file import read_site_file
from tests.support.days import DAYS
from tests.support.sandbox import DAY

TOLD = {"suggest", "provisional", "charged", "review"}
"""What is short, out of reach or blocked by a higher code hangs on the rules of the year as well."""

Story = Counter[tuple[str, str, int, tuple[str, ...]]]


@cache
def _written(day: date, folder: Path) -> dict[str, Path]:
    found = {}
    for story, chart in charts(day, readings=60):
        found[story.id] = folder / f"{story.id}-{day}.ndjson"
        found[story.id].write_text("".join(json.dumps(one) + "\n" for one in (*practice(), *chart)))
    return found


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, date], Story]:
    """What is decided of a story's chart that is told on a day: each code, outcome, quantity and doubt."""
    folder = tmp_path_factory.mktemp("stories")
    site = read_site_file(Path(str(files("launch.sandbox").joinpath("site.yaml"))))

    def tell(story: str, day: date) -> Story:
        answer = evaluate([_written(day, folder)[story]], as_of=day, site=site)
        decisions = (answer[0] if isinstance(answer, list) else answer)["decisions"]
        return Counter(
            (one["code"], one["outcome"], one["quantity"], tuple(one["reasons"]))
            for one in decisions
            if one["outcome"] in TOLD
        )

    return tell


READY = [story.id for story in stories() if story.id.startswith("ready-")]
SINCE = date(2026, 3, 2)
"""From here on no story has a day before 2026, when there were no codes for few days."""


@pytest.mark.parametrize("story", [story.id for story in stories() if story.id != LARGE])
@pytest.mark.parametrize("day", [day for day in DAYS if day >= SINCE])
def test_a_story_is_the_same_on_each_day(told, story, day):
    assert told(story, day) == told(story, DAY)


@pytest.mark.parametrize("story", READY)
def test_who_is_ready_is_ready_on_new_years_day_too(told, story):
    assert told(story, date(2026, 1, 1)) == told(story, DAY)
