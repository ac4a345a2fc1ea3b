"""The rows of changes and months: who gets to do it, what the database itself refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fhir_mappings.reconciliation import ChangeKind
from smartapp.store.chain import opened_of, seal_of, sealed_form
from smartapp.store.changes import ChangeContent, ChargeChange, change_id
from smartapp.store.charges import Charge
from smartapp.store.claims import ChargeState
from smartapp.store.tables import AUDIT
from smartapp.store.vault import SealBroken, place
from tests.smartapp.conftest import REFUSED
from tests.smartapp.test_at_once import at_once
from tests.support.filled_store import content_of

MARCH = date(2026, 3, 31)


@pytest.fixture
def change(now):
    content = ChangeContent(
        code="98979",
        before={"status": "planned"},
        before_version="1",
        before_etag='W/"1"',
        after={"status": "entered-in-error"},
        said="Secret words of a person.",
        days=(MARCH,),
        confirmed_by="Practitioner/7",
        session_id="s1",
        snapshot_id="n1",
        snapshot_sha256="0" * 64,
        keep_until=date(2999, 3, 31),
        evidence=b"{}",
    )
    return ChargeChange(
        change_id("general", "c1", "1"),
        "general",
        "p1",
        "c1",
        ChangeKind.WITHDRAW,
        ChargeState.PREPARED,
        None,
        now,
        content,
    )


@pytest.fixture
def charge(now):
    content = content_of("98979-2026-03-01", date(2999, 3, 31), service_date=MARCH)
    return Charge("urn:x|1", "general", "p1", "98979", ChargeState.PREPARED, None, None, now, content)


def test_two_who_change_one_version_share_a_row_and_one_of_them_waits(store, change, now, lease):
    other = replace(change, kind=ChangeKind.UPDATE)
    assert store.changes.claim(change, "one", now, lease)
    assert not store.changes.claim(other, "two", now, lease)
    assert store.changes.get("general", "p1", change.id).kind is ChangeKind.WITHDRAW


def test_another_version_is_another_change(change):
    assert change_id("general", "c1", "2") != change.id


def test_a_change_whose_holder_died_before_sending_may_be_begun_anew(store, change, now, lease):
    store.changes.claim(change, "one", now, lease)
    later = now + lease * 2
    assert store.changes.claim(replace(change, kind=ChangeKind.UPDATE), "two", later, lease)
    assert store.changes.get("general", "p1", change.id).kind is ChangeKind.UPDATE


def test_a_change_that_was_sent_keeps_its_content_whoever_takes_it_over(store, change, now, lease):
    store.changes.claim(change, "one", now, lease)
    assert store.changes.mark(change, "one", ChargeState.SENT, now, keep=True)
    assert store.changes.claim(replace(change, kind=ChangeKind.UPDATE), "two", now + lease * 2, lease)
    kept = store.changes.get("general", "p1", change.id)
    assert (kept.kind, kept.state) == (ChangeKind.WITHDRAW, ChargeState.SENT)


def test_who_lost_the_row_cannot_mark_it(store, change, now, lease):
    store.changes.claim(change, "one", now, lease)
    store.changes.claim(change, "two", now + lease * 2, lease)
    assert not store.changes.mark(change, "one", ChargeState.SENT, now)


def test_a_change_is_nobody_elses_patients(store, change, now, lease):
    store.changes.claim(change, "one", now, lease)
    assert store.changes.get("general", "p2", change.id) is None
    assert store.changes.get("other", "p1", change.id) is None


def done(store, change, now, lease):
    store.changes.claim(change, "one", now, lease)
    return store.changes.written(change, ChargeState.CONFIRMED, now, b"packet", None, "charge-taken-back")


def test_a_change_is_confirmed_once_with_its_packet_and_its_audit_entry(store, change, now, lease):
    assert done(store, change, now, lease)
    assert not store.changes.written(change, ChargeState.CONFIRMED, now, b"x", None, "charge-taken-back")
    assert store.changes.packet(change.id) == b"packet"
    assert [entry["event"] for entry in store.audit.entries()] == ["charge-taken-back"]


@pytest.mark.parametrize(
    "statement", ["UPDATE change_packets SET sha256 = 'x'", "DELETE FROM change_packets"]
)
def test_the_database_refuses_to_rewrite_or_remove_a_packet(store, change, now, lease, statement):
    done(store, change, now, lease)
    with pytest.raises(DBAPIError, match=REFUSED), store.database.write() as connection:
        connection.execute(text(statement))


def test_what_a_person_typed_is_readable_nowhere_in_the_tables(store, change, now, lease, owner):
    done(store, change, now, lease)
    store.months.certify("general", "p1", MARCH, "Practitioner/7", "Avery", now)
    store.months.reopen("general", "p1", MARCH, "Practitioner/7", "Avery", "Secret words too.", now)
    assert b"Secret words" not in owner.stored()


def test_what_a_person_typed_is_kept_with_its_audit_entry_and_shown_by_no_reading_of_the_trail(
    store, change, now, lease, owner
):
    done(store, change, now, lease)
    [entry] = store.audit.entries()
    assert "Secret words" not in str(entry)
    assert len(entry["said_digest"]) == 64
    assert store.audit.words(entry["position"]) == {"said": "Secret words of a person."}
    with store.audit.whole() as (links, _):
        assert all("Secret words" not in link.entry for link in links)


def test_words_that_an_entry_does_not_vouch_for_are_not_given_out(store, change, now, lease, owner):
    done(store, change, now, lease)
    [link] = store.audit.links()
    content = store.vault.unseal_text(seal_of(link.entry), place(AUDIT.c.entry, {"position": 1}))
    forged = store.vault.seal_text(content.replace("Secret", "Other"), place(AUDIT.c.entry, {"position": 1}))
    owner.drop_guards("audit")
    owner.run(f"UPDATE audit SET entry = '{sealed_form(opened_of(content), forged)}'")
    with pytest.raises(SealBroken):
        store.audit.words(1)


def test_an_entry_without_words_or_emptied_has_none(store, change, now, lease):
    store.audit.add(now, "chart-opened")
    assert store.audit.words(1) == {}
    done(store, change, now, lease)
    store.audit.empty(now + timedelta(days=1), now)
    assert store.audit.words(2) == {}
    assert store.audit.check().fault is None


# Months


def test_a_month_is_closed_for_every_day_of_it_and_for_no_other(store, now):
    assert store.months.certify("general", "p1", MARCH, "Practitioner/7", "", now)
    certified = store.months.certified
    assert certified("general", "p1", [date(2026, 3, 1)]) == date(2026, 3, 1)
    assert certified("general", "p1", [date(2026, 2, 28), date(2026, 4, 1)]) is None
    assert certified("general", "p2", [MARCH]) is None
    assert certified("other", "p1", [MARCH]) is None


def test_certifying_and_reopening_twice_changes_nothing_the_second_time(store, now):
    assert not store.months.reopen("general", "p1", MARCH, "Practitioner/7", "", "Nothing.", now)
    assert store.months.certify("general", "p1", MARCH, "Practitioner/7", "", now)
    assert not store.months.certify("general", "p1", MARCH, "Practitioner/8", "", now)
    assert store.months.reopen("general", "p1", MARCH, "Practitioner/8", "", "Late call.", now)
    (month,) = store.months.of_patient("general", "p1").values()
    assert (month.certified, month.by, month.reason) == (False, "Practitioner/8", "Late call.")


def test_a_month_that_is_certified_between_the_last_look_and_the_write_stops_it(
    store, change, charge, now, lease
):
    store.changes.claim(change, "one", now, lease)
    store.charges.claim(charge, "one", now, lease)
    store.months.certify("general", "p1", MARCH, "Practitioner/7", "", now)
    assert not store.changes.mark(change, "one", ChargeState.SENT, now, keep=True, unless_certified=[MARCH])
    assert not store.charges.mark(charge, "one", ChargeState.SENT, now, keep=True, unless_certified=[MARCH])
    assert store.charges.get(charge.identifier).state is ChargeState.PREPARED
    assert store.charges.mark(
        charge, "one", ChargeState.SENT, now, unless_certified=[MARCH + timedelta(days=1)]
    )


def test_of_certifying_and_sending_at_once_one_is_refused(store, charge, now, lease):
    store.charges.claim(charge, "one", now, lease)
    seen = store.months.seen("general", "p1")
    done = at_once(
        lambda: store.charges.mark(charge, "one", ChargeState.SENT, now, keep=True, unless_certified=[MARCH]),
        lambda: store.months.certify("general", "p1", MARCH, "Practitioner/7", "", now, seen),
    )
    assert sorted(done) == [False, True]


# A second person


def test_of_two_who_approve_at_once_one_does(store, charge, now, lease):
    store.charges.claim(charge, "one", now, lease)
    store.charges.mark(charge, "one", ChargeState.AWAITING, now)
    seen = store.charges.get(charge.identifier)
    assert store.charges.claim_approval(seen, "two", now, lease)
    assert not store.charges.claim_approval(seen, "three", now, lease)
    assert not store.charges.mark(charge, "three", ChargeState.DECLINED, now)


def test_what_awaits_approval_cannot_be_taken_by_accepting_again(store, charge, now, lease):
    store.charges.claim(charge, "one", now, lease)
    store.charges.mark(charge, "one", ChargeState.AWAITING, now)
    assert not store.charges.claim(charge, "one", now + lease * 5, lease)
