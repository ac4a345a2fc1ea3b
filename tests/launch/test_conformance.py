"""docs/conformance.md says what the tests show: complete, and not a day older than they are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from tests.conformance import ROOT, Shown, exists, gaps, read_words, render


@pytest.fixture
def words() -> dict[str, Any]:
    return {
        "requirements": {
            1: {"level": "SHALL", "met": "so"},
            2: {"level": "SHALL NOT", "not_applicable": "because"},
            3: {"level": "SHOULD", "met": "so"},
        },
        "threats": {"5.1": {"title": "t", "met": "so"}},
    }


def shown(smart: dict[int, list[str]], threat: dict[str, list[str]]) -> Shown:
    return Shown(smart, threat)


TEST = "tests/launch/test_conformance.py::test_a_complete_list_has_no_gaps"


def test_the_page_is_complete_and_fresh():
    """In a process of its own: collecting inside a running pytest would disturb it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_complete_list_has_no_gaps(words):
    assert gaps(words, shown({1: [TEST]}, {"5.1": [TEST]})) == []


def test_a_shall_without_a_test_or_a_reason_is_a_gap(words):
    assert gaps(words, shown({}, {"5.1": [TEST]})) == [
        "requirement 1 (SHALL) has neither a test nor a reason"
    ]
    del words["requirements"][2]["not_applicable"]
    assert gaps(words, shown({1: [TEST]}, {"5.1": [TEST]})) == [
        "requirement 2 needs either `met` or `not_applicable`",
        "requirement 2 (SHALL NOT) has neither a test nor a reason",
    ]


def test_a_test_that_is_marked_is_named_nowhere_else(words):
    words["threats"]["5.1"]["also"] = [TEST]
    assert gaps(words, shown({1: [TEST]}, {"5.1": [TEST]})) == [
        f"{TEST} shows 5.1 by its mark already: `also` need not name it"
    ]


def test_a_marker_with_an_unknown_number_is_a_gap(words):
    found = gaps(words, shown({1: [TEST], 99: [TEST]}, {"5.1": [TEST], "5.99": [TEST]}))
    assert found == [
        f"requirement 99 is marked at {TEST} but not in the list",
        f"threat 5.99 is marked at {TEST} but not in the list",
    ]


def test_a_threat_needs_a_test_and_a_test_that_is_named_must_be_there(words):
    assert gaps(words, shown({1: [TEST]}, {})) == ["threat 5.1 has no test"]
    words["threats"]["5.1"]["also"] = [TEST, "tests/nowhere.py::test_x", f"{TEST}_at_all"]
    assert gaps(words, shown({1: [TEST]}, {})) == [
        "threat 5.1: there is no tests/nowhere.py::test_x",
        f"threat 5.1: there is no {TEST}_at_all",
    ]
    assert exists(TEST)


def test_the_page_names_the_tests_and_counts_them(words):
    page = render(words, shown({1: [TEST]}, {"5.1": [TEST]}))
    link = "[test_conformance](../tests/launch/test_conformance.py): a complete list has no gaps"
    assert f"| 1 | SHALL | so | {link} |" in page
    assert "| 2 | SHALL NOT | not applicable: because |  |" in page
    assert f"| 5.1 | t | so | {link} |" in page
    assert "| SHALL | 1 | 1 | 0 | 0 |" in page


def test_the_list_is_the_whole_census():
    levels = [entry["level"] for entry in read_words()["requirements"].values()]
    assert {level: levels.count(level) for level in set(levels)} == {
        "SHALL": 115,
        "SHALL NOT": 6,
        "SHOULD": 25,
        "SHOULD NOT": 3,
        "MAY": 15,
    }
    assert list(read_words()["threats"]) == [f"5.{row}" for row in range(1, 18)]
