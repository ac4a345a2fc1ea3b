"""What billing is told beside a decision, and which statements only a missing permission asks for."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing, MissingWhy
from fhir_mappings.decision import Decision
from fhir_mappings.record import PatientRecord
from fhir_mappings.rules.engine import assess, decide
from fhir_mappings.rules.hints import HINTS
from fhir_mappings.rules.permissions import for_want_of_permission
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.statements import SiteFacts
from fhir_mappings.rules.tables import PayerRule
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Hint, Unverified
from tests.support.chart import Event, build_resources, site_terminology

ZONE = ZoneInfo("America/New_York")
AS_OF = date(2026, 4, 10)
TERMINOLOGY = load_terminology(site_terminology())
MEDICARE = load_policy("medicare")
HEP: Event = {"days": {"of": "HEP", "from": "2026-03-02", "count": "16"}}


def read(*given: Event, missing: tuple[Missing, ...] = ()) -> PatientRecord:
    chart = Chart(TERMINOLOGY, ZONE, AS_OF)
    for resource in build_resources(list(given), ZONE.key):
        chart.add(json.dumps(resource).encode())
    for one in missing:
        chart.add_missing(one)
    return chart.record("Patient/p1")


def found(code: str, *given: Event, facts: SiteFacts | None = None) -> Decision:
    decisions = decide(read(*given), load_policy("medicare", facts=facts), AS_OF)
    return next(one for one in decisions if one.code == code and one.period.start.month == 3)


def work(word: str, at: str, length: str, by: str) -> Event:
    return {word: {"at": at, "for": length, "by": by}}


def test_every_hint_has_its_sentence() -> None:
    assert set(HINTS) == set(Hint)
    for sentence in HINTS.values():
        assert sentence[0].isupper()
        assert sentence.endswith(".")


def test_a_visit_on_the_service_date_is_a_hint_about_the_visits_own_modifier() -> None:
    call = work("call", "2026-03-10T10:00", "22:00", "physician")
    visit = work("visit", "2026-03-31T10:00", "15:00", "physician")
    assert Hint.MODIFIER_25 in found("98980", HEP, call, visit).hints
    assert Hint.MODIFIER_25 in found("98977", HEP, call, visit).hints
    another = work("visit", "2026-03-31T10:00", "15:00", "physician-2")
    assert found("98980", HEP, call, another).hints == ()


def test_an_assistants_minutes_that_are_not_needed_leave_two_possibilities() -> None:
    call = work("call", "2026-03-10T10:00", "22:00", "pt")
    review = work("review", "2026-03-11T10:00", "6:00", "pta")
    one = found("98980", HEP, call, review)
    assert one.modifiers == ("GP", "CQ")
    assert one.alternative is not None
    assert (one.alternative.seconds, one.alternative.modifiers) == (22 * 60, ("GP",))
    assert len(one.alternative.evidence) == 1
    assert Hint.ASSISTANT_NOT_NEEDED in one.hints


@pytest.mark.parametrize(
    ("therapist", "assistant"),
    [
        ("19:59", "6:00"),  # they are needed
        ("22:00", "2:00"),  # they bring no modifier
    ],
)
def test_else_there_is_one_possibility(therapist: str, assistant: str) -> None:
    call = work("call", "2026-03-10T10:00", therapist, "pt")
    review = work("review", "2026-03-11T10:00", assistant, "pta")
    assert found("98980", HEP, call, review).alternative is None


def test_minutes_without_the_assistants_conversation_are_none() -> None:
    call = work("call", "2026-03-10T10:00", "6:00", "pta")
    review = work("review", "2026-03-11T10:00", "22:00", "pt")
    assert found("98980", HEP, call, review).alternative is None


def test_digital_mental_health_treatment_is_named_beside_its_line_alone() -> None:
    diary: Event = {"days": {"of": "MOOD", "device": "mood-app", "from": "2026-03-02", "count": "16"}}
    assert found("98978", diary).hints == (Hint.DIGITAL_MENTAL_HEALTH,)
    assert found("98977", HEP).hints == ()


@pytest.mark.parametrize(
    "facts", [SiteFacts(rural_health_clinic=True), SiteFacts(federally_qualified_health_center=True)]
)
def test_a_centre_is_told_how_it_reports(facts: SiteFacts) -> None:
    assert found("98977", HEP, facts=facts).hints == (Hint.CENTRE,)


@pytest.mark.parametrize("modifier", ["26", "TC"])
def test_no_payer_can_ask_for_a_part_that_these_codes_do_not_have(modifier: str) -> None:
    row: dict[str, Any] = {"from": "2026-01-01", "codes": "all", "covered": "yes", "modifiers": [modifier]}
    table = {"payer": "acme", "label": "Acme", "coverage": [row], "last_checked": "2026-11-22"}
    with pytest.raises(msgspec.ValidationError, match=f"modifier {modifier}"):
        msgspec.convert(table, PayerRule)


def test_what_only_a_missing_permission_asks_is_known_apart() -> None:
    refused = tuple(Missing(one, MissingWhy.NOT_GRANTED) for one in ("ChargeItem", "Procedure", "Consent"))
    record = read(HEP, missing=refused)
    told = for_want_of_permission(record, MEDICARE, AS_OF, assess(record, MEDICARE, AS_OF))
    (device,) = [entries for key, entries in told.items() if key.startswith("98977-2026-03")]
    assert device == {Unverified.PRIOR_CHARGES, Unverified.GLOBAL_PERIOD, Unverified.CONSENT}
    whole = read(HEP)
    assert for_want_of_permission(whole, MEDICARE, AS_OF, assess(whole, MEDICARE, AS_OF)) == {}
    cut = read(HEP, missing=(Missing("Procedure", MissingWhy.CUT_OFF),))
    assert for_want_of_permission(cut, MEDICARE, AS_OF, assess(cut, MEDICARE, AS_OF)) == {}
