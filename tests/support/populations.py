"""Populations to sweep: random charts of the oracle's generator, each another patient's, told in odd ways.

What an EHR does to records is done to these: versions, deletions, corrections of whose a record is, people by
their identifiers, absolute addresses, Bundles with `urn:uuid`, devices that are contained or somebody else's,
staff that all share, persons who were merged, lines that broke.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from .chart import Resource
from .random_charts import RandomChart, charts

ZONE = "America/New_York"
SHARED = {"Practitioner", "PractitionerRole", "Organization"}


def random_charts(number: int, series: int = 0) -> list[RandomChart]:
    """So many charts, always the same of one series."""
    found: list[RandomChart] = []

    @seed(series)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(charts())
    def draw(chart: RandomChart) -> None:
        found.append(chart)

    draw()
    return found[:number]


def population(drawn: Iterable[RandomChart], chance: random.Random) -> list[Resource]:
    """The resources of all these charts, each chart's under names of its own; staff is everybody's."""
    found: dict[str, Resource] = {}
    for number, chart in enumerate(drawn):
        resources = [_renamed(one, number) for one in chart.resources()]
        if not any(one["resourceType"] == "Patient" for one in resources):
            resources.append({"resourceType": "Patient", "id": f"{number}-p1"})
        for one in resources:
            if one["resourceType"] == "Patient":
                one["identifier"] = [{"system": "urn:mrn", "value": f"m{number}"}]
            found.setdefault(f"{one['resourceType']}/{one.get('id', len(found))}", one)
    return [*found.values()]


def _renamed(part: Any, number: int) -> Any:
    if isinstance(part, dict):
        told = {key: _renamed(value, number) for key, value in part.items()}
        if "resourceType" in part and "id" in part and part["resourceType"] not in SHARED:
            told["id"] = f"{number}-{part['id']}"
        reference = part.get("reference")
        if isinstance(reference, str) and reference.count("/") == 1 and ":" not in reference:
            kind, name = reference.split("/")
            if kind not in SHARED:
                told["reference"] = f"{kind}/{number}-{name}"
        if isinstance(told.get("contained"), list):
            # What is contained is named within its resource.
            told["contained"] = part["contained"]
        return told
    return [_renamed(one, number) for one in part] if isinstance(part, list) else part


Lines = list[bytes]


def line(resource: Resource) -> bytes:
    return json.dumps(resource).encode() + b"\n"


def told_oddly(
    resources: list[Resource],
    chance: random.Random,
    day: date,
    share: float = 0.03,
    every: list[Resource] | None = None,
) -> Lines:
    """The same resources as lines, some of them told in another way. `every`: all that there are."""
    found: Lines = []
    for one in resources:
        told = [one]
        for way in WAYS:
            if chance.random() < share:
                told = [each for before in told for each in way(before, every or resources, chance, day)]
        found += map(line, told)
    chance.shuffle(found)
    return found


def _stamped(one: Resource, version: int, day: date) -> Resource:
    return {
        **one,
        "meta": {**one.get("meta", {}), "versionId": str(version), "lastUpdated": f"{day}T0{version}:00:00Z"},
    }


def _later_version(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    newer = dict(one)
    if chance.random() < 0.4 and "status" in one:
        newer["status"] = "entered-in-error"
    versions = [_stamped(one, 1, day), _stamped(newer, 2, day)]
    return versions if chance.random() < 0.8 else versions[1:]


def _twice(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    return [one] * chance.choice([2, 2, 3])


def _deleted(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    if "id" not in one:
        return [one]
    name = f"{one['resourceType']}/{one['id']}"
    gone = {"request": {"method": "DELETE", "url": name}}
    if chance.random() < 0.7:
        gone["response"] = {"lastModified": f"{day}T05:00:00Z"}
    return [one, {"resourceType": "Bundle", "type": "transaction", "entry": [gone]}]


def _by_identifier(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    subject = (one.get("subject") or {}).get("reference", "")
    number = subject.removeprefix("Patient/").partition("-")[0]
    if not number.isdigit():
        return [one]
    return [{**one, "subject": {"identifier": {"system": "urn:mrn", "value": f"m{number}"}}}]


def _absolute(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    subject = (one.get("subject") or {}).get("reference")
    if not subject or ":" in subject:
        return [one]
    return [{**one, "subject": {"reference": f"https://ehr.example/fhir/{subject}"}}]


def _of_another(one: Resource, every: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    """Filed under somebody else first, or last."""
    if "subject" not in one or "id" not in one:
        return [one]
    other = chance.choice([other for other in every if other["resourceType"] == "Patient"])
    moved = {**one, "subject": {"reference": f"Patient/{other['id']}"}}
    return [_stamped(one, 1, day), _stamped(moved, 2, day)][:: chance.choice([1, -1])]


def _anothers_device(
    one: Resource, every: list[Resource], chance: random.Random, day: date
) -> list[Resource]:
    devices = [other for other in every if other["resourceType"] == "Device"]
    if one["resourceType"] != "Observation" or not devices:
        return [one]
    return [{**one, "device": {"reference": f"Device/{chance.choice(devices)['id']}"}}]


def _in_a_bundle(one: Resource, _: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    address = f"urn:uuid:{chance.randrange(1 << 60):015x}"
    entries = [{"fullUrl": address, "resource": one}]
    if one["resourceType"] == "Patient":
        entries.append(
            {
                "resource": {
                    "resourceType": "Consent",
                    "id": f"c{address[9:20]}",
                    "status": "active",
                    "patient": {"reference": address},
                    "dateTime": "2025-01-01",
                }
            }
        )
    return [{"resourceType": "Bundle", "type": "collection", "entry": entries}]


def _merged(one: Resource, every: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    if one["resourceType"] != "Patient" or chance.random() < 0.5:
        return [one]
    other = chance.choice([other for other in every if other["resourceType"] == "Patient"])
    kind = chance.choice(["replaced-by", "replaces", "seealso"])
    where = {"reference": f"Patient/{other['id']}"}
    if chance.random() < 0.3:
        where = {"identifier": other["identifier"][0]}
    return [{**one, "link": [{"other": where, "type": kind}]}]


def _at_the_same_time(
    one: Resource, every: list[Resource], chance: random.Random, day: date
) -> list[Resource]:
    """Somebody else's Encounter at the same time with the same staff."""
    if one["resourceType"] != "Encounter" or "subject" not in one:
        return [one]
    other = chance.choice([other for other in every if other["resourceType"] == "Patient"])
    copy = {**one, "id": f"{one.get('id')}-b", "subject": {"reference": f"Patient/{other['id']}"}}
    copy.pop("identifier", None)
    return [one, copy]


def _role(one: Resource, every: list[Resource], chance: random.Random, day: date) -> list[Resource]:
    """A role of somebody who has none yet, named by their identifier or not."""
    if one["resourceType"] != "Practitioner":
        return [one]
    known = {**one, "identifier": [{"system": "urn:npi", "value": f"n-{one['id']}"}]}
    who = {"reference": f"Practitioner/{one['id']}"}
    if chance.random() < 0.5:
        who = {"identifier": known["identifier"][0]}
    role = {
        "resourceType": "PractitionerRole",
        "id": f"role-{one['id']}-{chance.randrange(3)}",
        "practitioner": who,
        "code": [{"coding": [{"system": "http://nucc.org/provider-taxonomy", "code": "163W00000X"}]}],
    }
    return [known, role]


WAYS: list[Callable[[Resource, list[Resource], random.Random, date], list[Resource]]] = [
    _later_version,
    _twice,
    _deleted,
    _by_identifier,
    _absolute,
    _of_another,
    _anothers_device,
    _merged,
    _at_the_same_time,
    _role,
    _in_a_bundle,
]


def broken(lines: Lines, chance: random.Random) -> Lines:
    """Some of these lines, cut off."""
    return [
        line[: chance.randrange(10, len(line) - 2)] + b"\n"
        for line in chance.sample(lines, min(3, len(lines)))
    ]


class FragileBench:
    """Does tasks named by numbers: 2 kills its process the first time, 3 each time, 4 fails the first time, 5
    each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def do(self, job: int) -> int:
        seen = self.folder / str(job)
        first = not seen.exists()
        seen.touch()
        if job == 3 or (job == 2 and first):
            os._exit(1)
        if job == 5 or (job == 4 and first):
            raise KeyError("Patient/secret")
        return job * 10


def written(folder: Path, lines: Lines, files: int = 3) -> Path:
    """These lines as NDJSON, spread over some files."""
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"part-{number}.ndjson").write_bytes(b"".join(lines[number::files]))
    return folder


def next_night(resources: list[Resource], chance: random.Random, day: date, share: float = 0.05) -> Lines:
    """What changed since: some records again, in one of the ways; some new readings."""
    some = [one for one in resources if chance.random() < share]
    changed = told_oddly(some, chance, day, 0.1, resources)
    news = []
    for one in chance.sample(resources, min(len(resources), 20)):
        if one["resourceType"] == "Observation" and "effectiveDateTime" in one:
            at = (day - timedelta(days=1)).isoformat()
            news.append({**one, "id": f"{one.get('id')}-{day}", "effectiveDateTime": f"{at}T12:00:00Z"})
    return changed + [line(one) for one in news]
