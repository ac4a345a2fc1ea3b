"""The worked cases: every row of the billing rules' section 8, and the contract's own rules."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from fhir_mappings.contract import schema
from fhir_mappings.rules.tables import load_tables
from smartapp.cli import main

from .support.evaluation import STATED, Case, check_case, read_cases, write_case

CASES = list(read_cases(Path(__file__).parent / "cases"))
SHIPPED_SCHEMA = Path(__file__).parents[1] / "docs" / "reference" / "contract.schema.json"
SCHEMA = Draft202012Validator(schema())


def run(case: Case, folder: Path) -> int:
    """`smartapp evaluate` on the case's chart; the exit code."""
    chart, site = write_case(case, folder)
    arguments = ["evaluate", str(chart), "--as-of", case.as_of, "--site", str(site), "--json", *case.options]
    if case.attestations:
        arguments += ["--attestations", str(folder / STATED)]
    try:
        return main(arguments) or 0
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_worked_case_comes_out_as_written(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(case, tmp_path)
    out, err = capsys.readouterr()
    if (expected := int(case.expect.get("exit", 0))) != 0:
        assert (code, out) == (expected, "")
        assert len(err.strip().splitlines()) == 1
        return
    assert code == 0, err
    answer = json.loads(out)
    check_case(case, answer)
    assert [fault.message for fault in SCHEMA.iter_errors(answer)] == []


def test_the_schema_that_is_shipped_is_made_from_the_types_and_is_a_schema() -> None:
    assert json.loads(SHIPPED_SCHEMA.read_text("utf-8")) == schema()
    Draft202012Validator.check_schema(schema())


def test_the_schema_refuses_what_the_contract_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(next(case for case in CASES if "exit" not in case.expect), tmp_path)
    answer = json.loads(capsys.readouterr().out)
    decision = answer["decisions"][0]
    spoilt = [
        answer | {"money": 1},
        {key: value for key, value in answer.items() if key != "completeness"},
        answer | {"decisions": [decision | {"outcome": "ready"}]},
        answer | {"decisions": [decision | {"reasons": ["because"]}]},
        answer | {"decisions": [decision | {"quantity": -1}]},
    ]
    assert SCHEMA.is_valid(answer)
    assert [SCHEMA.is_valid(one) for one in spoilt] == [False] * len(spoilt)


def test_every_case_has_a_name_of_its_own_and_its_source() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert all(case.source and case.says.endswith(".") for case in CASES)


def test_every_row_of_the_worked_cases_is_here() -> None:
    rows = {1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 14, 17, 18, 19, 20, 22, 24, 25, 30, 31, 32, 35, 37, 38, 39, 40}
    rows |= {42, 43, 46, 47, 48, 49, 51, 52, 53, 54, 55, 57}
    told = {int(row) for case in CASES for row in re.findall(r"worked case (\d+)", case.source)}
    assert rows <= told


RULE_ID = re.compile(r"\bR\d(?:\.\d+)?(?:-[a-z0-9]+)*\b|\bD\d+\b")


def test_every_rule_has_a_case_that_names_it() -> None:
    tables = load_tables()
    rules = {entry.id for entry in tables.register if entry.how != "proposed"}
    rules |= {f"R1.1-{code}" for code in tables.codes} | {f"R6-{payer}" for payer in tables.payers}
    named = {found for case in CASES for found in RULE_ID.findall(case.source)}
    assert sorted(rules - named) == []


def test_the_register_holds_every_rule_once_with_known_sources_and_settings() -> None:
    tables = load_tables()
    ids = [entry.id for entry in tables.register]
    assert len(ids) == len(set(ids))
    last = max(code.covers_to for code in tables.codes.values())
    for entry in tables.register:
        assert set(entry.sources) <= set(tables.sources), entry.id
        assert entry.setting is None or entry.setting in tables.settings, entry.id
        assert entry.last_checked <= last, entry.id


def test_every_error_seen_elsewhere_is_a_case_of_that_name() -> None:
    named = {case.name for case in CASES if case.name.startswith("error: ")}
    assert named == {
        "error: the UTC day for the local day",
        "error: a first window of 31 days",
        "error: minutes over thirty days instead of the calendar month",
        "error: a management code without a conversation",
        "error: days used in two windows",
        "error: respiratory and musculoskeletal codes swapped",
        "error: log-ins counted as days",
        "error: a patient lost after success",
        "error: typed-in vitals counted for RPM",
        "error: hospital monitors counted as home devices",
        "error: a telehealth visit billed twice",
    }
