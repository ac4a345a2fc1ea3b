"""The pages of billing as somebody sees them: narrow, dark, by keyboard, by ear."""

from __future__ import annotations

from datetime import date

import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from smartapp.configuration.handover import Method
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialContent, Denied
from tests.smartapp.test_accessible import PATIENT, chart_of, look
from tests.support.months import keep_charge

pytestmark = pytest.mark.browser
__all__ = ["look"]

KEYS = [f"{number:040x}" for number in range(60)]
STATES = (
    (ChargeState.CONFIRMED, Method.CHARGE_ITEM),
    (ChargeState.UNKNOWN, Method.CHARGE_ITEM),
    (ChargeState.TO_ENTER, Method.WORKSHEET),
    (ChargeState.HANDED_OVER, Method.TASK),
)


def fill(world):
    """A month with charges of many patients in several states, of which one is denied."""
    now = world.now()
    for number, key in enumerate(KEYS):
        state, method = STATES[number % 4]
        keep_charge(
            world.store,
            key,
            now,
            patient=PATIENT if number % 5 == 0 else f"syn-{number}",
            code=("98980", "98977", "98981")[number % 3],
            day=date(2026, 3, 1 + number % 31),
            payer=("medicare", "aetna", "unknown")[number % 3],
            state=state,
            method=method,
        )
    denied = Denied(f"{IDENTIFIER_SYSTEM}|{KEYS[0]}", date(2026, 4, 8), "50", "N115")
    by = DenialContent("Practitioner/syn-physician", "Synthetic Physician", "Synthetic words of a payer.")
    world.store.denials.record([denied], by, now)


def test_a_month_a_charge_and_its_denials(make_world, window, look):
    world = make_world(site_more="permissions: {bill: [physician]}\n")
    fill(world)
    app = chart_of(world, window, PATIENT)
    at = app.url
    for name, path in (
        ("a month", "billing/2026-03"),
        ("a month without charges", "billing/2025-01"),
        ("a charge and its denials", f"denials/charge/{KEYS[0]}"),
        ("denials of a month", "denials/month/2026-03"),
    ):
        app.goto(f"{at}{path}")
        look.at(app, name)
