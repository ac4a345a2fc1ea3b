"""What two people do at the same moment: one of them is refused, whoever comes second."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier

import pytest

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
    seen = store.time_log.position(ISSUER, "p1")
    month = date(2026, 3, 1)
    done = at_once(
        lambda: signed(store, "p1", entry, now, Unless(certified=(month,))),
        lambda: store.months.certify(ISSUER, "p1", month, PERSON, "", now, seen),
    )
    assert sorted(done) == [False, True]


def test_a_month_that_was_certified_meanwhile_takes_no_signature(store, now):
    entry = store.time_log.enter(ISSUER, "p1", content(), now)
    assert store.months.certify(ISSUER, "p1", date(2026, 3, 1), PERSON, "", now)
    assert not signed(store, "p1", entry, now, Unless(certified=(date(2026, 3, 10),)))
