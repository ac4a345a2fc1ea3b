"""The requests of a minute are one EHR's, whichever process makes them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from launch.limiter import Turn
from smartapp.store.budgets import SharedBudget
from smartapp.store.database import Database


@pytest.fixture
def clock():
    clock = SimpleNamespace(moment=datetime(2026, 4, 15, 16, tzinfo=UTC))
    clock.now = lambda: clock.moment
    return clock


def taken(budget, turn, per_minute=240):
    """As many as there are."""
    count = 0
    while lease := budget.take("hospital", per_minute, turn):
        if lease.count == 0:
            return count, lease
        count += lease.count
    raise AssertionError("a lease is always told")


def test_two_processes_share_the_minute(store, database_url, clock):
    with closing(Database(database_url)) as other:
        one, two = SharedBudget(store.database, clock), SharedBudget(other, clock)
        assert one.take("hospital", 240, Turn.FIRST).count == 8
        assert taken(two, Turn.FIRST)[0] == 240 - 24 - 8
        assert taken(one, Turn.FIRST)[0] == 0
        assert one.take("another", 240, Turn.FIRST).count == 8


def test_what_is_pressed_still_goes_and_nobody_else_gets_it(store, clock):
    budget = SharedBudget(store.database, clock)
    assert taken(budget, Turn.BULK)[0] == 240 - 48
    assert taken(budget, Turn.FIRST)[0] == 24
    assert budget.take("hospital", 240, Turn.PRESSED).count == 1
    assert taken(budget, Turn.PRESSED)[0] == 23
    assert budget.take("hospital", 240, Turn.SIGN_IN).count == 1


def test_after_a_minute_there_are_requests_again(store, clock):
    budget = SharedBudget(store.database, clock)
    _, lease = taken(budget, Turn.FIRST)
    assert 60 <= lease.wait <= 62
    clock.moment += timedelta(seconds=lease.wait + 0.01)
    assert taken(budget, Turn.FIRST)[0] == 216


def test_a_clock_that_is_set_back_keeps_nobody_waiting(store, clock):
    budget = SharedBudget(store.database, clock)
    taken(budget, Turn.FIRST)
    clock.moment -= timedelta(hours=1)
    assert budget.take("hospital", 240, Turn.FIRST).count == 8


def test_processes_that_take_at_once_get_no_more_than_there_are(store, clock):
    budget = SharedBudget(store.database, clock)
    with ThreadPoolExecutor(4) as pool:
        leases = list(pool.map(lambda _: budget.take("hospital", 240, Turn.FIRST).count, range(40)))
    assert sum(leases) == 216
