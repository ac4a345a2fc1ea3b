"""What is broken loses itself and nothing beside it, and its absence is told for what it may have been.

`FUZZ_EXAMPLES` says how many Bundles are spoilt (`make fuzz`: many).
"""

from __future__ import annotations

import json
import os
import time
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_mappings.completeness import Missing, MissingWhy
from fhir_mappings.local_time import LocalClock
from fhir_mappings.resources import Coding, Reference
from fhir_mappings.salvage import Salvaged, entries_of, members_of, missing_of, salvaged
from fhir_mappings.terminology import Terminology, load_terminology

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "80"))
fuzz = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
TERMINOLOGY = load_terminology()
CLOCK = LocalClock(ZoneInfo("America/New_York"))
LOINC = "http://loinc.org"
NOT_JSON = [
    b'{"value": NaN}',
    b'{"value": -Infinity}',
    rb'{"text": "\ud800"}',
    rb'{"text": "\q"}',
    rb'{"text": "\u12G4"}',
    b'{"text": "a\nb"}',
    b'{"text": "\xff"}',
    b'{"value": 01}',
    b'{"value": 1e999}',
    b'{"value": 1' + b"0" * 5000 + b"}",
    b'{"value": 1,}',
    b'{"value" 1}',
    b"{value: 1}",
    b'{"value": undefined}',
    b'{"deep": ' + b"[" * 5000 + b"]" * 5000 + b"}",
]
GOOD = b'{"resource": {"resourceType": "Observation", "id": "o1", "note": "a \\" ] } , b"}}'


def bundle(*entries: bytes, tail: bytes = b"]}") -> bytes:
    return b'{"resourceType": "Bundle", "link": [], "entry": [' + b", ".join(entries) + tail


def broken(**elements: Any) -> bytes:
    """An Observation with an element that no decoder takes."""
    resource = {"resourceType": "Observation", "id": "o9", **elements}
    return json.dumps(resource).encode()[:-1] + b', "valueQuantity": {"value": NaN}}'


# Taking apart


@pytest.mark.parametrize("bad", NOT_JSON)
def test_one_entry_that_is_no_json_loses_itself_and_not_its_page(bad: bytes) -> None:
    found = entries_of(bundle(GOOD, bad, GOOD))
    assert found.entries == (GOOD, bad, GOOD)
    assert found.whole
    assert found.members == {"resourceType": b'"Bundle"', "link": b"[]"}


def test_a_page_that_breaks_off_gives_what_came_whole_and_says_so() -> None:
    for tail in (b', {"resource": {"id": "o', b', {"resource": "', b",", b"", b"]"):
        found = entries_of(bundle(GOOD, GOOD, tail=tail))
        # The last one before a break may have been going on.
        assert found.entries in ((GOOD, GOOD), (GOOD,))
        assert not found.whole


@pytest.mark.parametrize("entry", [b'{"a": 1}}', b'{"a": {"b": 1}', b'{"a": "5" tall"}', b'{"a": [1}'])
def test_brackets_or_quotes_that_do_not_match_are_never_taken_for_a_whole_page(entry: bytes) -> None:
    found = entries_of(bundle(GOOD, entry, GOOD))
    assert found.entries[0] == GOOD
    assert not found.whole or any(not salvaged(one).one for one in found.entries)


def test_what_is_no_bundle_has_no_entries() -> None:
    for text in (b"", b"[]", b'"x"', b"<html>", b"null", b"5"):
        assert entries_of(text) == entries_of(b"")
    assert not entries_of(b'{"entry": 5}').whole
    assert entries_of(b'{"entry": null}').whole
    assert entries_of(b'\xef\xbb\xbf {"entry": []}').whole


def test_at_most_so_many_entries_are_taken() -> None:
    found = entries_of(bundle(*[GOOD] * 10), most=3)
    assert (len(found.entries), found.whole) == (3, False)


@fuzz
@given(
    st.lists(
        st.recursive(
            st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=6,
    ),
    st.booleans(),
)
def test_of_json_the_entries_are_those_of_the_decoder(entries: list[Any], in_ascii: bool) -> None:
    text = json.dumps({"a": 1, "entry": entries, "b": {}}, ensure_ascii=in_ascii).encode()
    found = entries_of(text)
    assert [msgspec.json.decode(one) for one in found.entries] == entries
    assert found.whole
    assert set(found.members) == {"a", "b"}


@fuzz
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b'{"entry": [', b'{"resource": ', b'{"code": {"coding": [']),
)
def test_no_bytes_raise(text: bytes, before: bytes) -> None:
    found = entries_of(before + text)
    assert all(entry and entry in text for entry in found.entries)
    members_of(before + text)
    salvaged(before + text)
    missing_of(salvaged(before + text), "Observation", TERMINOLOGY, CLOCK)


@fuzz
@given(st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_a_spoilt_bundle_never_gives_an_entry_that_it_did_not_hold(at: int, junk: bytes) -> None:
    text = bundle(*(GOOD.replace(b"o1", f"o{n}".encode()) for n in range(5)))
    spoilt = text[: at % len(text)] + junk + text[at % len(text) :]
    found = entries_of(spoilt)
    good = [one for one in found.entries if _decodes(one)]
    # Each good entry is still there, or the loss is told: a broken one, or a page that is not whole.
    assert len(good) >= 5 or not found.whole or len(good) < len(found.entries) or _decodes(spoilt)


def _decodes(text: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(text), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


@pytest.mark.parametrize(
    "text",
    [
        b'{"entry": [' + b'"' + b'\\"' * 500_000,
        b'{"entry": ' + b"[" * 1_000_000,
        b'{"entry": [' + b"{}," * 300_000,
        b" " * 1_000_000,
        b'{"entry": [{"x": "' + b"\\" * 1_000_001,
    ],
)
def test_hostile_bytes_cost_no_more_than_their_length(text: bytes) -> None:
    begun = time.process_time()
    entries_of(text)
    salvaged(text)
    assert time.process_time() - begun < 5


# What a broken resource still says


def test_a_broken_reading_still_says_what_it_is_of_whom_and_when() -> None:
    text = broken(
        status="final",
        subject={"reference": "Patient/p1"},
        code={"coding": [{"system": LOINC, "code": "85354-9"}]},
        effectiveDateTime="2026-03-05T23:30:00-05:00",
        meta={"lastUpdated": "2026-03-07T00:00:00Z"},
    )
    expected = Salvaged(
        "Observation",
        "o9",
        Reference("Patient/p1"),
        (Coding(LOINC, "85354-9"),),
        "2026-03-05T23:30:00-05:00",
        "2026-03-05T23:30:00-05:00",
        "2026-03-07T00:00:00Z",
        "final",
        True,
    )
    assert salvaged(text) == expected
    assert salvaged(b'{"fullUrl": "urn:x", "resource": ' + text + b"}") == expected


def test_a_half_character_in_a_display_spoils_no_coding() -> None:
    text = (
        rb'{"resourceType": "Observation", "code": {"coding": [{"system": "http://loinc.org",'
        rb' "code": "1-8", "display": "\ud800"}], "text": "\q"}}'
    )
    assert salvaged(text).codings == (Coding(LOINC, "1-8"),)


@pytest.mark.parametrize("code", [rb"\ud800", rb"85354\q9", b"85354\xff9"])
def test_a_coding_that_is_not_certain_is_none(code: bytes) -> None:
    text = b'{"resourceType": "Observation", "code": {"coding": [{"system": "x", "code": "' + code + b'"}]}}'
    assert salvaged(text).codings == ()


def test_of_a_piece_of_a_resource_no_coding_is_believed() -> None:
    text = broken(code={"coding": [{"system": LOINC, "code": "2345-7"}]})
    assert salvaged(text).codings
    assert salvaged(text[:-1]).codings == ()
    assert salvaged(text[:-1]).type == "Observation"
    assert salvaged(b'"resourceType": "Observation", "resourceType": "Device"').type == ""


@pytest.mark.parametrize("text", [b"5", b'"text"', b"[]", b'{"resource": 7}', b'{"value": NaN}'])
def test_what_is_no_resource_is_one_record_all_the_same(text: bytes) -> None:
    assert salvaged(text).one


# What is missing for it


def missing(text: bytes, type_: str = "Observation", **more: Any) -> Missing | None:
    return missing_of(salvaged(text), type_, TERMINOLOGY, CLOCK, **more)


def one(type_: str, start: date | None = None, end: date | None = None, entries: int = 1) -> Missing:
    return Missing(type_, MissingWhy.UNREADABLE, start, end, entries, "an entry that cannot be read")


DAY = date(2026, 3, 5)
DECLARED = {"coding": [{"system": LOINC, "code": "85354-9"}]}


def test_a_broken_reading_of_a_declared_coding_may_be_its_own_day() -> None:
    assert missing(broken(code=DECLARED, effectiveDateTime="2026-03-05T08:00:00-05:00")) == one(
        "Observation", DAY, DAY
    )
    assert missing(broken(effectivePeriod={"start": "2026-03-06T01:00:00Z"})) == one("Observation", DAY, DAY)
    assert missing(broken(effectiveTiming={"event": ["2026-03-05", "2026-03-07"]})) == one(
        "Observation", DAY, date(2026, 3, 7)
    )


def test_a_broken_laboratory_result_is_nothing() -> None:
    assert missing(broken(code={"coding": [{"system": LOINC, "code": "2345-7"}]})) is None
    both = {"coding": [{"system": LOINC, "code": "2345-7"}, {"system": LOINC, "code": "85354-9"}]}
    assert missing(broken(code=both)) is not None


def test_without_a_day_it_may_be_any_up_to_its_last_change() -> None:
    text = broken(meta={"lastUpdated": "2026-03-06T01:00:00Z"}, effectiveDateTime="2026-03")
    assert missing(text) == one("Observation", None, DAY)
    searched = (date(2026, 1, 1), date(2026, 2, 1))
    assert missing(text, within=searched) == one("Observation", *searched)
    assert missing(broken()) == one("Observation")


def test_what_never_counts_is_not_missed() -> None:
    assert missing(broken(status="entered-in-error")) is None
    assert missing(broken(status="final")) is not None
    assert missing(b'{"resourceType": "Practitioner", "name": "\\ud800"}') == one("Practitioner")
    assert missing(b'{"resourceType": "Immunization", "x": NaN}') is None


def test_a_broken_visit_speaks_of_its_days_and_an_endless_one_of_all_that_follow() -> None:
    period = b'"period": {"start": "2026-03-05T08:00:00-05:00"'
    text = b'{"resourceType": "Encounter", "x": NaN, ' + period
    assert missing(text + b', "end": "2026-03-05T09:00:00-05:00"}}') == one("Encounter", DAY, DAY)
    assert missing(text + b"}}") == one("Encounter", DAY)


def test_what_names_no_type_has_that_of_its_search_or_none() -> None:
    assert missing(b'{"x": NaN}', "ChargeItem") == one("ChargeItem")
    assert missing(b'{"x": NaN}', "") == one("")


def test_a_piece_of_nobody_knows_how_many_entries_says_no_day_and_no_number() -> None:
    text = broken(effectiveDateTime="2026-03-05", code={"coding": [{"system": LOINC, "code": "2345-7"}]})
    assert missing(text[:-1]) == one("Observation", entries=0)


def test_a_coding_that_a_site_declares_is_missed(terminology: Terminology) -> None:
    text = broken(code={"coding": [{"system": "urn:clinic:flowsheet", "code": "HEP"}]})
    assert missing(text) is None
    assert missing_of(salvaged(text), "Observation", terminology, CLOCK) == one("Observation")
