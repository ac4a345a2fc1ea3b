"""What was charged before, in the shapes that EHRs give it (D29)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.local_time import Window
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.tables import shipped_codes

Resource = dict[str, Any]
Read = Callable[..., PatientRecord]
JANUARY = Window(date(2026, 1, 5), date(2026, 2, 3))
CPT = "http://www.ama-assn.org/go/cpt"
CHARGE_MASTER = {"coding": [{"system": "urn:clinic:charge-master", "code": "64897"}]}
"""A charge coded by a number of the clinic's own."""


def stored(**changes: Any) -> Resource:
    resource = {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": {"coding": [{"system": CPT, "code": "98977"}]},
        "subject": {"reference": "Patient/p1"},
        "occurrencePeriod": {"start": "2026-01-05", "end": "2026-02-03"},
        **changes,
    }
    return {key: value for key, value in resource.items() if value is not None}


def codes(record: PatientRecord) -> list[str]:
    return [charge.code for charge in record.charges]


# -- where a charge says it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": "urn:vendor:bill-codes", "code": "98977"}]},
        {"coding": [{"code": "98977"}]},
        {"coding": [{"system": "urn:oid:2.16.840.1.113883.6.12", "code": "98977-GP"}]},
        {"coding": [{"system": CPT, "code": "98977:GP"}]},
        {"coding": [{"system": CPT, "code": "98977,25"}]},
        {"coding": [{"system": CPT, "code": "CPT-98977"}]},
        {"coding": [{"system": "urn:vendor:bill-codes", "code": "0510-98977-1"}]},
        {"coding": [{"code": "64897", "display": "Device supply CPT(R) 98977"}]},
        {"text": "98977"},
        {"text": "Monthly device supply 98977 GP"},
        {**CHARGE_MASTER, "text": "CPT-98977"},
        {**CHARGE_MASTER, "extension": [{"url": "urn:x", "valueString": "98977"}]},
        {"_text": {"extension": [{"url": "urn:x", "valueString": "98977"}]}},
        {"coding": [{"code": "64897", "extension": [{"url": "urn:x", "valueCode": "98977"}]}]},
        {
            "coding": [
                {"code": "64897", "_display": {"extension": [{"url": "urn:x", "valueString": "98977"}]}}
            ]
        },
    ],
)
def test_a_charge_is_ours_wherever_its_code_names_a_number(code: object, read: Read) -> None:
    (charge,) = read(stored(code=code)).charges
    assert (charge.code, charge.occurrence, charge.sole) == ("98977", JANUARY, True)


@pytest.mark.parametrize(
    "extension",
    [
        {"url": "urn:x", "valueString": "98977"},
        {"url": "urn:x", "valueMarkdown": "**98977**"},
        {"url": "urn:x", "valueCode": "98977"},
        {"url": "urn:x", "valueCoding": {"system": "urn:clinic:cpt", "code": "98977"}},
        {"url": "urn:x", "valueCoding": {"code": "64897", "display": "CPT 98977"}},
        {"url": "urn:x", "valueCodeableConcept": {"coding": [{"code": "98977-GP"}]}},
        {"url": "urn:x", "valueCodeableConcept": {"text": "98977"}},
        {
            "url": "urn:x",
            "extension": [
                {"url": "code", "extension": [{"url": "cpt", "valueCoding": {"code": "98977"}}]},
                {"url": "priority", "valueUnsignedInt": 1},
            ],
        },
    ],
)
@pytest.mark.parametrize("element", ["extension", "modifierExtension"])
def test_a_charge_is_ours_where_an_extension_names_a_number(
    element: str, extension: Resource, read: Read
) -> None:
    assert codes(read(stored(code=CHARGE_MASTER, **{element: [extension]}))) == ["98977"]
    assert codes(read(stored(code=None, **{element: extension}))) == ["98977"]


@pytest.mark.parametrize(
    "extension",
    [
        {"url": "urn:98977", "valueString": "yes"},
        {"url": "urn:x", "valueIdentifier": {"value": "98977"}},
        {"url": "urn:x", "valueReference": {"reference": "Account/98977"}},
        {"url": "urn:x", "valueUri": "98977"},
        {"url": "urn:x", "valueInteger": 98977},
        {"url": "urn:x", "valueMoney": {"value": 98977}},
        {"url": "urn:x", "valueString": "order 9897726"},
        {"url": "urn:x", "valueString": None},
        "98977",
        None,
    ],
)
def test_an_identifier_a_reference_or_an_amount_names_no_code(extension: object, read: Read) -> None:
    assert read(stored(code=CHARGE_MASTER, extension=[extension])).charges == ()


def test_digits_may_be_written_as_escapes(read: Read) -> None:
    text = json.dumps(stored(code={"text": "98977"})).replace('"98977"', '"9\\u00389\\u00377"').encode()
    assert codes(read(text)) == ["98977"]


@pytest.mark.parametrize(
    "code", ["98977", 98977, {"coding": {"code": "98977"}}, {"coding": [{"code": 98977}]}, {"text": 98977}]
)
def test_a_code_of_no_known_shape_leaves_the_charge_to_a_human(code: object, read: Read) -> None:
    record = read(stored(code=code))
    assert [(charge.code, charge.occurrence) for charge in record.charges] == [("98977", None)]
    assert [str(entry.reason) for entry in record.excluded] == ["unreadable"]


def test_extensions_are_not_looked_through_without_end(read: Read) -> None:
    inner: Resource = {"url": "urn:x", "valueString": "98977"}
    for _ in range(40):
        inner = {"url": "urn:x", "extension": [inner]}
    assert read(stored(code=CHARGE_MASTER, extension=[inner])).charges == ()


def test_nothing_is_looked_through_without_end(read: Read) -> None:
    concept: Resource = {"code": "98977"}
    for _ in range(400):
        concept = {"code": concept}
    deep = [{"url": "urn:x", "valueCodeableConcept": concept}]
    assert read(stored(code=CHARGE_MASTER, extension=deep)).charges == ()


# -- which of several ---------------------------------------------------------------------------------------


def test_the_coding_goes_before_what_is_said_elsewhere(read: Read) -> None:
    charge = stored(
        code={"coding": [{"system": CPT, "code": "98977"}], "text": "98977, with the set-up 98975"},
        extension=[{"url": "urn:x", "valueString": "98980"}],
    )
    (found,) = read(charge).charges
    assert (found.code, found.sole) == ("98977", True)


def test_the_same_number_in_several_places_is_one(read: Read) -> None:
    code = {"coding": [{"code": "64897", "display": "98977"}], "text": "98977-GP"}
    (found,) = read(stored(code=code, extension=[{"url": "urn:x", "valueString": "CPT 98977"}])).charges
    assert found.sole


@pytest.mark.parametrize(
    ("code", "extension"),
    [
        ({"text": "98975 and 98977"}, None),
        ({"coding": [{"code": "1", "display": "98977"}, {"code": "2", "display": "98975"}]}, None),
        ({"coding": [{"system": CPT, "code": "98977"}, {"system": CPT, "code": "98975"}]}, None),
        ({"text": "98975"}, [{"url": "urn:x", "valueString": "98977"}]),
    ],
)
def test_of_several_numbers_nobody_can_tell_which_was_charged(
    code: Resource, extension: object, read: Read
) -> None:
    found = read(stored(code=code, extension=extension)).charges
    assert sorted(charge.code for charge in found) == ["98975", "98977"]
    assert {tuple(sorted(charge.among)) for charge in found} == {("98975", "98977")}
    assert not any(charge.sole for charge in found)


# -- our own charge, as it comes back -----------------------------------------------------------------------

OWN = {"identifier": [{"system": IDENTIFIER_SYSTEM, "value": "k1"}]}


def test_a_charge_of_ours_without_its_code_is_known_by_its_definition(read: Read) -> None:
    charge = stored(code=CHARGE_MASTER, definitionUri=["urn:smart-remote-monitoring:rule:98977:v1"], **OWN)
    (found,) = read(charge).charges
    assert (found.code, found.sole, found.keys) == ("98977", True, ("k1",))


def test_a_definition_alone_makes_no_charge_ours(read: Read) -> None:
    charge = stored(code=CHARGE_MASTER, definitionUri=["urn:smart-remote-monitoring:rule:98977:v1"])
    assert read(charge).charges == ()


@pytest.mark.parametrize("definition", [None, [], "urn:x", ["urn:smart-remote-monitoring:rule:00000:v1"]])
def test_a_charge_of_ours_that_says_nothing_more_may_be_of_any_code(definition: object, read: Read) -> None:
    found = read(stored(code=CHARGE_MASTER, definitionUri=definition, **OWN)).charges
    assert {charge.code for charge in found} == set(shipped_codes().rules)
    assert not any(charge.sole for charge in found)


# -- whether it stands, when, and how often -----------------------------------------------------------------


@pytest.mark.parametrize("status", ["planned", "billable", "billed", "unknown", "banana", None])
def test_a_charge_stands_whatever_its_status_says_short_of_taking_it_back(
    status: str | None, read: Read
) -> None:
    assert [charge.occurrence for charge in read(stored(status=status)).charges] == [JANUARY]


@pytest.mark.parametrize("status", ["entered-in-error", "aborted", "not-billable"])
@pytest.mark.parametrize("code", [{"coding": [{"code": "98977"}]}, {"text": "98977"}])
def test_a_charge_taken_back_does_not_stand(status: str, code: Resource, read: Read) -> None:
    record = read(stored(status=status, code=code))
    assert record.charges == ()
    assert [str(entry.reason) for entry in record.excluded] == [status]


@pytest.mark.parametrize(
    ("occurrence", "expected"),
    [
        ({"occurrenceDateTime": "2026-02-03T23:30:00-05:00"}, Window(date(2026, 2, 3), date(2026, 2, 3))),
        ({"occurrencePeriod": {"start": "2026-01-05"}}, Window(date(2026, 1, 5), date(2026, 1, 5))),
        ({"occurrencePeriod": {"start": "2026-02-03", "end": "2026-01-05"}}, None),
        (
            {"occurrenceTiming": {"event": ["2026-02-01", "2026-01-07"]}},
            Window(date(2026, 1, 7), date(2026, 2, 1)),
        ),
        (
            {"occurrenceTiming": {"repeat": {"boundsPeriod": {"start": "2026-01-05", "end": "2026-02-03"}}}},
            JANUARY,
        ),
        ({"occurrenceDateTime": "2026"}, None),
        ({}, None),
    ],
)
def test_a_charge_says_its_days_in_several_ways(
    occurrence: Resource, expected: Window | None, read: Read
) -> None:
    record = read(stored(occurrencePeriod=None) | occurrence)
    assert [charge.occurrence for charge in record.charges] == [expected]


@pytest.mark.parametrize(
    ("quantity", "units"),
    [
        (None, 1),
        ({}, 1),
        ({"value": None}, 1),
        ({"value": 3}, 3),
        ({"value": 0}, 0),
        ({"value": 0.5}, 1),
        ({"value": 1.5}, 2),
        ({"value": -1}, -1),
        ({"value": -1.5}, -1),
        ({"value": "many"}, 1),
    ],
)
def test_a_part_of_a_unit_is_one_and_a_credit_stays_below_zero(
    quantity: Resource | None, units: int, read: Read
) -> None:
    assert [charge.quantity for charge in read(stored(quantity=quantity)).charges] == [units]


# -- claims, and what a payer answered ----------------------------------------------------------------------

ITEM: Resource = {
    "sequence": 1,
    "productOrService": {"coding": [{"system": CPT, "code": "98977"}]},
    "servicedPeriod": {"start": "2026-01-05", "end": "2026-02-03"},
}
PAPERS = ["Claim", "ExplanationOfBenefit"]


def paper(kind: str = "Claim", *items: Resource, **changes: Any) -> Resource:
    resource = {
        "resourceType": kind,
        "id": "x1",
        "status": "active",
        "use": "claim",
        "patient": {"reference": "Patient/p1"},
        "item": list(items) or [ITEM],
        **changes,
    }
    return {key: value for key, value in resource.items() if value is not None}


def line(**changes: Any) -> Resource:
    return {key: value for key, value in {**ITEM, **changes}.items() if value is not None}


@pytest.mark.parametrize("kind", PAPERS)
def test_a_line_of_a_claim_is_a_charge(kind: str, read: Read) -> None:
    (charge,) = read(paper(kind)).charges
    assert (charge.resource, charge.code, charge.quantity) == (f"{kind}/x1", "98977", 1)
    assert (charge.occurrence, charge.of_whole_claim, charge.claimed) == (JANUARY, False, True)


@pytest.mark.parametrize("kind", PAPERS)
@pytest.mark.parametrize(
    ("status", "reason"),
    [("draft", "not-active"), ("cancelled", "cancelled"), ("entered-in-error", "entered-in-error")],
)
def test_a_claim_that_was_not_made_or_was_taken_back_charges_nothing(
    kind: str, status: str, reason: str, read: Read
) -> None:
    record = read(paper(kind, status=status))
    assert record.charges == ()
    assert [(entry.resource, str(entry.reason)) for entry in record.excluded] == [(f"{kind}/x1", reason)]


@pytest.mark.parametrize("kind", PAPERS)
@pytest.mark.parametrize("use", ["preauthorization", "predetermination", "proposed", "exploratory"])
def test_asking_beforehand_what_would_be_paid_charges_nothing(kind: str, use: str, read: Read) -> None:
    record = read(paper(kind, use=use))
    assert record.charges == ()
    assert [str(entry.reason) for entry in record.excluded] == ["not-active"]


@pytest.mark.parametrize("kind", PAPERS)
@pytest.mark.parametrize(
    "changes", [{"use": None}, {"use": "banana"}, {"status": None}, {"status": "banana"}]
)
def test_a_claim_stands_whatever_else_it_says_of_itself(kind: str, changes: Resource, read: Read) -> None:
    assert codes(read(paper(kind, **changes))) == ["98977"]


@pytest.mark.parametrize("outcome", ["queued", "complete", "error", "partial", None])
def test_whatever_the_payer_answered_the_service_was_charged(outcome: str | None, read: Read) -> None:
    denied = {"category": {"coding": [{"code": "benefit"}]}, "amount": {"value": 0}}
    answer = paper(
        "ExplanationOfBenefit", line(adjudication=[denied]), outcome=outcome, disposition="denied: CO-97"
    )
    assert codes(read(answer)) == ["98977"]


@pytest.mark.parametrize(
    ("changes", "days", "whole"),
    [
        (
            {"servicedPeriod": None, "servicedDate": "2026-02-03"},
            Window(date(2026, 2, 3), date(2026, 2, 3)),
            False,
        ),
        ({"servicedPeriod": {"end": "2026-02-03"}}, Window(date(2026, 2, 3), date(2026, 2, 3)), False),
        ({"servicedPeriod": None}, Window(date(2026, 1, 1), date(2026, 1, 31)), True),
        ({"servicedPeriod": None, "servicedDate": "2026"}, Window(date(2026, 1, 1), date(2026, 1, 31)), True),
        (
            {"servicedPeriod": {"start": "2026-02-03", "end": "2026-01-05"}},
            Window(date(2026, 1, 1), date(2026, 1, 31)),
            True,
        ),
    ],
)
def test_a_line_without_days_of_its_own_has_those_of_the_claim(
    changes: Resource, days: Window, whole: bool, read: Read
) -> None:
    claim = paper("Claim", line(**changes), billablePeriod={"start": "2026-01-01", "end": "2026-01-31"})
    assert [(charge.occurrence, charge.of_whole_claim) for charge in read(claim).charges] == [(days, whole)]


def test_the_day_a_claim_was_written_is_no_day_of_service(read: Read) -> None:
    claim = paper("Claim", line(servicedPeriod=None), created="2026-02-10")
    assert [charge.occurrence for charge in read(claim).charges] == [None]


@pytest.mark.parametrize(
    ("quantity", "units"), [({"value": 2}, 2), ({"value": 0.5}, 1), ({"value": -1}, -1), ({"value": 0}, 0)]
)
def test_the_units_of_a_line_are_read_as_those_of_a_charge(
    quantity: Resource, units: int, read: Read
) -> None:
    assert [charge.quantity for charge in read(paper("Claim", line(quantity=quantity))).charges] == [units]


@pytest.mark.parametrize(
    "product",
    [
        {"coding": [{"system": "urn:x", "code": "98977-GP"}]},
        {"text": "CPT(R) 98977"},
        {"coding": [{"code": "64897", "display": "98977"}]},
        {"coding": [{"code": "64897"}], "extension": [{"url": "urn:x", "valueString": "98977"}]},
    ],
)
def test_a_line_is_ours_in_every_shape_in_which_a_charge_is(product: Resource, read: Read) -> None:
    modified = line(productOrService=product, modifier=[{"coding": [{"code": "GP"}]}])
    assert codes(read(paper("Claim", modified))) == ["98977"]


@pytest.mark.parametrize("kind", PAPERS)
def test_a_line_as_it_was_before_r4_is_one_too(kind: str, read: Read) -> None:
    service = {"service": ITEM["productOrService"]}
    assert codes(read(paper(kind, line(productOrService=None, **service)))) == ["98977"]
    (coding,) = ITEM["productOrService"]["coding"]
    assert codes(read(paper(kind, line(productOrService=None, service=coding)))) == ["98977"]
    detailed = line(productOrService=None, service={"text": "a bundle"}, detail=[service])
    assert codes(read(paper(kind, detailed))) == ["98977"]


def test_each_line_is_a_charge_of_its_own(read: Read) -> None:
    other = {"coding": [{"system": CPT, "code": "98980"}]}
    visit = {"coding": [{"system": CPT, "code": "99213"}]}
    claim = paper(
        "Claim",
        line(),
        line(productOrService=other, servicedPeriod=None, servicedDate="2026-01-31"),
        line(productOrService=visit),
        line(servicedPeriod={"start": "2026-02-04", "end": "2026-03-05"}),
    )
    found = [(charge.code, charge.occurrence and charge.occurrence.start) for charge in read(claim).charges]
    assert found == [("98977", date(2026, 1, 5)), ("98977", date(2026, 2, 4)), ("98980", date(2026, 1, 31))]


def test_a_line_that_names_two_of_ours_may_be_either(read: Read) -> None:
    found = read(paper("Claim", line(productOrService={"text": "98975/98977"}))).charges
    assert [(charge.code, charge.sole) for charge in found] == [("98975", False), ("98977", False)]


def test_the_details_of_a_line_speak_where_the_line_names_none_of_ours(read: Read) -> None:
    bundle = {"coding": [{"code": "64897"}]}
    detail = {"productOrService": ITEM["productOrService"], "quantity": {"value": 2}}
    (charge,) = read(paper("Claim", line(productOrService=bundle, detail=[detail]))).charges
    assert (charge.code, charge.quantity, charge.occurrence) == ("98977", 2, JANUARY)
    deeper = {"productOrService": bundle, "subDetail": [detail]}
    (charge,) = read(paper("Claim", line(productOrService=bundle, detail=[deeper]))).charges
    assert (charge.code, charge.quantity, charge.occurrence) == ("98977", 2, JANUARY)
    (charge,) = read(paper("Claim", line(detail=[detail]))).charges
    assert charge.quantity == 1


def test_a_line_that_the_payer_added_counts_where_the_claim_has_none_of_its_code(read: Read) -> None:
    visit = {"coding": [{"system": CPT, "code": "99213"}]}
    answer = paper("ExplanationOfBenefit", line(productOrService=visit), addItem=[line()])
    assert codes(read(answer)) == ["98977"]
    assert codes(read(paper("ExplanationOfBenefit", line(), addItem=[line()]))) == ["98977"]


def test_a_claim_of_other_services_is_no_charge_of_ours_and_is_not_listed(read: Read) -> None:
    visit = {"coding": [{"system": CPT, "code": "99213"}]}
    record = read(paper("Claim", line(productOrService=visit), status="draft"))
    assert (record.charges, record.excluded) == ((), ())


@pytest.mark.parametrize("kind", PAPERS)
def test_a_claim_with_one_element_that_does_not_fit_is_believed_without_it(kind: str, read: Read) -> None:
    assert codes(read(paper(kind, billablePeriod="January", status=["active"]))) == ["98977"]


@pytest.mark.parametrize("kind", PAPERS)
def test_a_claim_that_cannot_be_read_leaves_the_codes_it_names_to_a_human(kind: str, read: Read) -> None:
    record = read(paper(kind, item={"productOrService": {"coding": [{"code": "98977"}]}}))
    assert [(charge.code, charge.occurrence) for charge in record.charges] == [("98977", None)]
    assert [str(entry.reason) for entry in record.excluded] == ["unreadable"]
    assert record.completeness.whole


def test_a_claim_of_a_later_service_is_after_the_day_that_is_asked_about(read: Read) -> None:
    record = read(paper("Claim", line(servicedPeriod=None, servicedDate="2026-04-02")))
    assert record.charges == ()
    assert [str(entry.reason) for entry in record.excluded] == ["after-as-of"]


def test_of_two_versions_of_a_claim_of_which_neither_is_newer_the_one_that_stands_counts(read: Read) -> None:
    stands, cancelled = paper("Claim"), paper("Claim", status="cancelled")
    assert codes(read(stands, cancelled)) == codes(read(cancelled, stands)) == ["98977"]


@pytest.mark.parametrize(
    "product",
    [
        {"productCodeableConcept": {"coding": [{"system": CPT, "code": "98977"}]}},
        {"productCodeableConcept": {"text": "RTM device 98977"}},
        {"product": [{"concept": {"coding": [{"system": CPT, "code": "98977-GP"}]}}]},
    ],
)
def test_our_number_in_what_was_supplied_is_seen(product: Resource, read: Read) -> None:
    assert codes(read(stored(code=CHARGE_MASTER, **product))) == ["98977"]


def test_the_code_goes_before_what_was_supplied(read: Read) -> None:
    other = {"coding": [{"system": CPT, "code": "98976"}]}
    assert codes(read(stored(productCodeableConcept=other))) == ["98977"]


@pytest.mark.parametrize("kind", PAPERS)
def test_what_a_claim_says_was_done_is_charged_where_no_line_says_it(kind: str, read: Read) -> None:
    done = {"date": "2026-02-03", "procedureCodeableConcept": {"coding": [{"system": CPT, "code": "98977"}]}}
    other = line(productOrService={"coding": [{"system": CPT, "code": "99213"}]})
    (charge,) = read(paper(kind, other, procedure=[done])).charges
    assert (charge.code, charge.occurrence) == ("98977", Window(date(2026, 2, 3), date(2026, 2, 3)))
    assert codes(read(paper(kind, procedure=[done]))) == ["98977"]


@pytest.mark.parametrize(
    "subject", ["Patient/p1 ", "/Patient/p1", "https://ehr.example/fhir/Patient/p1/", "\tPatient/p1\n"]
)
def test_a_charge_is_the_patients_with_blanks_or_a_slash_around_the_reference(
    subject: str, read: Read
) -> None:
    assert len(read(stored(subject={"reference": subject})).charges) == 1
