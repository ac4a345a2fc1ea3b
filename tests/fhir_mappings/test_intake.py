"""What comes in: versions and deletions (D27), pages and answers that are not whole (D20), people (D30)."""

from __future__ import annotations

import json
from datetime import date
from itertools import permutations
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import MissingWhy
from fhir_mappings.record import PatientRecord

BASE = "https://ehr.example/fhir"


def reading(id: str = "o1", day: str = "2026-03-05", **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": f"{day}T08:00:00-05:00",
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                "valueQuantity": {"value": 120, "unit": "mm[Hg]"},
            }
        ],
        "device": {"reference": "Device/cuff"},
        **changes,
    }


CUFF = {
    "resourceType": "Device",
    "id": "cuff",
    "type": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "528391"}]},
    "patient": {"reference": "Patient/p1"},
}
PATIENT = {"resourceType": "Patient", "id": "p1"}


def charge(status: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": status,
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99454"}]},
        "subject": {"reference": "Patient/p1"},
        "occurrencePeriod": {"start": "2026-02-01", "end": "2026-03-02"},
        **changes,
    }


def reasons(record: PatientRecord) -> dict[str, str]:
    return {entry.resource: str(entry.reason) for entry in record.excluded}


def bundle(*entries: dict[str, Any], **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [*entries], **elements}


def searchset(*resources: dict[str, Any], self: str = "", next: str = "") -> dict[str, Any]:
    links = [{"relation": "self", "url": self}] if self else []
    links += [{"relation": "next", "url": next}] if next else []
    return bundle(*({"resource": one} for one in resources), type="searchset", link=links)


# -- versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"versionId": "9"}, {"versionId": "10"}),
        ({"lastUpdated": "2026-03-06T10:00:00Z"}, {"lastUpdated": "2026-03-06T10:00:00.250Z"}),
        ({"lastUpdated": "2026-03-06T11:00:00+05:00"}, {"lastUpdated": "2026-03-06T07:00:00Z"}),
        # A number decides before the clock does.
        (
            {"versionId": "1", "lastUpdated": "2026-03-07T10:00:00Z"},
            {"versionId": "2", "lastUpdated": "2026-03-06T10:00:00Z"},
        ),
        # Where one has no number, the clock decides.
        (
            {"versionId": "abc", "lastUpdated": "2026-03-06T10:00:00Z"},
            {"versionId": "2", "lastUpdated": "2026-03-07T10:00:00Z"},
        ),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_versions_the_newer_stands_in_any_order(read, older, newer, reverse):
    versions = [reading(meta=older), reading(meta=newer, status="entered-in-error")]
    record = read(*(reversed(versions) if reverse else versions), CUFF)
    assert record.readings == ()
    versions = [reading(meta=older, status="entered-in-error"), reading(meta=newer)]
    record = read(*(reversed(versions) if reverse else versions), CUFF)
    assert [found.resource for found in record.readings] == ["Observation/o1"]


def test_three_versions_leave_one_in_every_order(read):
    versions = [
        reading(meta={"versionId": "1"}),
        reading(meta={"versionId": "2"}, status="entered-in-error"),
        reading(day="2026-03-07", meta={"versionId": "3"}),
    ]
    for order in permutations(versions):
        assert [found.day for found in read(*order, CUFF).readings] == [date(2026, 3, 7)]


@pytest.mark.parametrize("reverse", [False, True])
def test_where_neither_tells_a_reading_claims_less_and_a_charge_stands(read, reverse):
    given = [
        reading(),
        reading(status="entered-in-error"),
        charge("aborted"),
        charge("billed"),
        CUFF,
    ]
    record = read(*(reversed(given) if reverse else given))
    assert record.readings == ()
    assert [found.status for found in record.charges] == ["billed"]


LONG = {"start": "2026-03-04T08:00:00-05:00", "end": "2026-03-06T08:00:00-05:00"}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "other", [{"status": "entered-in-error"}, {"period": LONG | {"end": "2026-03-04T09:00:00-05:00"}}]
)
def test_where_neither_tells_a_stay_took_place_and_was_the_longer(read, reverse, other):
    stay = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p1"},
        "period": LONG,
    }
    given = [stay, stay | other]
    found = reasons(read(reading(), CUFF, *(reversed(given) if reverse else given)))
    assert found["Observation/o1"] == "in-facility"


@pytest.mark.parametrize("reverse", [False, True])
def test_where_neither_tells_a_call_was_the_shorter(read, reverse):
    call = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "type": [{"coding": [{"system": "urn:clinic:visit", "code": "CALL"}]}],
        "subject": {"reference": "Patient/p1"},
    }
    ends = ("2026-03-04T13:05:00Z", "2026-03-04T08:12:00-05:00")
    given = [call | {"period": {"start": "2026-03-04T08:00:00-05:00", "end": end}} for end in ends]
    (time,) = read(*(reversed(given) if reverse else given)).management
    assert time.end - time.start == 5 * 60 * 1_000_000


def test_versions_that_name_their_patient_in_two_ways_are_one_record(read):
    record = read(
        reading(meta={"versionId": "1"}),
        reading(
            meta={"versionId": "2"},
            status="entered-in-error",
            subject={"reference": f"{BASE}/Patient/p1"},
        ),
        CUFF,
        base=BASE,
    )
    assert record.readings == ()


def test_the_same_record_twice_counts_once(read):
    record = read(reading(), reading(), CUFF)
    assert len(record.readings) == 1
    assert reasons(record)["Observation/o1"] == "duplicate"


# -- deletions --------------------------------------------------------------------------------------------


def deletion(url: str, at: str | None = None) -> dict[str, Any]:
    response = {} if at is None else {"response": {"status": "204", "lastModified": at}}
    return {"request": {"method": "DELETE", "url": url}, **response}


@pytest.mark.parametrize("url", ["Observation/o1", f"{BASE}/Observation/o1", "Observation/o1/_history/2"])
@pytest.mark.parametrize("kind", ["history", "transaction", "collection"])
def test_what_was_deleted_is_gone_and_said_to_be(read, url, kind):
    record = read(reading(), CUFF, bundle(deletion(url), type=kind))
    assert record.readings == ()
    assert reasons(record)["Observation/o1"] == "deleted"


@pytest.mark.parametrize(
    "entry",
    [
        {"fullUrl": f"{BASE}/Observation/o1", "request": {"method": "DELETE"}},
        {"request": {"method": "delete", "url": "Observation/o1"}},
        {
            "request": {"method": "GET", "url": "Observation/o1/_history/2"},
            "response": {"status": "410 Gone", "outcome": {"resourceType": "OperationOutcome"}},
        },
        {"fullUrl": f"{BASE}/Observation/o1", "response": {"status": "410"}},
    ],
)
def test_a_record_that_a_server_answers_to_be_gone_was_deleted(read, entry):
    record = read(reading(), CUFF, bundle(entry, type="history"))
    assert record.readings == ()
    assert reasons(record)["Observation/o1"] == "deleted"
    assert record.completeness.whole


def test_an_answer_of_gone_to_nobody_knows_what_is_a_refused_request(read):
    record = read(reading(), CUFF, bundle({"response": {"status": "410"}}, type="batch-response"))
    assert len(record.readings) == 1
    assert record.completeness.lacks("")


def test_a_deletion_may_come_before_what_it_deletes(read):
    assert read(bundle(deletion("Observation/o1")), reading(), CUFF).readings == ()


@pytest.mark.parametrize(
    ("stored", "deleted", "counts"),
    [
        ("2026-03-06T10:00:00Z", "2026-03-07T10:00:00Z", 0),
        ("2026-03-08T10:00:00Z", "2026-03-07T10:00:00Z", 1),  # put back afterwards
        (None, "2026-03-07T10:00:00Z", 0),
        ("2026-03-08T10:00:00Z", None, 0),
    ],
)
def test_a_version_that_is_later_than_its_deletion_stands(read, stored, deleted, counts):
    meta = {} if stored is None else {"meta": {"lastUpdated": stored}}
    record = read(reading(**meta), CUFF, bundle(deletion("Observation/o1", deleted)))
    assert len(record.readings) == counts


@pytest.mark.parametrize(
    "elements", [{"timestamp": "2026-03-07T10:00:00Z"}, {"meta": {"lastUpdated": "2026-03-07T10:00:00Z"}}]
)
def test_a_deletion_without_a_date_has_that_of_its_bundle(read, elements):
    later = reading(meta={"lastUpdated": "2026-03-08T10:00:00Z"})
    assert len(read(later, CUFF, bundle(deletion("Observation/o1"), **elements)).readings) == 1


@pytest.mark.parametrize(
    ("stored", "deleted", "charges"),
    [(None, None, 1), ("2026-03-06T10:00:00Z", None, 1), ("2026-03-06T10:00:00Z", "2026-03-07T10:00:00Z", 0)],
)
def test_a_charge_is_gone_only_where_dates_say_so(read, stored, deleted, charges):
    meta = {} if stored is None else {"meta": {"lastUpdated": stored}}
    record = read(charge("billed", **meta), bundle(deletion("ChargeItem/c1", deleted)))
    assert len(record.charges) == charges


def test_a_deletion_that_names_no_record_leaves_the_rest_in_doubt(read):
    record = read(reading(), CUFF, bundle(deletion("Observation?identifier=x")))
    assert len(record.readings) == 1
    assert record.completeness.lacks("")


# -- pages and answers ------------------------------------------------------------------------------------

FIRST = f"{BASE}/Observation?patient=p1&date=ge2026-03-01&date=le2026-03-31"
SECOND = f"{BASE}?_getpages=1&_offset=2"


def missing(record: PatientRecord) -> list[tuple[str, str, str | None, str | None]]:
    return [
        (
            one.type,
            str(one.why),
            one.start and one.start.isoformat(),
            one.end and one.end.isoformat(),
        )
        for one in record.completeness.missing
    ]


def test_a_page_that_follows_and_is_not_here_is_cut_off_for_the_days_of_its_search(read):
    record = read(searchset(reading(), self=FIRST, next=SECOND), CUFF)
    assert missing(record) == [("Observation", "cut-off", "2026-03-01", "2026-03-31")]


@pytest.mark.parametrize("second", [SECOND, "https://other.example/fhir?_offset=2&_getpages=1"])
def test_a_page_that_is_here_is_not_missing_however_it_is_called(read, second):
    record = read(
        searchset(reading(), self=FIRST, next=SECOND),
        searchset(reading("o2", "2026-03-06"), self=second),
        CUFF,
    )
    assert record.completeness.whole
    assert len(record.readings) == 2


@pytest.mark.parametrize("address", ["http://[bad", "https://ehr.example/%zz?a=%zz", " ", "?"])
def test_an_address_that_is_none_breaks_nothing(read, address):
    assert len(read(searchset(reading(), self=address), CUFF).readings) == 1
    assert not read(searchset(reading(), self=FIRST, next=address), CUFF).completeness.whole


def test_an_answer_that_counts_more_than_it_holds_is_cut_off(read):
    short = {**searchset(reading(), self=FIRST), "total": 2}
    assert missing(read(short, CUFF)) == [("Observation", "cut-off", "2026-03-01", "2026-03-31")]


@pytest.mark.parametrize("total", [1, 0, None, "2"])
def test_an_answer_that_holds_what_it_counts_is_whole(read, total):
    assert read({**searchset(reading(), self=FIRST), "total": total}, CUFF).completeness.whole


def test_of_several_pages_none_counts_more_than_they_hold_together(read):
    first = {**searchset(reading(), self=FIRST, next=SECOND), "total": 2}
    last = {**searchset(reading("o2", "2026-03-06"), self=SECOND), "total": 2}
    assert read(first, last, CUFF).completeness.whole
    assert not read(last, CUFF).completeness.whole


def test_what_an_answer_brings_along_is_not_what_it_counts(read):
    short = {**searchset(reading(), self=FIRST), "total": 2}
    short["entry"].append({"resource": CUFF, "search": {"mode": "include"}})
    assert not read(short).completeness.whole


def test_what_a_server_says_beside_an_answer_may_be_counted_with_it(read):
    said = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "information", "code": "informational"}],
    }
    counted = {**searchset(reading(), self=FIRST), "total": 2}
    counted["entry"].append({"resource": said, "search": {"mode": "outcome"}})
    assert read(counted, CUFF).completeness.whole


def test_of_a_search_that_names_no_type_whatever_it_brought_may_follow(read):
    everything = f"{BASE}/Patient/p1/$everything"
    record = read(searchset(reading(), CUFF, PATIENT, self=everything, next=SECOND))
    assert {type_ for type_, *_ in missing(record)} == {"", "Device", "Observation", "Patient"}


def test_a_cut_off_search_for_another_patient_is_nothing_to_this_one(read):
    other = searchset(self=f"{BASE}/Observation?patient=p2", next=SECOND)
    assert read(reading(), CUFF, other).completeness.whole


@pytest.mark.parametrize(
    ("code", "whole"),
    [
        ("http://loinc.org|2160-0,http://loinc.org|718-7", True),  # laboratory: nobody declared them
        ("http%3A%2F%2Floinc.org%7C85354-9", False),
        ("http://loinc.org|2160-0,urn:oid:2.16.840.1.113883.6.1|85354-9", False),
        ("2160-0", False),  # of any system, a site's own included
    ],
)
def test_a_cut_off_search_by_code_lacks_what_could_count_of_its_codes(read, code, whole):
    cut_off = searchset(self=f"{BASE}/Observation?patient=p1&code={code}", next=SECOND)
    assert read(reading(), CUFF, cut_off).completeness.whole is whole


@pytest.mark.parametrize(
    ("issue", "whole"),
    [
        ({"severity": "error", "code": "processing"}, False),
        ({"severity": "fatal", "code": "exception"}, False),
        ({"severity": "warning", "code": "incomplete"}, False),
        ({"severity": "information", "code": "suppressed"}, True),
        ({"severity": "information", "code": "informational"}, True),
        ({"severity": "warning", "code": "not-supported"}, True),
    ],
)
def test_an_answer_that_says_itself_that_it_is_not_whole_is_believed(read, issue, whole):
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    record = read(searchset(reading(), outcome, self=FIRST), CUFF)
    assert record.completeness.whole is whole
    assert len(record.readings) == 1


def test_an_error_kept_where_an_answer_should_be_is_of_nobody_knows_what(read):
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "forbidden"}]}
    assert missing(read(outcome)) == [("", "refused", None, None)]


def test_a_refused_request_of_a_batch_is_told(read):
    answer = bundle(
        {"resource": reading(), "response": {"status": "200 OK"}},
        {"response": {"status": "403 Forbidden"}},
        type="batch-response",
    )
    record = read(answer, CUFF)
    assert len(record.readings) == 1
    assert ("", "refused", None, None) in missing(record)


def broken(resource: dict[str, Any]) -> str:
    return json.dumps(resource).replace('"broken"', "NaN")


@pytest.mark.parametrize("depth", [1, 2])
def test_a_page_within_an_answer_loses_but_the_entry_that_is_broken(read, depth):
    """A batch is answered with pages in its entries: what breaks one reading takes no charge away."""
    page = searchset(charge("billable"), reading("o1"), reading("o2", valueInteger="broken"))
    for _ in range(depth):
        page = bundle({"response": {"status": "200 OK"}, "resource": page}, type="batch-response")
    record = read(broken(page).encode())
    assert [one.code for one in record.charges] == ["99454"]
    assert [(one.type, one.why) for one in record.completeness.missing] == [
        ("Observation", MissingWhy.UNREADABLE)
    ]


def test_parameters_that_cannot_be_read_may_have_held_anything(read):
    parts = [{"name": "one", "resource": one} for one in (charge("billable"), reading(valueInteger="broken"))]
    record = read(broken({"resourceType": "Parameters", "parameter": parts}).encode())
    assert [(one.type, one.why) for one in record.completeness.missing] == [("", MissingWhy.UNREADABLE)]


@pytest.mark.parametrize("kind", ["Bundle", "Parameters", "broken"])
def test_what_lies_too_deep_in_documents_is_missing_and_never_silent(read, kind):
    charged = charge("billable", quantity={"value": "broken" if kind == "broken" else 1})
    for depth in (40, 300):
        document: dict[str, Any] = {**charged, "id": f"c{depth}"}
        for _ in range(depth):
            part = {"name": "one", "resource": document}
            document = (
                {"resourceType": "Parameters", "parameter": [part]}
                if kind == "Parameters"
                else bundle({"resource": document}, type="collection")
            )
        record = read(broken(document).encode())
        told = record.completeness.missing
        assert any(one.why is MissingWhy.UNREADABLE and one.type in ("", "ChargeItem") for one in told)


def test_an_entry_that_is_no_json_loses_itself_alone(read):
    good = [json.dumps({"resource": reading(f"o{n}", f"2026-03-{n:02}")}) for n in range(1, 10)]
    bad = good[3].replace("120", "NaN").replace('"o4"', '"o99"')
    entries = ", ".join([*good, bad])
    text = f'{{"resourceType": "Bundle", "type": "searchset", "entry": [{entries}]}}'
    record = read(text.encode(), CUFF)
    assert len(record.readings) == 9
    assert reasons(record)["Observation/o99"] == "unreadable"
    assert missing(record) == [("Observation", "unreadable", "2026-03-04", "2026-03-04")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, [("Observation", "unreadable", "2026-03-05", "2026-03-05")]),
        ({"effectiveDateTime": "soon"}, [("Observation", "unreadable", None, None)]),
        (
            {"effectiveDateTime": None, "meta": {"lastUpdated": "2026-03-09T10:00:00-05:00"}},
            [("Observation", "unreadable", None, "2026-03-09")],
        ),
        ({"code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]}}, []),
        ({"status": "entered-in-error"}, []),
    ],
)
def test_a_broken_reading_may_be_one_day_unless_its_coding_or_status_says_otherwise(read, changes, told):
    broken = {**reading(), "device": "the cuff", **changes}
    assert missing(read(broken, CUFF)) == told


def test_a_broken_record_of_somebody_else_is_nothing_to_this_patient(read):
    broken = {**reading(), "device": "the cuff", "subject": {"reference": "Patient/p2"}}
    assert read(broken).completeness.whole


def test_a_broken_patient_is_a_patient_all_the_same(chart):
    text = json.dumps({"resourceType": "Patient", "id": "p1", "name": [{"family": "X"}]}).replace(
        '"X"', '"\\ud800"'
    )
    found = chart(text.encode(), reading(), CUFF)
    assert found.patients() == ("Patient/p1",)
    assert len(found.record("Patient/p1").readings) == 1


# -- people -----------------------------------------------------------------------------------------------


def patient(id: str, **links: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id,
        "link": [
            {"type": kind.replace("_", "-"), "other": {"reference": f"Patient/{other}"}}
            for kind, other in links.items()
        ],
    }


def test_records_of_a_replaced_patient_count_under_the_surviving_one(chart):
    found = chart(patient("p1", replaced_by="p2"), patient("p2"), reading(), CUFF)
    assert found.patients() == ("Patient/p2",)
    assert len(found.record("Patient/p2").readings) == 1


def test_a_chain_is_followed_to_its_end(chart):
    found = chart(
        patient("p1", replaced_by="p2"), patient("p2", replaced_by="p3"), patient("p3"), reading(), CUFF
    )
    assert found.patients() == ("Patient/p3",)
    assert len(found.record("Patient/p3").readings) == 1


def test_without_the_surviving_one_nothing_is_decided(chart):
    found = chart(patient("p1", replaced_by="p2"), reading(), CUFF)
    record = found.record("Patient/p1")
    assert record.readings == ()
    assert reasons(record) == {"Patient/p1": "merged-patient"}


def test_two_that_replace_each_other_decide_nothing(chart):
    found = chart(patient("p1", replaced_by="p2"), patient("p2", replaced_by="p1"), reading(), CUFF)
    assert all(found.record(name).readings == () for name in found.patients())


def test_the_word_of_an_earlier_version_for_a_record_that_was_replaced_is_read(chart):
    found = chart(patient("p1", replace="p2"), patient("p2"), reading(), CUFF)
    assert found.patients() == ("Patient/p2",)
    assert len(found.record("Patient/p2").readings) == 1


def test_a_link_that_cannot_be_read_still_says_that_the_record_was_replaced(chart):
    broken = {"resourceType": "Patient", "id": "p1", "link": [{"type": "replaced-by", "other": "p2"}]}
    assert reasons(chart(broken, reading()).record("Patient/p1")) == {"Patient/p1": "merged-patient"}


def test_records_under_an_earlier_id_count_where_they_are_here(chart):
    found = chart(patient("p2", replaces="p1"), reading(), CUFF)
    record = found.record("Patient/p2")
    assert len(record.readings) == 1
    assert record.completeness.whole


def test_a_record_that_the_surviving_one_says_it_replaces_has_no_answer_of_its_own(chart):
    found = chart(patient("p1"), patient("p2", replaces="p1"), reading(), CUFF)
    assert found.patients() == ("Patient/p2",)
    assert len(found.record("Patient/p2").readings) == 1


def test_two_that_each_say_to_replace_the_other_decide_nothing(chart):
    found = chart(patient("p1", replaces="p2"), patient("p2", replaces="p1"), reading(), CUFF)
    assert {name: reasons(found.record(name)) for name in found.patients()} == {
        name: {name: "merged-patient"} for name in ("Patient/p1", "Patient/p2")
    }


def test_a_record_that_says_to_replace_itself_is_its_own(chart):
    assert len(chart(patient("p1", replaces="p1"), reading(), CUFF).record("Patient/p1").readings) == 1


def test_records_under_an_earlier_id_are_missing_where_they_are_not(chart):
    mine = reading(subject={"reference": "Patient/p2"})
    cuff = {**CUFF, "patient": {"reference": "Patient/p2"}}
    record = chart(patient("p2", replaces="p1"), mine, cuff).record("Patient/p2")
    assert {type_ for type_, *_ in missing(record)} == {"ChargeItem", "Encounter", "Observation"}
    assert {one.why for one in record.completeness.missing} == {MissingWhy.NOT_SEARCHED}


@pytest.mark.parametrize("kind", ["refer", "seealso"])
def test_charges_may_stand_in_another_record_of_the_same_person(chart, kind):
    assert chart(patient("p1", **{kind: "p9"}), reading()).record("Patient/p1").charges_elsewhere


def contained_patient(value: str | None = None) -> dict[str, Any]:
    inner: dict[str, Any] = {"resourceType": "Patient", "id": "pt"}
    if value is not None:
        inner["identifier"] = [{"system": "urn:mrn"}, {"system": "urn:mrn", "value": value}]
    return {"contained": [inner], "subject": {"reference": "#pt"}}


def test_a_contained_patient_is_whoever_has_that_ones_identifier(chart):
    mine = {**PATIENT, "identifier": [{"system": "urn:mrn", "value": "7"}]}
    found = chart(mine, CUFF, reading(**contained_patient("7")), charge("billed", **contained_patient("7")))
    record = found.record("Patient/p1")
    assert (len(record.readings), len(record.charges)) == (1, 1)


def test_contained_patients_of_one_id_are_not_one_person(chart):
    found = chart(reading("o1", **contained_patient("7")), reading("o2", **contained_patient("8")))
    assert len(found.patients()) == 2


def test_what_names_a_contained_patient_without_an_identifier_is_nobodys(chart):
    found = chart(PATIENT, CUFF, reading(**contained_patient()), charge("billed", **contained_patient()))
    record = found.record("Patient/p1")
    assert reasons(record) == {"Observation/o1": "unreadable", "ChargeItem/c1": "unreadable"}
    assert record.completeness.lacks("Observation")
    assert record.completeness.lacks("ChargeItem")


def test_a_device_of_a_contained_patient_without_an_identifier_is_nobodys_yet(chart):
    cuff = {**CUFF, "patient": {"reference": "#pt"}, "contained": contained_patient()["contained"]}
    (one,) = chart(PATIENT, cuff, reading()).record("Patient/p1").readings
    assert "enrolment" in one.unverified


def test_a_test_patient_has_no_record(chart):
    label = {"meta": {"security": [{"code": "HTEST"}]}}
    record = chart({**PATIENT, **label}, reading(), CUFF).record("Patient/p1")
    assert reasons(record) == {"Patient/p1": "test-data"}


def test_readings_through_a_test_device_and_encounters_marked_as_tests_are_nobodys(read):
    label = {"meta": {"security": [{"code": "HTEST"}]}}
    stay = {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-04T08:00:00-05:00", "end": "2026-03-06T08:00:00-05:00"},
        **label,
    }
    assert reasons(read(reading(), {**CUFF, **label})) == {"Observation/o1": "test-data"}
    record = read(reading(), CUFF, stay)
    assert len(record.readings) == 1
    assert reasons(record) == {"Encounter/e1": "test-data"}


@pytest.mark.parametrize("reverse", [False, True])
def test_an_identifier_that_two_devices_share_names_neither(chart, reverse):
    identifier = [{"system": "urn:serial", "value": "1"}]
    ours = {**CUFF, "identifier": identifier}
    theirs = {**CUFF, "id": "other", "patient": {"reference": "Patient/p2"}, "identifier": identifier}
    named = reading(device={"identifier": {"system": "urn:serial", "value": "1"}})
    devices = [theirs, ours] if reverse else [ours, theirs]
    record = chart(PATIENT, *devices, named).record("Patient/p1")
    assert reasons(record)["Observation/o1"] == "device-unknown"


def test_a_person_found_under_two_records_shares_an_identifier_with_nobody(chart):
    identifier = {"identifier": [{"system": "urn:mrn", "value": "7"}]}
    found = chart(
        {**patient("p1", replaced_by="p2"), **identifier},
        {**patient("p2"), **identifier},
        reading(subject={"identifier": {"system": "urn:mrn", "value": "7"}}),
        CUFF,
    )
    assert len(found.record("Patient/p2").readings) == 1


def test_what_one_patient_costs_does_not_grow_with_their_number(chart):
    found: Chart = chart(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(50)))
    assert found.patients() is found.patients()
    assert found.strangers() is found.strangers()


def test_a_chart_as_it_was_closed_is_the_chart_that_is_read(chart):
    found: Chart = chart(PATIENT, reading(), CUFF)
    assert found.record("Patient/p1") == found.record("Patient/p1")
    assert found.zone == ZoneInfo("America/New_York")


BROKEN = {
    "half a character": '"name": [{"family": "\\ud800"}]',
    "a NaN": '"multipleBirthInteger": NaN',
    "an element of another shape": '"meta": "none"',
    "an identifier of another shape": '"identifier": {"value": 7}',
}


@pytest.mark.parametrize("odd", BROKEN.values(), ids=BROKEN.keys())
def test_what_else_a_broken_patient_says_is_read(chart, odd):
    text = '{"resourceType": "Patient", "id": "p1", %s, "deceasedDateTime": "2026-01-01", "link": %s}'
    link = '[{"type": "seealso", "other": {"reference": "Patient/p9"}}]'
    record = chart((text % (odd, link)).encode(), reading(), CUFF).record("Patient/p1")
    assert reasons(record) == {"Observation/o1": "after-death"}
    assert record.charges_elsewhere
    assert record.completeness.whole
    page = '{"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": %s}]}'
    of_page = chart((page % (text % (odd, link))).encode(), reading(), CUFF).record("Patient/p1")
    assert reasons(of_page) == reasons(record)
    assert of_page.charges_elsewhere


@pytest.mark.parametrize(
    ("died", "unknown"),
    [
        ('"deceasedBoolean": "yes"', True),
        ('"deceasedDateTime": 7', True),
        ('"deceasedDateTime": "2026-\\q1"', True),
        ('"deceasedDateTime": \\q, "deceasedBoolean": false', True),
        ('"deceasedBoolean": false, "x": NaN', False),
    ],
)
def test_a_death_that_cannot_be_read_was_on_a_day_that_nobody_knows(chart, died, unknown):
    text = f'{{"resourceType": "Patient", "id": "p1", {died}}}'
    record = chart(text.encode(), reading(), CUFF).record("Patient/p1")
    assert record.death_date_unknown is unknown
    assert len(record.readings) == 1


def test_links_that_cannot_be_read_may_lead_to_other_records(chart):
    text = '{"resourceType": "Patient", "id": "p1", "link": \\q}'
    assert chart(text.encode(), reading(), CUFF).record("Patient/p1").charges_elsewhere


def test_a_broken_patient_that_was_replaced_decides_nothing(chart):
    link = '[{"type": "replaced-by", "other": {"reference": "Patient/p2"}}]'
    text = f'{{"resourceType": "Patient", "id": "p1", "x": NaN, "link": {link}}}'
    assert reasons(chart(text.encode(), reading()).record("Patient/p1")) == {"Patient/p1": "merged-patient"}


@pytest.mark.parametrize("first", ["p1", "p2"])
def test_whichever_record_of_a_person_says_it_a_death_is_theirs(chart, first):
    died = {first: {"deceasedDateTime": "2026-01-01"}}
    people = [
        {**patient("p1", replaced_by="p2"), **died.get("p1", {})},
        {**patient("p2"), **died.get("p2", {})},
    ]
    record = chart(*people, reading(), CUFF).record("Patient/p2")
    assert reasons(record) == {"Observation/o1": "after-death"}


def test_an_answer_that_is_with_whoever_asked_before_is_missing_here(read):
    record = read(
        reading(), CUFF, bundle({"response": {"status": "304 Not Modified"}}, type="batch-response")
    )
    assert [one.why for one in record.completeness.missing] == ["refused"]


# -- two servers --------------------------------------------------------------------------------------------

EHR = "https://ehr.example/fhir"
BILLING = "https://billing.example/r4"


def _charge(code: str, stored: str, status: str = "billed") -> dict[str, Any]:
    return {
        "resourceType": "ChargeItem",
        "id": "1",
        "status": status,
        "meta": {"lastUpdated": stored},
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": code}]},
        "occurrenceDateTime": "2026-02-03",
    }


def _from(server: str, *resources: dict[str, Any], **entry: Any) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "entry": [
            {"fullUrl": f"{server}/{one['resourceType']}/{one['id']}", "resource": one, **entry}
            for one in resources
        ],
    }


@pytest.mark.parametrize("turned_round", [False, True])
def test_another_servers_record_of_the_same_id_is_no_version_of_it(read, turned_round):
    ours = _from(BILLING, _charge("99454", "2026-02-05T10:00:00Z"))
    another = _from(EHR, _charge("99213", "2026-03-05T10:00:00Z"))
    record = read(*([another, ours] if turned_round else [ours, another]))
    assert [charge.code for charge in record.charges] == ["99454"]


@pytest.mark.parametrize("server", ["http://billing.example/r4", "https://BILLING.example/dstu2", None])
def test_one_server_under_two_addresses_is_one(read, server):
    later = _charge("99454", "2026-02-06T10:00:00Z", "aborted")
    record = read(
        _from(BILLING, _charge("99454", "2026-02-05T10:00:00Z")),
        later if server is None else _from(server, later),
    )
    assert record.charges == ()


def test_what_one_server_deleted_stands_at_the_other(read):
    of_ehr, of_vendor = reading(), reading(day="2026-03-06")
    deletion = _from(EHR, of_ehr, request={"method": "DELETE", "url": "Observation/o1"})
    record = read(CUFF, _from(EHR, of_ehr), _from("https://vendor.example/fhir", of_vendor), deletion)
    assert [one.day.isoformat() for one in record.readings] == ["2026-03-06"]


LONG_IDS = ["7f3a5b1c-9d2e-4f60-8a1b-2c3d4e5f6071", "eM5CWtq15N0WJeuCet5bJlQ3Zr9a"]
INSIDE = "http://fhir-internal.example:8080/fhir"


@pytest.mark.parametrize("name", ["1", *LONG_IDS])
@pytest.mark.parametrize("turned_round", [False, True])
def test_what_was_withdrawn_under_a_servers_other_address_does_not_count(read, name, turned_round):
    final = reading(id=name, meta={"lastUpdated": "2026-03-05T10:00:00Z"})
    withdrawn = reading(id=name, status="entered-in-error", meta={"lastUpdated": "2026-03-06T10:00:00Z"})
    parts = [_from(EHR, final), _from(INSIDE, withdrawn)]
    assert not read(CUFF, *(parts[::-1] if turned_round else parts)).readings


@pytest.mark.parametrize("name", LONG_IDS)
def test_an_id_that_nobody_else_would_think_of_is_one_record_whatever_its_versions_say(read, name):
    before = reading(id=name, meta={"lastUpdated": "2026-03-05T10:00:00Z"})
    corrected = reading(id=name, day="2026-03-06", meta={"lastUpdated": "2026-03-06T10:00:00Z"})
    found = read(CUFF, _from(EHR, before), _from(INSIDE, corrected))
    assert [one.day.isoformat() for one in found.readings] == ["2026-03-06"]


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
def test_a_call_that_was_withdrawn_under_a_servers_other_address_takes_no_time(read, status):
    call = {
        "resourceType": "Encounter",
        "id": "7",
        "status": "finished",
        "class": {"code": "VR"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-05T10:00:00Z", "end": "2026-03-05T10:20:00Z"},
    }
    stored = {"meta": {"lastUpdated": "2026-03-07T10:00:00Z"}, "status": status}
    before = {**call, "meta": {"lastUpdated": "2026-03-05T11:00:00Z"}}
    record = read(_from(EHR, before), _from(INSIDE, {**call, **stored}))
    assert not record.management
    assert not record.contacts


@pytest.mark.parametrize("turned_round", [False, True])
def test_a_deletion_under_a_servers_other_address_takes_the_reading_away(read, turned_round):
    deletion = _from(INSIDE, reading(), request={"method": "DELETE", "url": "Observation/o1"})
    del deletion["entry"][0]["resource"]
    parts = [_from(EHR, reading()), deletion]
    record = read(CUFF, *(parts[::-1] if turned_round else parts))
    assert not record.readings
    assert reasons(record) == {"Observation/o1": "deleted"}


def _encounter(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter",
        "id": "7",
        "meta": {"lastUpdated": "2026-03-05T11:00:00Z"},
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-03-05T10:00:00Z", "end": "2026-03-05T10:20:00Z"},
        **elements,
    }


def _ward_stay() -> dict[str, Any]:
    ward = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}
    return _encounter(**{"class": ward}, period={"start": "2026-03-01", "end": "2026-03-04"})


def _cpt(code: str) -> list[dict[str, Any]]:
    return [{"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": code}]}]


def _deleted(server: str, name: str, at: str | None = "2026-03-09T10:00:00Z") -> dict[str, Any]:
    entry: dict[str, Any] = {"fullUrl": f"{server}/{name}", "request": {"method": "DELETE", "url": name}}
    if at is not None:
        entry["response"] = {"status": "204", "lastModified": at}
    return {"resourceType": "Bundle", "type": "history", "entry": [entry]}


TAKES_AWAY = [
    _ward_stay(),
    _encounter(**{"class": {"code": "AMB"}}, type=_cpt("99213")),
    _encounter(type=_cpt("99490")),
    {**_charge("99454", "2026-03-05T10:00:00Z"), "id": "7"},
]


@pytest.mark.parametrize("turned_round", [False, True])
@pytest.mark.parametrize("at", ["2026-03-09T10:00:00Z", None])
@pytest.mark.parametrize("resource", TAKES_AWAY, ids=["stay", "visit", "care management", "charge"])
def test_what_only_takes_away_stands_where_another_server_may_have_deleted_its_own(
    read, resource, at, turned_round
):
    parts = [_from(EHR, resource), _deleted(INSIDE, f"{resource['resourceType']}/7", at)]
    record = read(*(parts[::-1] if turned_round else parts))
    assert "deleted" not in reasons(record).values()


@pytest.mark.parametrize("turned_round", [False, True])
@pytest.mark.parametrize("at", ["2026-03-09T10:00:00Z", None])
def test_a_call_is_gone_where_another_server_may_have_deleted_its_own(read, at, turned_round):
    parts = [_from(EHR, _encounter()), _deleted(INSIDE, "Encounter/7", at)]
    record = read(*(parts[::-1] if turned_round else parts))
    assert not record.management
    assert reasons(record)["Encounter/7"] == "deleted"


@pytest.mark.parametrize(
    ("name", "server"),
    [("7", EHR), ("7", None), *((name, INSIDE) for name in LONG_IDS)],
    ids=["its own server", "a server that is not named", "a uuid", "a long id"],
)
@pytest.mark.parametrize("resource", TAKES_AWAY, ids=["stay", "visit", "care management", "charge"])
def test_what_only_takes_away_is_gone_where_the_deletion_is_surely_its_own(read, resource, name, server):
    named = {**resource, "id": name}
    deletion = _deleted(server or "urn:x", f"{resource['resourceType']}/{name}")
    if server is None:
        del deletion["entry"][0]["fullUrl"]
    record = read(_from(EHR, named), deletion)
    assert reasons(record)[f"{resource['resourceType']}/{name}"] == "deleted"


@pytest.mark.parametrize("resource", TAKES_AWAY, ids=["stay", "visit", "care management", "charge"])
def test_what_names_no_server_is_gone_by_any_deletion_of_its_id(read, resource):
    name = f"{resource['resourceType']}/7"
    assert reasons(read(resource, _deleted(INSIDE, name)))[name] == "deleted"


def test_a_reading_on_a_ward_stays_out_where_another_server_deleted_a_stay_of_the_same_id(read):
    record = read(CUFF, reading(day="2026-03-02"), _from(EHR, _ward_stay()), _deleted(INSIDE, "Encounter/7"))
    assert not record.readings


@pytest.mark.parametrize("turned_round", [False, True])
def test_of_two_versions_of_a_session_billed_elsewhere_the_one_that_took_place_stands(read, turned_round):
    took_place = _encounter(type=_cpt("99490"), meta={})
    parts = [took_place, {**took_place, "status": "cancelled"}]
    assert read(*(parts[::-1] if turned_round else parts)).used_time


def test_records_of_three_servers_are_told_apart_in_whatever_order_they_come(read):
    parts = [
        _from(f"https://{server}.example/fhir", reading(day=day))
        for server, day in (("a", "2026-03-05"), ("b", "2026-03-06"), ("c", "2026-03-07"))
    ]
    found = [read(CUFF, *order) for order in permutations(parts)]
    assert {tuple(sorted(one.day.isoformat() for one in record.readings)) for record in found} == {
        ("2026-03-05", "2026-03-06", "2026-03-07")
    }
    names = {tuple(sorted(one.resource for one in record.readings)) for record in found}
    assert names == {("Observation/o1", "Observation/o1@b.example", "Observation/o1@c.example")}
