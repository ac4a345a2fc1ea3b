"""What payers denied: recorded once, followed up and taken back visibly, and gone with its charge."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import msgspec
import pytest

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from fhir_mappings.reconciliation import ChangeKind
from smartapp.store.billing import MonthFilter
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.denials import Added, DenialContent, DenialState, Denied
from smartapp.store.retention import Retention
from tests.support.filled_store import a_change, a_charge, content_of

BY = DenialContent("Practitioner/7", "Avery", "Synthetic words of a payer.")
FROM_FILE = DenialContent("", "", "", "file")
MAY = date(2026, 5, 4)
MARCH = MonthFilter("general", date(2026, 3, 1))


def evidence(payer: str = "medicare", day: str = "2026-03-31") -> bytes:
    return f'{{"payer": "{payer}", "decision": {{"service_date": "{day}"}}}}'.encode()


@pytest.fixture
def written(store, now, lease):
    """Keeps a charge, confirmed by the EHR unless it is told otherwise."""

    def write(
        number: int, state: ChargeState | None = None, keep_until: date = date(2999, 3, 31), **content
    ) -> Charge:
        told = {"evidence": evidence(), "resource": {"quantity": {"value": 2}}} | content
        charge = replace(a_charge(number, now), content=content_of("98979-2026-03-01", keep_until, **told))
        store.charges.claim(charge, "h", now, lease)
        if state is None:
            store.charges.confirm(charge, f"c{number}", now, b"packet")
        else:
            store.charges.mark(charge, "h", state, now)
        return charge

    return write


def only(store, charge):
    (found,) = store.denials.of_charges([charge.identifier])[charge.identifier]
    return found


def test_the_same_denial_twice_is_one_and_another_day_or_code_is_another(store, now, written):
    charge = written(1)
    denied = [Denied(charge.identifier, MAY, "50"), Denied(charge.identifier, MAY, "50")]
    assert store.denials.record(denied, FROM_FILE, now) == [Added.ADDED, Added.THERE]
    assert store.denials.record(denied, FROM_FILE, now) == [Added.THERE, Added.THERE]
    others = [
        Denied(charge.identifier, MAY + timedelta(days=1), "50"),
        Denied(charge.identifier, MAY, "97"),
        Denied(charge.identifier, MAY, "50", "N115"),
    ]
    assert store.denials.record(others, FROM_FILE, now) == [Added.ADDED] * 3
    assert len(store.denials.of_patient("general", "p1")) == 4


def test_what_never_left_and_what_nobody_knows_cannot_be_denied(store, now, written):
    refused = written(1, ChargeState.REFUSED)
    asked = [Denied(refused.identifier, MAY, "50"), Denied("urn:x|nobody", MAY, "50")]
    assert store.denials.record(asked, BY, now) == [Added.NOT_CHARGED] * 2
    other = written(2)
    assert store.denials.record([Denied(other.identifier, MAY, "50")], BY, now, "another-ehr") == [
        Added.NOT_CHARGED
    ]


def test_what_was_done_and_taking_it_back_are_versions_that_stay_visible(store, now, written):
    charge = written(1)
    store.denials.record([Denied(charge.identifier, MAY, "50")], BY, now)
    first = only(store, charge)
    assert store.denials.follow_up(first, DenialState.APPEALED, BY, now)
    assert not store.denials.follow_up(first, DenialState.CORRECTED, BY, now), "another came between"
    assert store.denials.denied_keys("general", "p1") == {charge.identifier}
    store.denials.follow_up(only(store, charge), DenialState.TAKEN_BACK, BY, now)
    assert store.denials.denied_keys("general", "p1") == frozenset()
    assert [one.state for one in store.denials.history(charge.identifier)] == [
        DenialState.OPEN,
        DenialState.APPEALED,
        DenialState.TAKEN_BACK,
    ]
    events = [entry["event"] for entry in store.audit.entries() if entry["event"].startswith("denial-")]
    assert events == ["denial-recorded", "denial-followed-up", "denial-taken-back"]


def test_a_file_read_again_does_not_bring_back_what_somebody_took_back(store, now, written):
    charge = written(1)
    denied = [Denied(charge.identifier, MAY, "50")]
    store.denials.record(denied, FROM_FILE, now)
    store.denials.follow_up(only(store, charge), DenialState.TAKEN_BACK, BY, now)
    assert store.denials.record(denied, FROM_FILE, now) == [Added.WAS_TAKEN_BACK]
    assert store.denials.record(denied, BY, now) == [Added.ADDED], "a person may"
    assert only(store, charge).stands


def test_a_note_is_sealed(store, owner, now, written):
    charge = written(1)
    store.denials.record([Denied(charge.identifier, MAY, "50")], BY, now)
    assert b"Synthetic words" not in owner.stored()
    assert only(store, charge).content == BY


def test_denials_are_counted_by_reason_and_payer(store, now, written):
    first, second, third = written(1), written(2), written(3, evidence=evidence("aetna"))
    denied = [Denied(one.identifier, MAY, "50") for one in (first, second, third)]
    store.denials.record(denied, BY, now)
    store.denials.follow_up(only(store, second), DenialState.APPEALED, BY, now)
    counts = store.denials.counts("general", date(2026, 3, 1), date(2026, 3, 31))
    assert [(one.reason, one.payer, one.charges, one.open) for one in counts] == [
        ("50", "medicare", 2, 1),
        ("50", "aetna", 1, 1),
    ]
    store.denials.follow_up(only(store, third), DenialState.TAKEN_BACK, BY, now)
    assert len(store.denials.counts("general", date(2026, 3, 1), date(2026, 3, 31))) == 1
    assert store.denials.counts("general", date(2026, 4, 1), date(2026, 4, 30)) == ()


def test_a_denial_goes_with_its_charge_and_not_before(store, now, written):
    kept, past = written(1), written(2, keep_until=date(2020, 3, 31))
    store.denials.record([Denied(one.identifier, MAY, "50") for one in (kept, past)], BY, now)
    assert Retention(store.database, store.vault, store.audit).purge(now, now).denials == 1
    assert [one.identifier for one in store.denials.of_patient("general", "p1")] == [kept.identifier]


# The month


def test_a_month_says_each_charge_with_its_way_person_payer_and_units(store, written):
    charge = written(1)
    (row,) = store.billing.rows(MARCH, 10)
    assert (row.identifier, row.units, row.payer, row.performer, row.method) == (
        charge.identifier,
        2,
        "medicare",
        "Practitioner/7",
        "charge-item",
    )
    assert store.billing.rows(replace(MARCH, first_day=date(2026, 4, 1)), 10) == ()
    assert store.billing.rows(replace(MARCH, issuer_id="another-ehr"), 10) == ()


def test_what_nobody_knows_or_waits_for_somebody_stands_first(store, now, written):
    written(1)
    denied = written(2)
    written(3, ChargeState.TO_ENTER)
    unknown = written(4, ChargeState.UNKNOWN)
    store.denials.record([Denied(denied.identifier, MAY, "50")], BY, now)
    found = store.billing.rows(MARCH, 10)
    assert [row.key for row in found] == ["4", "3", "2", "1"]
    assert [row.key for row in store.billing.rows(replace(MARCH, waiting=True), 10)] == ["4", "3", "2"]
    assert store.billing.count(replace(MARCH, denied=True)) == 1
    assert store.billing.rows(MARCH, 1, 1)[0].key == "3"
    assert found[0].identifier == unknown.identifier


def test_what_the_ehr_was_told_last_is_the_number_of_units(store, now, lease, written):
    written(1)
    change = a_change("c1", now)
    content = msgspec.structs.replace(change.content, after={"quantity": {"value": 3}})
    change = replace(change, kind=ChangeKind.UPDATE, content=content)
    store.changes.claim(change, "h", now, lease)
    store.changes.written(change, ChargeState.CONFIRMED, now, b"p", None, "charge-updated")
    (row,) = store.billing.rows(MARCH, 10)
    assert row.units == 3


def test_charges_of_an_earlier_version_are_counted_as_not_known_until_they_are_filled_in(
    store, owner, written
):
    written(1)
    owner.run("UPDATE outbox SET service_date = NULL, payer = NULL, method = NULL, units = NULL")
    assert store.billing.rows(MARCH, 10) == ()
    assert store.billing.undated("general") == 1
    assert store.billing.fill_in("general") == 1
    assert store.billing.undated("general") == 0
    (row,) = store.billing.rows(MARCH, 10)
    assert (row.payer, row.units, row.method) == ("medicare", 2, "charge-item")


def test_a_charge_is_found_by_its_whole_key_or_by_what_a_message_carries_of_it(store, now, lease):
    keys = ("a" * 12 + "1" * 20, "a" * 12 + "2" * 20, "b" * 32)
    for key in keys:
        charge = replace(a_charge(1, now), identifier=f"{IDENTIFIER_SYSTEM}|{key}")
        store.charges.claim(charge, "h", now, lease)
    assert store.billing.named("general", keys[0]).key == keys[0]
    assert store.billing.named("general", "b" * 12).key == "b" * 32
    assert store.billing.named("general", "a" * 12) is None, "it could be either"
    assert store.billing.named("general", "b" * 6) is None, "too little to name one"
    assert store.billing.named("another-ehr", keys[0]) is None
