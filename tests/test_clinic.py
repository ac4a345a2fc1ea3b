"""A simulated clinic: forty patients, three months, and a biller who confirms only what is true.

What is earned (`tests/clinic/earned.yaml`) was written by hand from the rules before the app was run on the
clinic; where they differed, docs/quality.md says who was wrong.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from fhir_mappings.vocabulary import Unverified
from smartapp.cli import main
from tests.support.clinic import Biller, Charged, Clinic, billers, earned, read_clinic
from tests.support.evaluation import write_chart
from tests.test_statements import MOST_A_MONTH, MOST_AT_FIRST

MOST_BESIDE_THE_FIRST = 2
"""Of the other charges of that month: time and conversation of a call that is filed like any other."""
SITTINGS = (date(2027, 1, 1), date(2027, 2, 1), date(2027, 3, 1))
TABLE = earned()


@pytest.fixture(scope="module")
def clinic() -> Clinic:
    return read_clinic()


@pytest.fixture(scope="module")
def worked(clinic: Clinic, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Biller]:
    """What the biller did for each patient, on the first day of each following month."""
    all_of_them = billers(clinic, tmp_path_factory.mktemp("clinic"))
    for biller in all_of_them:
        for day in SITTINGS:
            biller.work(day)
    return {biller.patient.id: biller for biller in all_of_them}


def charges_of(rows: list[dict[str, Any]]) -> set[Charged]:
    return {
        Charged(
            row["code"],
            row["from"],
            row["dated"],
            int(row.get("units", 1)),
            tuple(sorted(row.get("modifiers", ()))),
        )
        for row in rows
    }


def written_by(biller: Biller) -> list[Charged]:
    return [
        Charged(one.code, one.start, one.dated, one.units, tuple(sorted(one.modifiers)))
        for one in biller.charges
    ]


def test_there_are_forty_patients_of_nine_payers_and_each_has_its_row(clinic: Clinic) -> None:
    assert len(clinic.patients) == 40
    assert len({one.payer for one in clinic.patients}) == 9
    assert [one.id for one in clinic.patients] == list(TABLE)


@pytest.mark.parametrize("patient", TABLE)
def test_every_code_that_is_earned_ends_as_a_charge_and_none_other_does(
    patient: str, worked: dict[str, Biller]
) -> None:
    charged = written_by(worked[patient])
    assert len(charged) == len(set(charged))
    assert set(charged) == charges_of(TABLE[patient])


def test_whoever_confirms_what_is_not_true_would_charge_what_is_not_earned(
    clinic: Clinic, tmp_path: Path
) -> None:
    """So what the biller does not know is what holds these, and not something else."""
    careless = {biller.patient.id: biller for biller in billers(clinic, tmp_path)}
    for patient in ("c09", "c23"):
        biller = careless[patient]
        biller.patient = replace(biller.patient, knows=frozenset(map(str, Unverified)))
        biller.work(SITTINGS[0])
        assert biller.charges, patient
        assert TABLE[patient] == []


def by_month(biller: Biller) -> Iterator[tuple[str, set[str]]]:
    """The different statements asked with the first charge ("first"), and of the others by month."""
    first = biller.charges[0]
    asked: dict[str, set[str]] = defaultdict(set)
    for charge, entry in biller.stated:
        asked["first" if charge == first else charge.dated[:7]].add(entry)
    yield from asked.items()


def test_four_statements_are_asked_at_most_for_a_first_charge_and_one_in_a_later_month(
    worked: dict[str, Biller],
) -> None:
    for biller in worked.values():
        if not biller.charges:
            assert not biller.stated
            continue
        opening = biller.charges[0].dated[:7]
        most = {"first": MOST_AT_FIRST, opening: MOST_BESIDE_THE_FIRST}
        for when, asked in by_month(biller):
            assert len(asked) <= most.get(when, MOST_A_MONTH), (biller.patient.id, when, asked)


def test_what_it_takes_is_counted(worked: dict[str, Biller]) -> None:
    steps: Counter[str] = Counter()
    for biller in worked.values():
        steps.update(biller.steps)
    stated = Counter(entry for biller in worked.values() for _, entry in biller.stated)
    first = sum(1 for biller in worked.values() for charge, _ in biller.stated if charge == biller.charges[0])
    print(
        f"\nclinic: {steps['accepted']} charges, {stated.total()} statements ({first} with a first charge), "
        f"{steps['settled']} doubts settled, {steps['logged']} entries logged; {dict(stated)}"
    )
    # docs/quality.md tells these numbers.
    assert (steps["accepted"], stated.total(), first, steps["settled"], steps["logged"]) == (
        142,
        105,
        95,
        15,
        2,
    )


def test_smartapp_evaluate_finds_every_charge_charged_and_nothing_true_left(
    clinic: Clinic, worked: dict[str, Biller], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All forty in one run, with what was stated and settled in a file."""
    resources = {
        f"{one['resourceType']}/{one['id']}": one for biller in worked.values() for one in biller.chart
    }
    chart = write_chart(list(resources.values()), tmp_path)
    stated = tmp_path / "stated.yaml"
    stated.write_text(yaml.safe_dump([row for biller in worked.values() for row in rows_of(biller)]))
    arguments = ["evaluate", str(chart), "--as-of", "2027-03-01", "--site", str(clinic.site_file(tmp_path))]
    assert main([*arguments, "--attestations", str(stated), "--json"]) in (0, None)
    told = {one["patient"]: one for one in json.loads(capsys.readouterr().out) if one["patient"]}
    assert len(told) == 40
    for patient, biller in worked.items():
        decisions = told[f"Patient/{patient}"]["decisions"]
        assert told[f"Patient/{patient}"]["payer"] == biller.patient.payer
        charged = {(d["code"], d["period"]["start"]) for d in decisions if d["outcome"] == "charged"}
        assert {(one.code, one.start) for one in biller.charges} <= charged
        for left in (d for d in decisions if d["outcome"] == "suggest"):
            assert not set(left["unverified"]) <= biller.patient.knows, (patient, left)


def rows_of(biller: Biller) -> Iterator[dict[str, Any]]:
    """What was said of one patient, as a file of attestations tells it."""
    said = {"patient": f"Patient/{biller.patient.id}", "by": "Practitioner/biller", "at": "2026-12-01"}
    for attestation in biller.attestations:
        row = {**said, "statement": str(attestation.statement), "codes": sorted(attestation.codes)}
        if (window := attestation.window) is not None:
            row["period"] = {"start": window.start, "end": window.end}
        yield row
    for one in biller.resolutions:
        row = {**said, "resolves": one.resolves, "codes": sorted(one.codes), "choice": one.choice}
        row |= {"reference": one.reference, "until": one.until}
        if (window := one.window) is not None:
            row["period"] = {"start": window.start, "end": window.end}
        yield row
