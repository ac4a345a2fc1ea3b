"""Whatever an EHR answers, the app's parsers come to an end, in bounded memory, and lose nothing in silence.

The fuzzing begins from valid documents and counts how many of the spoilt ones still reach the parser behind
the first door; `FUZZ_EXAMPLES` says how many are tried.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappings.local_time import LocalClock
from launch.http import Response
from smartapp.ehr.charges.present import carries
from smartapp.ehr.reading.display import banner, choices, decode
from smartapp.ehr.reading.seen import Names
from smartapp.ehr.reading.seen import seen as told
from smartapp.ehr.wire.bundles import MOST_ENTRIES, NotAPage, declared, outcome_text, search_page
from smartapp.ehr.wire.capability import Capability, parse_capability
from smartapp.ehr.wire.json_guard import DEEPEST, Unreadable, decoded, decoded_whole, elements, weighed
from smartapp.ehr.wire.looks import look, version_of
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.ehr.wire.sending import id_of_created
from tests.launch.magnitudes import MAGNITUDES, written

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
BASE = "https://ehr.example/fhir"
CLOCK = LocalClock(ZoneInfo("America/New_York"))
US = {"reference": "Patient/p1"}


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def page_of(*entries: bytes) -> bytes:
    return b'{"resourceType": "Bundle", "entry": [' + b",".join(entries) + b"]}"


GOOD = (
    b'{"fullUrl": "https://ehr.example/fhir/Condition/c1",'
    b' "resource": {"resourceType": "Condition", "id": "c1"}}'
)


# What is too deep, too large, or no list


def test_sixty_four_levels_are_read_and_sixty_five_are_not() -> None:
    assert decoded(nested(DEEPEST)) is not None
    with pytest.raises(Unreadable, match="nested too deeply"):
        decoded(nested(DEEPEST + 1))


def test_brackets_in_texts_are_no_levels() -> None:
    value = {"x": "[" * 500 + '\\"{' * 50, "y": ['"[']}
    assert decoded(json.dumps(value).encode()) == value


def test_a_resource_of_very_many_parts_is_not_taken_apart() -> None:
    with pytest.raises(Unreadable, match="of too many parts"):
        weighed(b"[" + b"{}," * 200_000 + b"{}]")
    with pytest.raises(Unreadable, match="too large"):
        weighed(b'"' + b"x" * 5_000_000 + b'"')


@pytest.mark.parametrize("levels", [65, 900, 3000, 100_000])
def test_one_entry_nested_too_deeply_is_told_and_the_others_are_read(levels: int) -> None:
    deep = b'{"resource": {"resourceType": "Condition", "id": "deep", "x": ' + nested(levels) + b"}}"
    first, second, third = search_page(page_of(GOOD, deep, GOOD)).entries
    assert (first.problem, third.problem) == ("", "")
    assert look(third.resource).reference == "Condition/c1"
    assert second.problem


@pytest.mark.parametrize("bad", [b"5", b'"text"', b"[]", b"true", b"[[1]]"])
def test_one_entry_that_is_no_object_is_told_and_the_others_are_read(bad: bytes) -> None:
    entries = search_page(page_of(GOOD, bad, GOOD)).entries
    assert [bool(entry.problem) for entry in entries] == [False, True, False]


@pytest.mark.parametrize("full_url", ["5", "[]", "{}", "null"])
def test_an_odd_full_url_costs_nothing_but_the_full_url(full_url: str) -> None:
    entry = f'{{"fullUrl": {full_url}, "search": {full_url}, "resource": {{"resourceType": "X", "id": "1"}}}}'
    (found,) = search_page(page_of(entry.encode())).entries
    assert (found.fullUrl, found.search, found.problem) == (None, None, "")
    assert look(found.resource).reference == "X/1"


def test_a_next_link_that_cannot_be_read_is_told_because_pages_may_be_missing() -> None:
    for links in (
        '[{"relation": "next", "url": 5}]',
        "5",
        "{}",
        '["x"]',
        '[{"relation": "next", "url": {}}]',
    ):
        page = search_page(f'{{"resourceType": "Bundle", "link": {links}}}'.encode())
        assert page.next_url is None
        assert page.cut_off == "the link to the next page cannot be read"
    harmless = search_page(b'{"resourceType": "Bundle", "link": [{"relation": "self", "url": 5}]}')
    assert (harmless.next_url, harmless.cut_off) == (None, "")


def test_entries_that_are_no_list_are_told() -> None:
    assert search_page(b'{"resourceType": "Bundle", "entry": {"resource": {}}}').cut_off
    assert search_page(b'{"resourceType": "Bundle", "entry": null}').cut_off == ""


def test_what_is_no_bundle_is_no_page_however_deep_it_is() -> None:
    for body in (
        b"",
        b"[]",
        b'{"resourceType": 5}',
        b'{"resourceType": "Bu',
        b"\xff",
        nested(3000),
        b"<html>",
    ):
        with pytest.raises(NotAPage):
            search_page(body)


def test_a_page_that_breaks_off_gives_what_came_whole_and_is_cut_off() -> None:
    for body in (page_of(GOOD, GOOD)[:-3], page_of(GOOD, nested(3000))[:-9], page_of(GOOD)[:-1]):
        page = search_page(body)
        assert look(page.entries[0].resource).reference == "Condition/c1"
        assert page.cut_off


@pytest.mark.parametrize("bad", [b'{"a": NaN}', rb'{"a": "\ud800"}', rb'{"a": "\q"}', b'{"a": 1e999}'])
def test_an_entry_that_is_no_json_loses_itself_and_not_its_page(bad: bytes) -> None:
    page = search_page(page_of(GOOD, b'{"resource": ' + bad + b"}", GOOD))
    assert [look(entry.resource).reference for entry in page.entries] == ["Condition/c1", "", "Condition/c1"]
    assert page.cut_off == ""


def test_a_text_that_never_ends_costs_no_more_than_its_length() -> None:
    begun = time.process_time()
    with pytest.raises(Unreadable):
        weighed(b"[" * 70 + b'"' + b'\\"' * 1_000_000)
    assert time.process_time() - begun < 5


def test_a_page_of_more_entries_than_anybody_asks_for_is_cut_off_and_told() -> None:
    few, many = b",".join([GOOD] * 10), b",".join([GOOD] * (MOST_ENTRIES + 1))
    assert search_page(page_of(few)).cut_off == ""
    page = search_page(page_of(many))
    assert len(page.entries) == MOST_ENTRIES
    assert page.cut_off


def test_a_list_is_cut_into_the_same_elements_however_long_it_is() -> None:
    parts = [b'{"a": [1, {"b": "],[\\\\\\","}]}', b'"x,y"', b"[[],[]]", b"5", b"null", b"{}"]
    array = b"[" + b" , ".join(parts * 60_000) + b"]"
    found, more = elements(array, 7)
    assert [bytes(part) for part in found] == [*parts, parts[0]]
    assert more
    short, more = elements(b"[" + b",".join(parts) + b"]", 7)
    assert [bytes(part) for part in short] == parts
    assert not more


FILLERS = {"objects": b"{},", "numbers": b"1,", "lists": b"[],", "texts": b'"a",'}
HIGH_WATER = """
import re, sys
def most():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
PARSING = """
from smartapp.ehr.wire.bundles import declared, outcome_text, search_page
body = open(sys.argv[1], "rb").read()
before = most()
outcome_text(body) if b"OperationOutcome" in body[:40] else search_page(body)
declared(body, "ChargeItem")
print((most() - before) // 1024)
"""
READING = """
from tests.smartapp.test_reader import FakeEhr, NEEDS, Response, reading
class Poisoned(FakeEhr):
    def fhir(self, method, target, **more):
        return Response(200, {}, open(sys.argv[1], "rb").read(), target, "ehr.example", "r1")
run = reading(Poisoned(None), byte_limit=10**9)
before = most()
run.read_rest(NEEDS, lambda _: None)
assert any(notice.what == "Observation" for notice in run.notices())
print((most() - before) // 1024)
"""


def poisoned(folder: Path, filler: str, where: str) -> Path:
    """Sixteen megabytes of one element, in a file: making them here must not count."""
    few = FILLERS[filler]
    array = b"[" + few * (16_000_000 // len(few)) + few[:-1] + b"]"
    if where == "subject":
        where, array = "entry", b'[{"resource": {"resourceType": "X", "subject": ' + array + b"}}]"
    type_ = b"OperationOutcome" if where == "issue" else b"Bundle"
    path = folder / "body.json"
    path.write_bytes(b'{"resourceType": "' + type_ + b'", "' + where.encode() + b'": ' + array + b"}")
    return path


def megabytes(program: str, body: Path) -> int:
    """Resident memory that a process of its own takes for it, at most, beside what it began with."""
    done = subprocess.run(
        [sys.executable, "-c", HIGH_WATER + program, str(body)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout)


WORST_SUBJECT = ("subject", "lists")
"""Of what can stand in a resource; the others are quicker and smaller."""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak there")


@needs_proc
@pytest.mark.parametrize(
    ("where", "filler"),
    [*((where, filler) for where in ("entry", "link", "issue", "rest") for filler in FILLERS), WORST_SUBJECT],
)
def test_a_poisoned_answer_of_sixteen_megabytes_takes_little_more_than_itself(
    tmp_path: Path, filler: str, where: str
) -> None:
    assert megabytes(PARSING, poisoned(tmp_path, filler, where)) < 80


@needs_proc
def test_poisoned_pages_four_at_a_time_take_less_than_a_hundred_and_fifty_megabytes(tmp_path: Path) -> None:
    assert megabytes(READING, poisoned(tmp_path, "objects", "entry")) < 150


# What a server says of itself and of an answer


@pytest.mark.parametrize(
    "issue", [5, True, "x", {}, [5], [[]], [{"details": 5}], [{"diagnostics": {}}], None]
)
def test_an_operation_outcome_of_odd_shape_says_nothing_and_stops_nothing(issue: object) -> None:
    body = json.dumps({"resourceType": "OperationOutcome", "issue": issue}).encode()
    assert outcome_text(body) == ""


def test_an_outcome_with_one_odd_issue_says_what_the_others_say() -> None:
    body = {
        "resourceType": "OperationOutcome",
        "issue": [5, {"diagnostics": "no", "code": []}, {"code": "x"}],
    }
    assert outcome_text(json.dumps(body).encode()) == "no; x"


def statement(**declares: object) -> bytes:
    resource = {"type": "ChargeItem", "conditionalCreate": True, **declares}
    return json.dumps({"rest": [5, {"resource": [[], {"type": []}, resource]}]}).encode()


@pytest.mark.parametrize(
    "odd",
    [{"interaction": [{"code": []}]}, {"searchParam": [{"name": {}}]}, {"interaction": 5}, {"type": []}],
)
def test_a_capability_statement_of_odd_shape_declares_what_can_be_read(odd: dict[str, object]) -> None:
    assert parse_capability(statement(**odd)).create is False
    good = {"interaction": [5, {"code": "create"}, {"code": []}], "searchParam": [{"name": "identifier"}]}
    found = parse_capability(statement(**good))
    assert replace(found, types={}) == Capability(create=True, conditional_create=True)
    assert found.creates("ChargeItem")


def test_metadata_that_is_nested_too_deeply_declares_nothing() -> None:
    for levels in (900, 3000, 100_000):
        assert parse_capability(b'{"x": ' + nested(levels) + b"}") == Capability()
        assert (
            parse_capability(b'{"rest": [{"resource": [{"type": ' + nested(levels) + b"}]}]}") == Capability()
        )


# Fuzzing


PAGE: dict[str, Any] = {
    "resourceType": "Bundle",
    "type": "searchset",
    "total": 3,
    "link": [
        {"relation": "self", "url": "x"},
        {"relation": "next", "url": "https://ehr.example/fhir?page=2"},
    ],
    "entry": [
        {
            "fullUrl": "https://ehr.example/fhir/Encounter/e1",
            "search": {"mode": "match"},
            "resource": {
                "resourceType": "Encounter",
                "id": "e1",
                "meta": {"versionId": "3"},
                "status": "finished",
                "class": {"code": "VR"},
                "type": [{"text": "call", "coding": [{"system": "s", "code": "c", "display": "d"}]}],
                "subject": {"reference": "Patient/p1"},
                "participant": [{"individual": {"reference": "Practitioner/d1"}}],
                "period": {"start": "2026-03-01T10:00:00Z", "end": "2026-03-01T10:20:00Z"},
            },
        },
        {
            "resource": {
                "resourceType": "Account",
                "id": "a1",
                "status": "active",
                "name": "billing",
                "subject": [{"reference": "Patient/p1"}],
            }
        },
        {
            "resource": {
                "resourceType": "Patient",
                "id": "p1",
                "name": [{"use": "official", "given": ["A"], "family": "B"}],
                "identifier": [{"type": {"coding": [{"code": "MR"}]}, "value": "7"}],
            }
        },
        {
            "resource": {
                "resourceType": "Condition",
                "id": "c1",
                "clinicalStatus": {"coding": [{"code": "active"}]},
                "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "M17"}]},
                "subject": {"reference": "Patient/p1"},
            }
        },
        {
            "resource": {
                "resourceType": "Observation",
                "id": "o1",
                "subject": {"reference": "Patient/p1"},
                "device": {"reference": "Device/d1"},
                "effectivePeriod": {"start": "2026-03-01"},
                "valueQuantity": {"value": 5, "unit": "kg"},
                "component": [{"valueString": "x"}],
            }
        },
        {
            "resource": {
                "resourceType": "Coverage",
                "id": "v1",
                "status": "active",
                "payor": [{"display": "payor"}],
                "beneficiary": {"reference": "Patient/p1"},
            }
        },
        {
            "resource": {
                "resourceType": "ChargeItem",
                "id": "i1",
                "identifier": [{"system": "s", "value": "v"}],
                "status": "planned",
                "subject": {"reference": "Patient/p1"},
            }
        },
        {
            "search": {"mode": "outcome"},
            "resource": {
                "resourceType": "OperationOutcome",
                "issue": [{"severity": "error", "code": "x", "details": {"text": "t"}, "diagnostics": "d"}],
            },
        },
    ],
}
STATEMENT: dict[str, Any] = {
    "resourceType": "CapabilityStatement",
    "rest": [
        {
            "mode": "server",
            "resource": [
                {"type": "Patient", "interaction": [{"code": "read"}]},
                {
                    "type": "ChargeItem",
                    "interaction": [{"code": "create"}, {"code": "search-type"}],
                    "searchParam": [{"name": "identifier", "type": "token"}],
                    "conditionalCreate": True,
                    "updateCreate": False,
                },
            ],
        }
    ],
}
ODD: st.SearchStrategy[Any] = (
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=5,
    )
    | MAGNITUDES
    | st.sampled_from([{"reference": "Patient/p2"}, [{"reference": "Patient/p2"}], "Patient/p2"])
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document where something could stand that should not."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


@st.composite
def spoilt(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """A valid document with one to four odd values in it."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(sorted(places(found), key=str) or [("x",)]))
        holder: Any = found
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = copy.deepcopy(draw(ODD))
    return written(found)


def test_any_answer_to_a_search_is_read_entry_by_entry() -> None:
    reached = Counter[str]()

    @given(spoilt(PAGE))
    @fuzz
    def spoil(body: bytes) -> None:
        reached["tried"] += 1
        try:
            page = search_page(body)
        except NotAPage:
            return
        reached["pages"] += 1
        chosen = []
        for entry in page.entries:
            raw = bytes(entry.resource)
            seen = look(raw)
            whose = seen.whose("p1", BASE)
            if b"Patient/p2" in raw and whose is Whose.OURS:
                assert not any("Patient/p2" in json.dumps(value) for value in seen.about)
            assert isinstance(version_of(seen, raw), str)
            resource = decode(raw)
            reached["resources"] += bool(resource)
            assert isinstance(told(resource, CLOCK, Names()).value, str)
            banner(resource)
            carries(resource, "s|v")
            outcome_text(raw)
            chosen.append(resource)
        reached["choices"] += len(choices(chosen).conditions) > 0

    spoil()
    assert reached["pages"] > 0.3 * reached["tried"]
    assert reached["resources"] > reached["tried"]
    assert reached["choices"] > 0.1 * reached["tried"]


def test_any_answer_to_a_write_gives_an_id_or_none() -> None:
    reached = Counter[bool]()

    @given(spoilt(PAGE["entry"][6]["resource"]))
    @fuzz
    def spoil(body: bytes) -> None:
        found = id_of_created(Response(201, {}, body, "u", "h", "r"), "ChargeItem")
        reached[found == "i1"] += 1

    spoil()
    assert reached[True] > reached[False] / 20, "too little of it reached the parser"


def test_any_capability_statement_declares_something_or_nothing() -> None:
    reached = Counter[bool]()

    @given(spoilt(STATEMENT))
    @fuzz
    def spoil(body: bytes) -> None:
        reached[parse_capability(body).create] += 1
        declared(body, "Encounter")

    spoil()
    assert reached[True] > reached[False] / 20, "too little of it reached the parser"


def test_any_operation_outcome_is_one_short_plain_line() -> None:
    reached = Counter[bool]()

    @given(spoilt(PAGE["entry"][7]["resource"]))
    @fuzz
    def spoil(body: bytes) -> None:
        said = outcome_text(body)
        assert said.isprintable()
        assert len(said) <= 300
        reached[bool(said)] += 1

    spoil()
    assert reached[True] > reached[False] / 20, "too little of it reached the parser"


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\x1', max_size=60).map(str.encode))
@fuzz
def test_any_bytes_are_decoded_or_unreadable(body: bytes) -> None:
    for parse in (decoded, lambda text: elements(text, 3), lambda text: decoded_whole(text, dict)):
        try:
            parse(body)
        except Unreadable:
            continue
