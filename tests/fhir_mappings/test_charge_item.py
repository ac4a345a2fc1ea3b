"""ChargeItem, read and written."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from fhir_mappings.charge_item import (
    IDENTIFIER_SYSTEM,
    ChargeDetails,
    ChargeNotValid,
    Diagnosis,
    Performer,
    charge_item,
    conflicting,
    deterministic_identifier,
    validate,
)
from fhir_mappings.decision import Decision, Requirement
from fhir_mappings.local_time import Window
from fhir_mappings.record import PriorCharge
from fhir_mappings.vocabulary import Line, Outcome, Program, RequirementKind, Unit

Resource = dict[str, Any]
JANUARY = Window(date(2026, 1, 5), date(2026, 2, 3))
DETAILS = ChargeDetails(
    issuer="https://ehr.example/fhir",
    patient="Patient/p1",
    enterer="Practitioner/dr-1",
    entered_at=datetime(2026, 2, 4, 15, 0, tzinfo=UTC),
    rules_version="2026-11-22+abc",
    performers=(Performer("performing", "Practitioner/dr-1"),),
    diagnoses=(Diagnosis("http://hl7.org/fhir/sid/icd-10-cm", "M25.561", "knee pain"),),
    context="Encounter/e1",
    account="Account/a1",
    attested=("The patient agreed.",),
)


def decision(code: str = "98977", outcome: Outcome = Outcome.SUGGEST, **changes: Any) -> Decision:
    evidence = tuple(f"Observation/o{number}" for number in range(16))
    days = Requirement(RequirementKind.MONITORING_DAYS, Unit.DAYS, 16, 16, True, evidence, "a source")
    values: dict[str, Any] = {
        "code": code,
        "program": Program.RTM,
        "line": Line.MUSCULOSKELETAL,
        "quantity": 1,
        "outcome": outcome,
        "period": JANUARY,
        "service_date": JANUARY.end,
        "requirements": (days,),
        "reasons": (),
        "unverified": (),
        "modifiers": ("GP",),
        "forecast": None,
        **changes,
    }
    return Decision(**values)


def test_a_suggestion_becomes_a_planned_charge_item_with_its_evidence() -> None:
    charge = charge_item(decision(), DETAILS)
    assert charge["status"] == "planned"
    assert charge["code"] == {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98977"}]}
    assert charge["subject"] == {"reference": "Patient/p1"}
    assert charge["occurrencePeriod"] == {"start": "2026-01-05", "end": "2026-02-03"}
    assert charge["quantity"] == {"value": 1}
    assert charge["context"] == {"reference": "Encounter/e1"}
    assert charge["account"] == [{"reference": "Account/a1"}]
    assert charge["enterer"] == {"reference": "Practitioner/dr-1"}
    assert charge["enteredDate"] == "2026-02-04T15:00:00+00:00"
    assert charge["reason"][0]["coding"][0]["code"] == "M25.561"
    assert len(charge["service"]) == 16
    assert charge["identifier"][0]["system"] == IDENTIFIER_SYSTEM
    assert charge["extension"] == [{"url": "urn:smart-remote-monitoring:modifier", "valueCode": "GP"}]
    assert "Monitoring days: 16 (needed 16)." in charge["note"][0]["text"]
    assert "Confirmed by the clinician: The patient agreed." in charge["note"][0]["text"]


def test_start_up_is_dated_on_the_day_its_threshold_was_reached() -> None:
    charge = charge_item(decision("98975", line=None, service_date=date(2026, 1, 20)), DETAILS)
    assert charge["occurrenceDateTime"] == "2026-01-20"
    assert "occurrencePeriod" not in charge


def test_encounters_are_supporting_information_since_service_does_not_allow_them() -> None:
    need = Requirement(
        RequirementKind.MANAGEMENT_TIME, Unit.SECONDS, 1200, 1325, True, ("Encounter/e1",), "a source"
    )
    charge = charge_item(decision("98980", line=None, requirements=(need,)), DETAILS)
    assert charge["supportingInformation"] == [{"reference": "Encounter/e1"}]
    assert "service" not in charge
    assert "Management time: 22:05 min (needed 20:00)." in charge["note"][0]["text"]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.SUGGEST])
def test_nothing_but_a_suggestion_is_ever_written(outcome: Outcome) -> None:
    with pytest.raises(ChargeNotValid):
        charge_item(decision(outcome=outcome), DETAILS)


@pytest.mark.parametrize(
    "change",
    [{"status": "banana"}, {"status": None}, {"code": None}, {"quantity": {"value": "many"}}, {"odd": 1}],
)
def test_what_r4_does_not_allow_never_leaves(change: Resource) -> None:
    charge = charge_item(decision(), DETAILS) | change
    with pytest.raises(ChargeNotValid) as refusal:
        validate({key: value for key, value in charge.items() if value is not None})
    assert "p1" not in str(refusal.value)


def test_the_same_charge_always_has_the_same_identifier() -> None:
    first = deterministic_identifier("https://ehr.example/fhir", "Patient/p1", decision())
    assert first == deterministic_identifier("https://ehr.example/fhir/", "Patient/p1", decision())
    others = [
        deterministic_identifier("https://other.example/fhir", "Patient/p1", decision()),
        deterministic_identifier("https://ehr.example/fhir", "Patient/p2", decision()),
        deterministic_identifier("https://ehr.example/fhir", "Patient/p1", decision("98985")),
        deterministic_identifier(
            "https://ehr.example/fhir",
            "Patient/p1",
            decision(period=Window(date(2026, 2, 4), date(2026, 3, 5))),
        ),
    ]
    assert len({first, *others}) == 5


@pytest.mark.parametrize(
    ("code", "occurrence", "stands"),
    [
        ("98977", JANUARY, True),
        ("98985", Window(date(2026, 2, 3), date(2026, 3, 4)), True),
        ("98976", JANUARY, True),
        ("98977", Window(date(2026, 2, 4), date(2026, 3, 5)), False),
        ("98980", JANUARY, False),
        ("99454", JANUARY, False),
        ("98977", None, True),
    ],
)
def test_a_charge_of_the_same_family_on_the_same_days_stands_in_the_way(
    code: str, occurrence: Window | None, stands: bool
) -> None:
    charge = PriorCharge("ChargeItem/c1", code, 1, occurrence)
    assert conflicting(decision(), [charge]) == ((charge,) if stands else ())


def test_an_add_on_and_its_base_do_not_stand_in_each_others_way() -> None:
    base = PriorCharge("ChargeItem/c1", "98980", 1, JANUARY)
    lower = PriorCharge("ChargeItem/c2", "98979", 1, JANUARY)
    assert conflicting(decision("98981", line=None), [base]) == ()
    assert conflicting(decision("98981", line=None), [lower]) == (lower,)
    assert conflicting(decision("98979", line=None), [base]) == (base,)


def test_a_charge_that_was_taken_back_does_not_stand_in_the_way() -> None:
    charge = PriorCharge("ChargeItem/c1", "98977", 1, JANUARY)
    credit = PriorCharge("ChargeItem/c2", "98977", -1, JANUARY)
    again = PriorCharge("ChargeItem/c3", "98977", 1, JANUARY)
    other = PriorCharge("ChargeItem/c4", "98985", 1, JANUARY)
    assert conflicting(decision(), [charge, credit]) == ()
    assert conflicting(decision(), [charge, credit, again]) == (charge, credit, again)
    assert conflicting(decision(), [charge, credit, other]) == (other,)


def test_a_charge_that_may_be_of_several_codes_stands_in_the_way_of_each() -> None:
    named = ("98975", "98977")
    either = [PriorCharge("ChargeItem/c1", code, 1, JANUARY, among=named) for code in named]
    assert conflicting(decision(), either) == (either[1],)
    assert conflicting(decision("98975", line=None), either) == (either[0],)
    assert conflicting(decision("98980", line=None), either) == ()
