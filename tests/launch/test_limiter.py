"""How hard one EHR is asked: at a time, a minute, and not at all while it rests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from launch.errors import HttpError, HttpProblem
from launch.limiter import IssuerLimiter, Pause, PauseKind
from tests.support.fast_time import FastTime
from tests.support.sandbox import LONG


@pytest.fixture
def watch(monkeypatch):
    watch = FastTime()
    monkeypatch.setattr("launch.limiter.time", watch)
    return watch


def test_never_more_than_so_many_requests_are_under_way():
    limiter = IssuerLimiter(3, 1000)
    changed, under_way, most = threading.Condition(), 0, 0

    def work(_: int) -> None:
        nonlocal under_way, most
        with limiter.slot(time.monotonic() + LONG):
            with changed:
                under_way += 1
                most = max(most, under_way)
                changed.notify_all()
                changed.wait_for(lambda: most >= 3, LONG)
            time.sleep(0.005)
            with changed:
                under_way -= 1

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(40)))
    assert most == 3


def test_no_chart_that_is_read_keeps_anybody_from_signing_in(watch):
    limiter = IssuerLimiter(2, 3)
    for _ in range(3):
        with limiter.slot(watch.monotonic() + 1):
            pass
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 1):
        pass
    with limiter.slot(watch.monotonic() + 1, sign_in=True):
        pass


def test_what_signing_in_takes_of_the_minute_reading_does_without(watch):
    limiter = IssuerLimiter(2, 3)
    for _ in range(2):
        with limiter.slot(watch.monotonic() + 1, sign_in=True):
            pass
    with limiter.slot(watch.monotonic() + 1):
        pass
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 1):
        pass


def test_signing_in_has_slots_of_its_own_and_no_more(watch):
    limiter = IssuerLimiter(1, 10)
    with (
        limiter.slot(watch.monotonic() + 1),
        limiter.slot(watch.monotonic() + 1, sign_in=True),
        pytest.raises(HttpError),
        limiter.slot(watch.monotonic(), sign_in=True),
    ):
        pass


def test_a_pause_says_why_and_for_how_long(watch):
    limiter = IssuerLimiter(1, 1)
    assert limiter.pause is None
    with limiter.slot(watch.monotonic() + 1):
        pass
    assert limiter.pause == Pause(PauseKind.BUDGET, pytest.approx(60.0, abs=1))
    limiter.rest(90.0)
    assert limiter.pause == Pause(PauseKind.ASKED, pytest.approx(90.0, abs=1))


def test_who_waits_is_let_in_as_soon_as_a_slot_is_free():
    limiter = IssuerLimiter(1, 1000)
    entered = threading.Event()

    def wait() -> None:
        with limiter.slot(time.monotonic() + LONG):
            entered.set()

    with limiter.slot(time.monotonic() + 1):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not entered.wait(0.05)
    assert entered.wait(LONG)
    waiting.join()


def test_a_slot_is_given_back_after_an_error_too():
    limiter = IssuerLimiter(1, 1000)
    with pytest.raises(ZeroDivisionError), limiter.slot(time.monotonic() + 1):
        raise ZeroDivisionError
    with limiter.slot(time.monotonic() + 0.1):
        pass


def test_who_gets_no_slot_in_time_is_told_that_the_ehr_is_busy():
    limiter = IssuerLimiter(1, 1000)
    with (
        limiter.slot(time.monotonic() + 1),
        pytest.raises(HttpError) as caught,
        limiter.slot(time.monotonic() + 0.05),
    ):
        raise AssertionError("a second slot was given out")
    assert caught.value.problem is HttpProblem.BUSY
    assert not caught.value.maybe_acted


def test_the_budget_of_a_minute_is_the_last_sixty_seconds(watch):
    limiter = IssuerLimiter(10, 2)
    for _ in range(2):
        with limiter.slot(watch.monotonic() + 1):
            pass
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 30):
        raise AssertionError("a third request within the minute")
    watch.ahead += 59
    with pytest.raises(HttpError), limiter.slot(watch.monotonic()):
        raise AssertionError("a third request within the minute")
    watch.ahead += 1.01
    with limiter.slot(watch.monotonic()):
        pass


def test_a_rest_ends_and_a_shorter_one_does_not_cut_it(watch):
    limiter = IssuerLimiter(10, 1000)
    limiter.rest(10)
    limiter.rest(1)
    watch.ahead += 9.5
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 0.1):
        raise AssertionError("a request while the EHR rests")
    watch.ahead += 0.6
    with limiter.slot(watch.monotonic() + 0.1):
        pass
