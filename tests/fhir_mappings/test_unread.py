"""What the EHR would not let us read is no absence (D17, D6)."""

from __future__ import annotations

import json
from datetime import date
from zoneinfo import ZoneInfo

import pytest

from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Missing, MissingWhy
from fhir_mappings.decision import Decision
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.policy import load_policy
from fhir_mappings.terminology import load_terminology
from fhir_mappings.vocabulary import Unverified
from tests.support.chart import build_resources, site_terminology

AS_OF = date(2026, 4, 10)
GIVEN = [
    {"setup": {"at": "2026-03-01T07:00", "for": "10:00", "by": "nurse", "program": "rpm"}},
    {"days": {"of": "BP", "device": "cuff", "from": "2026-03-02", "count": "16"}},
    {"call": {"at": "2026-03-10T10:00", "for": "22:00", "by": "nurse", "program": "rpm"}},
]


def decisions(*unread: str) -> tuple[Decision, ...]:
    chart = Chart(load_terminology(site_terminology()), ZoneInfo("America/New_York"), AS_OF)
    for kind in unread:
        chart.add_missing(Missing(kind, MissingWhy.REFUSED))
    for resource in build_resources(GIVEN, "America/New_York"):
        if resource["resourceType"] not in unread:
            chart.add(json.dumps(resource).encode())
    return assess(chart.record("Patient/p1"), load_policy("medicare"), AS_OF).decisions


def test_where_prior_charges_cannot_be_read_every_decision_asks_for_them_d17() -> None:
    found = decisions("ChargeItem")
    assert len(found) >= 4
    assert all(Unverified.PRIOR_CHARGES in decision.unverified for decision in found)


def test_where_they_can_be_read_none_asks() -> None:
    assert not any(Unverified.PRIOR_CHARGES in decision.unverified for decision in decisions())


@pytest.mark.parametrize("code", ["99454", "99453"])
def test_where_encounters_cannot_be_read_nobody_knows_whether_the_readings_were_taken_at_home(
    code: str,
) -> None:
    (found,) = (decision for decision in decisions("Encounter") if decision.code == code)
    assert Unverified.IN_FACILITY in found.unverified
