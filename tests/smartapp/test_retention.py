"""What the retention rule removes: what is past its time, nothing within it; and the guards stand again."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from fhir_mappings.local_time import Window
from fhir_mappings.reconciliation import ChangeKind
from fhir_mappings.time_log import LoggedTime
from fhir_mappings.vocabulary import Program, Unverified
from smartapp.store import Store
from smartapp.store.attestations import (
    EPISODE,
    SETTLED,
    STATED,
    ConfirmedEpisode,
    Settlement,
    Statement,
)
from smartapp.store.changes import ChangeContent, ChargeChange, change_id
from smartapp.store.charges import Charge, Enrolment
from smartapp.store.claims import ChargeState
from smartapp.store.retention import PastItsTime, Retention
from smartapp.store.tables import (
    ATTESTATIONS,
    AUDIT,
    AUDIT_HEAD,
    CHARGE_CHANGES,
    ENROLMENTS,
    METADATA,
    MONTHS,
    OUTBOX,
    RUNNING_CLOCKS,
    TIME_ENTRIES,
)
from smartapp.store.time_log import EntryContent, EntryState
from smartapp.store.vault import Vault
from smartapp.store.worklist import MarkKind, NewMark
from tests.smartapp.conftest import REFUSED
from tests.support.filled_store import content_of

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
CUTOFF = datetime(2019, 4, 1, 12, tzinfo=UTC)
"""Seven years before."""
OLD = CUTOFF - timedelta(seconds=1)
YOUNG = CUTOFF + timedelta(seconds=1)
LEASE = timedelta(seconds=20)
DAY = timedelta(days=1)


@pytest.fixture
def retention(store: Store) -> Retention:
    return Retention(store.database, store.vault, store.audit)


def count(store: Store, table) -> int:
    with store.database.read() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def contents(store: Store) -> dict[str, int]:
    """How many rows each table has, the trail's aside."""
    tables = (table for table in METADATA.sorted_tables if table not in (AUDIT, AUDIT_HEAD))
    return {table.name: found for table in tables if (found := count(store, table))}


# Charges and changes without a packet


def claimed(store: Store, at: datetime, keep_until: date, name: str = "1") -> Charge:
    content = content_of("98977-2019-03-01", keep_until)
    charge = Charge(f"urn:x|{name}", "general", "p1", "98977", ChargeState.PREPARED, None, None, at, content)
    assert store.charges.claim(charge, "h", at, LEASE)
    return charge


def leave_in(store: Store, charge: Charge, state: ChargeState, at: datetime) -> None:
    """The charge ends in this state without having been written."""
    assert store.charges.mark(charge, "h", state, at, "no")
    assert store.charges.get(charge.identifier).state is state


UNWRITTEN = (ChargeState.REFUSED, ChargeState.DECLINED, ChargeState.UNKNOWN, ChargeState.AWAITING)


@pytest.mark.parametrize("state", UNWRITTEN)
def test_a_charge_that_was_never_written_goes_when_its_day_is_over_and_not_on_it(store, retention, state):
    for name, until in (("over", NOW.date() - DAY), ("last", NOW.date())):
        leave_in(store, claimed(store, OLD, until, name), state, OLD)
    assert retention.purge(NOW, CUTOFF).charges == 1
    assert store.charges.get("urn:x|over") is None
    assert store.charges.get("urn:x|last").state is state


def test_of_a_charge_from_before_its_day_was_kept_the_day_it_was_made_counts(store, retention):
    for name, made in (("old", OLD), ("young", YOUNG)):
        leave_in(store, claimed(store, made, date(2020, 1, 1), name), ChargeState.REFUSED, made)
    with store.database.write() as connection:
        connection.execute(update(OUTBOX).values(keep_until=None))
    assert retention.purge(NOW, CUTOFF).charges == 1
    assert store.charges.get("urn:x|young") is not None


def test_a_charge_accepted_anew_is_kept_for_its_new_day(store, retention):
    charge = claimed(store, OLD, NOW.date() - DAY)
    leave_in(store, charge, ChargeState.REFUSED, OLD)
    claimed(store, OLD + LEASE, NOW.date() + DAY)
    assert retention.purge(NOW, CUTOFF).charges == 0


def test_a_charge_that_somebody_is_writing_now_is_left_alone(store, retention):
    claimed(store, NOW, NOW.date() - DAY)
    assert retention.purge(NOW, CUTOFF).charges == 0
    assert retention.purge(NOW + LEASE, CUTOFF).charges == 1


def changed(store: Store, state: ChargeState, keep_until: date, version: str) -> ChargeChange:
    content = ChangeContent(
        code="98979",
        before={},
        before_version=version,
        before_etag=None,
        after={},
        said="Words.",
        days=(date(2019, 3, 31),),
        confirmed_by="Practitioner/7",
        session_id="s1",
        snapshot_id="n1",
        snapshot_sha256="0" * 64,
        keep_until=keep_until,
        evidence=b"{}",
    )
    id_ = change_id("general", "c1", version)
    change = ChargeChange(
        id_, "general", "p1", "c1", ChangeKind.UPDATE, ChargeState.PREPARED, None, OLD, content
    )
    assert store.changes.claim(change, "h", OLD, LEASE)
    if state is ChargeState.CONFIRMED:
        store.changes.written(change, state, OLD, b"packet", None, "charge-updated")
    else:
        store.changes.mark(change, "h", state, OLD, "no")
    return change


@pytest.mark.parametrize(
    "state", [ChargeState.REFUSED, ChargeState.STALE, ChargeState.UNKNOWN, ChargeState.AWAITING]
)
def test_a_change_that_was_never_made_goes_when_its_day_is_over(store, retention, state):
    changed(store, state, NOW.date() - DAY, "1")
    young = changed(store, state, NOW.date(), "2")
    assert retention.purge(NOW, CUTOFF).charges == 1
    assert [change.id for change in store.changes.of_patient("general", "p1")] == [young.id]


def test_a_written_charge_goes_with_its_packet_and_stays_while_a_change_of_it_is_kept(store, retention):
    charge = claimed(store, OLD, NOW.date() - DAY)
    store.charges.confirm(charge, "c1", OLD, b"packet")
    changed(store, ChargeState.CONFIRMED, NOW.date() + DAY, "1")
    first = retention.purge(NOW, CUTOFF)
    assert (first.packets, first.charges) == (1, 0)
    assert store.charges.get(charge.identifier) is not None
    second = retention.purge(NOW + 3 * DAY, CUTOFF)
    assert (second.packets, second.charges) == (1, 2)
    assert contents(store) == {}


# Logged time


def logged(store: Store, at: datetime, patient: str = "p1") -> str:
    time = LoggedTime(start=at - timedelta(minutes=20), end=at, person="Practitioner/7")
    return store.time_log.enter("general", patient, EntryContent(logged=time, by="Practitioner/7"), at)


def test_a_time_entry_goes_with_every_version_once_the_last_one_is_old(store, retention):
    old, corrected, young = logged(store, OLD), logged(store, OLD), logged(store, YOUNG)
    for entry, at in ((old, OLD), (corrected, YOUNG)):
        content = store.time_log.get("general", "p1", entry).latest.content
        store.time_log.append("general", "p1", entry, 1, EntryState.SIGNED, content, at, "time-signed")
    assert retention.purge(NOW, CUTOFF).time_entries == 1
    assert {entry.id for entry in store.time_log.of_patient("general", "p1")} == {corrected, young}
    assert len(store.time_log.get("general", "p1", corrected).versions) == 2


def test_more_entries_than_one_statement_can_name_go_all_at_once(store, retention, monkeypatch):
    monkeypatch.setattr("smartapp.store.retention._AT_ONCE", 2)
    for _ in range(5):
        logged(store, OLD)
    assert retention.purge(NOW, CUTOFF).time_entries == 5
    assert count(store, TIME_ENTRIES) == 0


def test_a_clock_that_was_forgotten_for_years_goes(store, retention):
    store.time_log.start_clock("general", "Practitioner/7", "p1", OLD)
    store.time_log.start_clock("general", "Practitioner/8", "p1", YOUNG)
    assert retention.purge(NOW, CUTOFF).clocks == 1
    assert store.time_log.clock_of("general", "Practitioner/8") is not None
    assert count(store, RUNNING_CLOCKS) == 1


def test_what_was_said_of_a_worklist_years_ago_goes(store, retention):
    for patient, at in (("p1", OLD), ("p2", YOUNG)):
        mark = NewMark(patient, MarkKind.CALLED, "Practitioner/7", "Avery", "d", 0)
        store.marks.set("general", mark, at, "s1")
    assert retention.purge(NOW, CUTOFF).marks == 1
    assert list(store.marks.of_issuer("general")) == ["p2"]


# Statements and episodes


BEFORE, AFTER = (CUTOFF - DAY).date(), CUTOFF.date()


def stated(store: Store, at: datetime, window: Window | None) -> str:
    content = Statement(statement=Unverified.CONSENT, window=window, by="Practitioner/7")
    return store.attestations.state("general", "p1", content, at)


def episode(store: Store, at: datetime, end: date | None) -> str:
    content = ConfirmedEpisode(
        program=Program.RTM, start=date(2018, 1, 1), end=end, source="chart", by="Practitioner/7"
    )
    return store.attestations.confirm_episode("general", "p1", content, at)


def settled(store: Store, at: datetime, window: Window | None, until: date | None) -> str:
    content = Settlement(
        resolves="payer-unknown", says="It accepts this.", window=window, until=until, by="Practitioner/7"
    )
    return store.attestations.settle("general", "p1", content, at)


@pytest.mark.parametrize(
    ("end", "until", "stays"),
    [
        (BEFORE, None, False),
        (AFTER, BEFORE, False),
        (None, BEFORE, False),
        (AFTER, AFTER, True),
        (None, None, True),
    ],
)
def test_what_was_settled_goes_when_its_last_day_is_past_and_stays_without_one(
    store: Store, end: date | None, until: date | None, stays: bool
) -> None:
    window = None if end is None else Window(date(2018, 1, 1), end)
    kept = settled(store, CUTOFF - DAY, window, until)
    Retention(store.database, store.vault, store.audit).purge(NOW, CUTOFF)
    assert [item.id for item in store.attestations.settlements("general", "p1")] == [kept] * stays


def revoke(store: Store, id_: str, at: datetime) -> None:
    by = ("general", "p1", id_, "Practitioner/7", "", at)
    assert any(store.attestations.revoke(*by, kind=kind) for kind in (STATED, EPISODE, SETTLED))


def window(end: date) -> Window:
    return Window(date(2018, 1, 1), end)


def test_a_statement_without_end_stays_until_it_was_taken_back_long_ago(store, retention):
    standing, revoked_late, revoked = (stated(store, OLD - DAY, None) for _ in range(3))
    revoke(store, revoked_late, YOUNG)
    revoke(store, revoked, OLD)
    assert retention.purge(NOW, CUTOFF).statements == 1
    assert {one.id for one in store.attestations.of_patient("general", "p1")} == {standing, revoked_late}
    assert count(store, ATTESTATIONS) == 3


def test_a_statement_about_a_period_goes_when_both_are_long_ago(store, retention):
    stated(store, OLD, window(BEFORE))
    ends_later = stated(store, OLD, window(AFTER))
    stated_later = stated(store, YOUNG, window(BEFORE))
    assert retention.purge(NOW, CUTOFF).statements == 1
    assert {one.id for one in store.attestations.of_patient("general", "p1")} == {ends_later, stated_later}


def test_an_episode_goes_when_it_ended_or_was_taken_back_long_ago_and_a_running_one_stays(store, retention):
    episode(store, OLD, BEFORE)
    revoke(store, episode(store, OLD - DAY, None), OLD)
    running, ends_later = episode(store, OLD, None), episode(store, OLD, AFTER)
    assert retention.purge(NOW, CUTOFF).statements == 2
    assert {one.id for one in store.attestations.episodes("general", "p1")} == {running, ends_later}
    assert count(store, ATTESTATIONS) == 2


def test_a_statement_that_no_key_opens_stays_and_is_told_and_the_rest_goes(store):
    kept = stated(store, OLD, window(BEFORE))
    logged(store, OLD)
    stranger = Retention(store.database, Vault([Fernet.generate_key()]), store.audit)
    found = stranger.purge(NOW, CUTOFF)
    assert (found.statements, found.unopened, found.time_entries) == (0, 1, 1)
    assert [one.id for one in store.attestations.of_patient("general", "p1")] == [kept]


# Months and enrolments


def test_a_certified_month_goes_when_it_is_over_and_was_certified_long_ago(store, retention):
    for month, at in (((2019, 3), OLD), ((2019, 4), OLD), ((2019, 2), YOUNG)):
        store.months.certify("general", "p1", date(*month, 1), "Practitioner/7", "", at)
    assert retention.purge(NOW, CUTOFF).months == 1
    assert set(store.months.of_patient("general", "p1")) == {date(2019, 4, 1), date(2019, 2, 1)}
    assert count(store, MONTHS) == 2


def enrol(store: Store, patient: str, at: datetime) -> None:
    store.charges.confirm_anchor(
        Enrolment("general", patient, "rtm", at.date(), "confirmed", "Practitioner/7", at, False)
    )


def test_an_enrolment_goes_when_nothing_rests_on_it_any_more(store, retention):
    enrol(store, "p1", OLD)
    enrol(store, "p2", OLD)
    enrol(store, "p3", YOUNG)
    charge = claimed(store, OLD, NOW.date())
    store.charges.confirm(charge, "c1", OLD, b"packet")
    logged(store, YOUNG, "p4")
    enrol(store, "p4", OLD)
    assert retention.purge(NOW, CUTOFF).enrolments == 1
    assert store.charges.enrolments("general", "p2") == {}
    assert count(store, ENROLMENTS) == 3


def test_the_enrolment_of_somebody_whose_last_packet_goes_goes_with_it(store, retention):
    enrol(store, "p1", OLD)
    charge = claimed(store, OLD, NOW.date() - DAY)
    store.charges.confirm(charge, "c1", OLD, b"packet")
    assert retention.purge(NOW, CUTOFF).enrolments == 1
    assert contents(store) == {}


# As a whole


def fill(store: Store, at: datetime, keep_until: date) -> None:
    """One of everything, made at that moment and about the day of it."""
    enrol(store, "p1", at)
    store.charges.confirm(claimed(store, at, keep_until, "1"), "c1", at, b"packet")
    leave_in(store, claimed(store, at, keep_until, "2"), ChargeState.UNKNOWN, at)
    changed(store, ChargeState.CONFIRMED, keep_until, "1")
    changed(store, ChargeState.REFUSED, keep_until, "2")
    logged(store, at)
    stated(store, at, window((at - DAY).date()))
    episode(store, at, (at - DAY).date())
    store.months.certify("general", "p1", (at - 40 * DAY).date(), "Practitioner/7", "", at)
    store.time_log.start_clock("general", "Practitioner/7", "p1", at)


ALL = PastItsTime(
    packets=2, charges=4, time_entries=1, statements=3, months=1, clocks=1, enrolments=1, audit_entries=0
)


def test_everything_past_its_time_goes_and_the_audit_trail_says_how_much(store, retention):
    fill(store, OLD, NOW.date() - DAY)
    emptied = store.audit.older_than(CUTOFF)
    assert retention.purge(NOW, CUTOFF) == replace(ALL, audit_entries=emptied)
    assert contents(store) == {}
    purged = next(entry for entry in store.audit.entries() if entry.get("event") == "records-purged")
    assert {name: purged[name] for name in asdict(ALL) if name in purged} == {
        name: number for name, number in asdict(ALL).items() if number
    }
    assert store.audit.check().fault is None


def test_nothing_within_its_time_is_touched(store, retention):
    fill(store, YOUNG, NOW.date())
    before = contents(store)
    assert retention.purge(NOW, CUTOFF) == PastItsTime()
    assert contents(store) == before
    assert "records-purged" not in {entry["event"] for entry in store.audit.entries()}


def test_a_dry_run_counts_the_same_and_removes_nothing(store, retention, owner):
    fill(store, OLD, NOW.date() - DAY)
    before, entries = contents(store), len(list(store.audit.entries()))
    counted = retention.past(NOW, CUTOFF)
    assert contents(store) == before
    assert len(list(store.audit.entries())) == entries
    with pytest.raises(DBAPIError, match=REFUSED):
        owner.run("DELETE FROM time_entries")
    assert retention.purge(NOW, CUTOFF) == counted


GUARDED_ROWS = ("time_entries", "attestations", "audit")


@pytest.mark.parametrize("table", GUARDED_ROWS)
def test_the_guards_stand_again_after_a_purge(store, retention, owner, table):
    fill(store, OLD, NOW.date() - DAY)
    retention.purge(NOW, CUTOFF)
    logged(store, NOW)
    stated(store, NOW, None)
    column = "state" if table != "audit" else "entry"
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {column} = ''"):
        with pytest.raises(DBAPIError, match=REFUSED):
            owner.run(statement)


@pytest.mark.parametrize("table", GUARDED_ROWS)
def test_the_guards_stand_again_when_a_purge_fails_half_way_and_nothing_is_gone(
    store, retention, owner, monkeypatch, table
):
    fill(store, OLD, NOW.date() - DAY)
    before = contents(store)

    def fails(*_: object) -> None:
        raise RuntimeError("the machine is gone")

    monkeypatch.setattr("smartapp.store.retention._nothing_rests_on_it", fails)
    with pytest.raises(RuntimeError):
        retention.purge(NOW, CUTOFF)
    assert contents(store) == before
    with pytest.raises(DBAPIError, match=REFUSED):
        owner.run(f"DELETE FROM {table}")


def test_a_purge_that_cannot_be_audited_is_undone(store, retention, monkeypatch):
    fill(store, OLD, NOW.date() - DAY)
    before = contents(store)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the trail takes no entry")

    monkeypatch.setattr(store.audit, "add_with", fails)
    with pytest.raises(RuntimeError):
        retention.purge(NOW, CUTOFF)
    assert contents(store) == before


def test_a_second_purge_finds_nothing(store, retention):
    fill(store, OLD, NOW.date() - DAY)
    retention.purge(NOW, CUTOFF)
    again = retention.purge(NOW, CUTOFF)
    assert again == PastItsTime()


def test_what_was_removed_is_not_left_in_the_file(store, retention, owner):
    fill(store, OLD, NOW.date() - DAY)
    with store.database.read() as connection:
        sealed = connection.execute(select(TIME_ENTRIES.c.sealed)).scalar_one()
    retention.purge(NOW, CUTOFF)
    assert bytes(sealed) not in owner.stored()


def test_rows_whose_day_was_never_kept_are_those_of_an_earlier_revision_alone(store):
    fill(store, YOUNG, NOW.date())
    for table in (OUTBOX, CHARGE_CHANGES):
        with store.database.read() as connection:
            unkept = select(func.count()).select_from(table).where(text("keep_until IS NULL"))
            assert connection.execute(unkept).scalar_one() == 0
