"""Synthetic charts: each a story a clinician recognises, made from a day and a seed.

The same day, seed and size give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from launch.sandbox.patients.chart import Chart
from launch.sandbox.patients.staff import USERS, Person, practice
from launch.sandbox.patients.tales import LARGE, tales

READINGS = 50_000


class Story(NamedTuple):
    """A synthetic patient: Patient id, a title, and one line."""

    id: str
    title: str
    line: str


def stories(readings: int = READINGS) -> list[Story]:
    """Every synthetic patient, in the order of their MRNs."""
    return [Story(tale.id, tale.title, tale.line) for tale in tales(readings)]


def users() -> tuple[Person, ...]:
    """Who may be the EHR's user on the launch page."""
    return USERS


def charts(
    as_of: date, seed: int = 1, readings: int = READINGS
) -> Iterator[tuple[Story, list[dict[str, Any]]]]:
    """Each patient with the resources of the chart, staff and organizations left out."""
    for number, tale in enumerate(tales(readings), start=1):
        chart = Chart(tale.id, number, tale.family, as_of, seed)
        tale.write(chart)
        yield Story(tale.id, tale.title, tale.line), chart.resources


def resources(as_of: date, seed: int = 1, readings: int = READINGS) -> Iterator[dict[str, Any]]:
    """Every resource of the sandbox: the practice, then chart by chart."""
    yield from practice()
    for _, found in charts(as_of, seed, readings):
        yield from found


def export(folder: Path, as_of: date, seed: int = 1, readings: int = READINGS) -> list[Path]:
    """Write each chart with the practice as one file, and the site's terminology; the files written.

    A Bundle `<patient>.json`; the large chart is NDJSON. Every file stands on its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for story, found in charts(as_of, seed, readings):
        everything = [*practice(), *found]
        if story.id == LARGE:
            path = folder / f"{story.id}.ndjson"
            text = "".join(json.dumps(resource) + "\n" for resource in everything)
        else:
            path = folder / f"{story.id}.json"
            entries = [{"resource": resource} for resource in everything]
            text = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}, indent=1)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    site = folder / "site.yaml"
    site.write_text(files("launch.sandbox").joinpath("site.yaml").read_text("utf-8"), encoding="utf-8")
    return [*written, site]
