"""What two people do at the same moment: one of them is refused, whoever comes second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from threading import Barrier

import pytest
from msgspec import structs

from fhir_mappings.time_log import LoggedTime
from fhir_mappings.vocabulary import Activity, Program
from smartapp.store.time_log import EntryContent, EntryState, Unless

ISSUER, PERSON, AS_A_ROLE = "general", "Practitioner/d1", "PractitionerRole/r1"
NAMES = frozenset({PERSON, AS_A_ROLE})
START = datetime(2026, 3, 10, 15, 0, tzinfo=UTC)


def content(person=PERSON):
    return EntryContent(
        logged=LoggedTime(
            start=START,
            end=START + timedelta(minutes=20),
            person=person,
            person_name="",
            role=None,
            activity=Activity.PHONE_CALL,
            program=Program.RTM,
            live=True,
            day=None,
        ),
        by=person,
    )


def signed(store, patient, entry, now, unless, person=PERSON):
    return store.time_log.append(
        ISSUER, patient, entry, 1, EntryState.SIGNED, content(person), now, "time-signed", unless
    )


def at_once(*acts):
    barrier = Barrier(len(acts))

    def act(one):
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(act, acts))


@pytest.mark.parametrize("other", [PERSON, AS_A_ROLE])
def test_the_same_minutes_signed_for_two_patients_at_once_count_for_one(store, now, other):
    first = store.time_log.enter(ISSUER, "p1", content(), now)
    second = store.time_log.enter(ISSUER, "p2", content(other), now)
    unless = Unless(elsewhere=NAMES)
    done = at_once(
        lambda: signed(store, "p1", first, now, unless),
        lambda: signed(store, "p2", second, now, unless, other),
    )
    assert sorted(done) == [False, True]


def test_of_certifying_and_signing_at_once_one_is_refused(store, now):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    seen = store.months.seen(ISSUER, "p1")
    month = date(2026, 3, 1)
    done = at_once(
        lambda: signed(store, "p1", entry, now, Unless(certified=(month,))),
        lambda: store.months.certify(ISSUER, "p1", month, PERSON, "", now, seen),
    )
    assert sorted(done) == [False, True]


def appended(store, entry, now, state, event, minutes=20, days=(date(2026, 3, 10),)):
    """What somebody does to the first version of an entry."""
    said = content()
    logged = structs.replace(said.logged, end=START + timedelta(minutes=minutes))
    return store.time_log.append(
        *(ISSUER, "p1", entry, 1, state, structs.replace(said, logged=logged), now, event),
        Unless(certified=days),
    )


def test_of_two_corrections_at_once_one_is_refused_and_the_other_is_whole(store, now):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    lengths = (21, 22)
    done = at_once(
        *(
            partial(appended, store, entry, now, EntryState.DRAFT, "time-corrected", minutes)
            for minutes in lengths
        )
    )
    assert sorted(done) == [False, True]
    found = store.time_log.get(ISSUER, "p1", entry)
    assert len(found.versions) == 2
    assert found.latest.content.logged.seconds == 60 * lengths[done.index(True)]
    assert [one["event"] for one in store.audit.entries()].count("time-corrected") == 1


@pytest.mark.parametrize(
    ("state", "event"),
    [(EntryState.DRAFT, "time-corrected"), (EntryState.WITHDRAWN, "time-withdrawn")],
)
def test_of_signing_and_correcting_or_withdrawing_one_version_at_once_one_is_refused(
    store, now, state, event
):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    done = at_once(
        lambda: signed(store, "p1", entry, now, Unless(certified=(date(2026, 3, 10),), elsewhere=NAMES)),
        lambda: appended(store, entry, now, state, event),
    )
    assert sorted(done) == [False, True]
    assert store.time_log.get(ISSUER, "p1", entry).counts is done[0]


@pytest.mark.parametrize(
    ("state", "event"),
    [(EntryState.DRAFT, "time-corrected"), (EntryState.WITHDRAWN, "time-withdrawn")],
)
def test_of_certifying_and_correcting_or_withdrawing_at_once_one_is_refused(store, now, state, event):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    seen, month = store.months.seen(ISSUER, "p1"), date(2026, 3, 1)
    done = at_once(
        lambda: appended(store, entry, now, state, event),
        lambda: store.months.certify(ISSUER, "p1", month, PERSON, "", now, seen),
    )
    assert sorted(done) == [False, True]


def test_a_certified_month_takes_no_new_entry_no_correction_and_no_withdrawal(store, now):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    assert store.months.certify(ISSUER, "p1", date(2026, 3, 1), PERSON, "", now)
    days = (date(2026, 3, 10),)
    assert store.time_log.enter(ISSUER, "p1", content(), now, Unless(certified=days)) is None
    assert not appended(store, entry, now, EntryState.DRAFT, "time-corrected")
    assert not appended(store, entry, now, EntryState.WITHDRAWN, "time-withdrawn")
    assert len(store.time_log.get(ISSUER, "p1", entry).versions) == 1


def test_a_month_that_was_certified_meanwhile_takes_no_signature(store, now):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    assert store.months.certify(ISSUER, "p1", date(2026, 3, 1), PERSON, "", now)
    assert not signed(store, "p1", entry, now, Unless(certified=(date(2026, 3, 10),)))
