"""The page and `evaluate` agree: the worked cases, and odd records, through an EHR over HTTP.

The sandbox serves a case's resources as they are, the app's reader reads them, and what it decides is the
JSON that `smartapp evaluate` gives from the same resources as files, told from which day on was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from launch.sandbox import serve_sandbox
from smartapp.commands.evaluate import evaluate
from smartapp.configuration.site import read_site
from smartapp.configuration.site_file import read_site_file

from .support.chart import build_resources
from .support.evaluation import NEW_YORK, Case, read_cases, write_case, write_site
from .support.through_ehr import EhrOfACase

AS_OF = date(2026, 4, 1)
OTHERS = "it hangs on another patient's records, which a session of this patient never sees"
FILES = "it is about what a file says beside its records"
BEFORE = "what lies before the last charged period is not read"
FILES_ALONE = frozenset({"Claim", "ExplanationOfBenefit", "DocumentReference"})
NOT_ALIKE = {
    "somebody else's device": OTHERS,
    "somebody else's reading": OTHERS,
    "one nurse on two calls at once": OTHERS,
    "one of several calls was double-booked": OTHERS,
    "a clinician on the telephone with one patient and in a visit of another": OTHERS,
    "a charged period fixes the grid backwards": BEFORE,
    "the later of two overlapping periods is charged already": BEFORE,
    "a period given as such is never dated late": BEFORE,
    "an old episode of care that held a reading of the program": BEFORE,
    "a page of readings that follows is not there": FILES,
    "a page of readings of days that are over is not there": FILES,
    "a reading that was deleted": FILES,
}
"""Worked cases in which page and files rightly differ, and why."""
CASES = [
    case
    for case in read_cases(Path(__file__).parent / "cases")
    # Statements and suppositions of the command line, and what has no zone or patient, are for files alone;
    # so are claims, payers' answers and documents, which no EHR is searched for.
    if not case.options
    and not case.attestations
    and case.timezone
    and str(case.expect.get("exit", 0)) == "0"
    and not any(one["resourceType"] in FILES_ALONE for one in build_resources(case.given, NEW_YORK))
]


@pytest.fixture(scope="module")
def ehr() -> Iterator[EhrOfACase]:
    with serve_sandbox(as_of=AS_OF, readings=10).start() as running, closing(EhrOfACase(running)) as held:
        yield held


def both(
    ehr: EhrOfACase, texts: list[str], files: Path, site: Path, as_of: date, patient: str
) -> tuple[Any, Any]:
    """The answer of `evaluate` and the page's, on one patient."""
    assert ehr.holds(texts) == []
    findings = ehr.answer(patient, read_site(site, None, None), as_of)
    answer = evaluate([files], as_of=as_of, site=read_site_file(site), history_from=findings.history_from)
    answers = answer if isinstance(answer, list) else [answer]
    from_files = next(one for one in answers if one["patient"] == f"Patient/{patient}")
    return json.loads(json.dumps(from_files)), json.loads(json.dumps(findings.contract))


def test_every_case_in_which_they_differ_is_still_there() -> None:
    assert NOT_ALIKE.keys() <= {case.name for case in CASES}


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in NOT_ALIKE], ids=str)
def test_the_page_says_of_a_worked_case_what_evaluate_says(
    case: Case, ehr: EhrOfACase, tmp_path: Path
) -> None:
    chart, site = write_case(case, tmp_path)
    resources = build_resources(case.given, case.timezone or NEW_YORK)
    patients = [one["id"] for one in resources if one["resourceType"] == "Patient"]
    texts = [json.dumps(one) for one in resources]
    assert patients, "an EHR opens the app for a Patient: such a case belongs to files alone"
    for patient in patients:
        from_files, from_page = both(ehr, texts, chart, site, date.fromisoformat(case.as_of), patient)
        assert from_page == from_files


# Odd records

GIVEN = [
    {"setup": {"at": "2026-01-04T07:00", "for": "10:00", "by": "nurse", "program": "rpm"}},
    {"days": {"of": "BP", "device": "cuff", "from": "2026-01-05", "count": "15"}},
    {"call": {"at": "2026-01-20T10:00", "for": "22:00", "by": ["nurse", "physician"], "program": "rpm"}},
]
US = '"subject": {"reference": "Patient/p1"}'
BP = '"code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}'
LAB = '"code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]}'
AT = '"effectiveDateTime": "2026-01-25T08:00:00-05:00"'
VISIT = '"period": {"start": "2026-01-22T10:00:00-05:00", "end": "2026-01-22T10:30:00-05:00"}'
VALUE = '"device": {"reference": "Device/cuff"}, "valueQuantity": {"value": 120, "unit": "mm[Hg]"}'
NAN = '"x": NaN'
ODD = {
    "a reading with a NaN": ("Observation", "final", US, BP, AT, NAN),
    "a laboratory result with a NaN": ("Observation", "final", US, LAB, AT, NAN),
    "a reading in error with a NaN": ("Observation", "entered-in-error", US, BP, NAN),
    "half a character": ("Observation", "final", US, BP, AT, r'"x": "\ud800"'),
    "a broken escape": ("Observation", "final", US, BP, AT, r'"x": "\q"'),
    "a reading of an unreadable day": (
        *("Observation", "final", US, BP, r'"effectiveDateTime": "2026-0\q1"'),
        '"meta": {"lastUpdated": "2026-01-28T10:00:00Z"}',
    ),
    "a number beyond all bounds": ("Observation", "final", US, BP, AT, '"valueQuantity": {"value": 1e999}'),
    "a reading that names nobody": ("Observation", "final", BP, AT, VALUE),
    "a laboratory result that names nobody": ("Observation", "final", LAB, AT, VALUE),
    "a reading of an odd shape": ("Observation", "final", US, AT, '"code": 5'),
    "a broken visit": ("Encounter", "finished", US, VISIT, NAN),
    "a broken visit without days": ("Encounter", "finished", US, NAN),
    "a planned visit that is broken": ("Encounter", "planned", US, NAN),
    "a broken charge": ("ChargeItem", "billed", US, NAN),
    "a charge that names nobody": ("ChargeItem", "billed", '"code": {"text": "99454"}'),
    "a charge of an odd shape": (
        *("ChargeItem", "billed", US, '"quantity": "many"', '"code": {"coding": [{"code": "99454"}]}'),
        '"occurrenceDateTime": "2026-02-03"',
    ),
    "a broken consent": ("Consent", "active", US.replace("subject", "patient"), NAN),
    "a broken device": ("Device", "active", US.replace("subject", "patient"), NAN),
}


def odd(name: str, logical_id: str = "odd") -> str:
    """The text of such a record."""
    type_, status, *elements = ODD[name]
    known = [
        f'"resourceType": "{type_}"',
        f'"id": "{logical_id}"' if logical_id else "",
        f'"status": "{status}"',
    ]
    return "{" + ", ".join(filter(None, [*known, *elements])) + "}"


@pytest.mark.parametrize("named", [True, False], ids=["with an id", "without an id"])
@pytest.mark.parametrize("name", ODD)
def test_the_page_says_of_an_odd_record_what_evaluate_says(
    name: str, named: bool, ehr: EhrOfACase, tmp_path: Path
) -> None:
    texts = [json.dumps(one) for one in build_resources(GIVEN, NEW_YORK)]
    texts.append(odd(name, "odd" if named else ""))
    files = tmp_path / "chart.ndjson"
    files.write_text("\n".join(texts) + "\n")
    from_files, from_page = both(ehr, texts, files, write_site(tmp_path), AS_OF, "p1")
    if not named:
        # What a file calls a broken record that names neither itself nor its place is where it stands.
        for answer in (from_files, from_page):
            answer["excluded"] = sorted(one["reason"] for one in answer["excluded"])
    assert from_page == from_files


def test_the_sixteenth_day_may_be_the_reading_that_is_broken(ehr: EhrOfACase, tmp_path: Path) -> None:
    site = read_site(write_site(tmp_path), None, None)
    texts = [json.dumps(one) for one in build_resources(GIVEN, NEW_YORK)]
    for name, outcome in (("a reading with a NaN", "review"), ("a laboratory result with a NaN", "suggest")):
        assert ehr.holds([*texts, odd(name)]) == []
        contract = ehr.answer("p1", site, AS_OF).contract
        (short,) = [one for one in contract["decisions"] if one["code"] == "99445"]
        assert short["outcome"] == outcome


@pytest.mark.parametrize("says", ["the one that stands", "the one that was replaced too"])
def test_records_under_an_earlier_id_of_a_person_are_theirs(
    says: str, ehr: EhrOfACase, tmp_path: Path
) -> None:
    resources = build_resources(GIVEN, NEW_YORK)
    link = [{"type": "replaces", "other": {"reference": "Patient/p1"}}]
    resources.append({"resourceType": "Patient", "id": "p2", "link": link})
    if says == "the one that was replaced too":
        old = next(one for one in resources if one["resourceType"] == "Patient" and one["id"] == "p1")
        old["link"] = [{"type": "replaced-by", "other": {"reference": "Patient/p2"}}]
    texts = [json.dumps(one) for one in resources]
    files = tmp_path / "chart.ndjson"
    files.write_text("\n".join(texts) + "\n")
    from_files, from_page = both(ehr, texts, files, write_site(tmp_path), AS_OF, "p2")
    assert from_page == from_files
    assert from_page["completeness"] == {"whole": True, "missing": []}
    assert {one["code"] for one in from_page["decisions"] if one["outcome"] == "suggest"} >= {
        "99445",
        "99457",
    }
