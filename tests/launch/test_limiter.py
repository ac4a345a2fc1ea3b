"""How hard one EHR is asked: at a time, a minute, and not at all while it rests."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from launch.errors import HttpError, HttpProblem
from launch.limiter import IssuerLimiter, Pause, PauseKind, Turn
from tests.support.fast_time import FastTime
from tests.support.sandbox import LONG
from tests.support.virtual_time import VirtualTime


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
    with limiter.slot(watch.monotonic() + 1, Turn.SIGN_IN):
        pass


def test_what_signing_in_takes_of_the_minute_reading_does_without(watch):
    limiter = IssuerLimiter(2, 3)
    for _ in range(2):
        with limiter.slot(watch.monotonic() + 1, Turn.SIGN_IN):
            pass
    with limiter.slot(watch.monotonic() + 1):
        pass
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 1):
        pass


def test_signing_in_waits_for_no_slot_and_for_no_rest_of_the_charts(watch):
    limiter = IssuerLimiter(1, 10)
    limiter.rest(50)
    with limiter.slot(watch.monotonic(), Turn.SIGN_IN), limiter.slot(watch.monotonic(), Turn.SIGN_IN):
        pass
    limiter.rest(50, Turn.SIGN_IN)
    with pytest.raises(HttpError), limiter.slot(watch.monotonic() + 10, Turn.SIGN_IN):
        raise AssertionError("asked to wait, and did not")


def test_a_tenth_of_the_minute_is_left_for_what_is_pressed_and_another_for_first_screens(watch):
    limiter = IssuerLimiter(4, 20)

    def begun(turn: Turn) -> int:
        for number in range(21):
            try:
                with limiter.slot(watch.monotonic(), turn):
                    pass
            except HttpError:
                return number
        raise AssertionError("more than there are in a minute")

    assert [begun(turn) for turn in (Turn.BULK, Turn.FIRST, Turn.PRESSED)] == [16, 2, 2]


def test_of_those_that_wait_the_most_urgent_goes_first():
    time_ = VirtualTime()
    with time_.patched():
        limiter = time_.of(IssuerLimiter(1, 1000))
        order: list[str] = []

        def ask(turn: Turn, after: float, name: str) -> None:
            time_.sleep(after)
            with limiter.slot(time_.now + 500, turn):
                order.append(name)
                time_.sleep(5)

        time_.run(
            [
                partial(ask, Turn.BULK, 0, "a page"),
                partial(ask, Turn.BULK, 1, "another page"),
                partial(ask, Turn.FIRST, 2, "a chart"),
                partial(ask, Turn.PRESSED, 3, "an accept"),
            ]
        )
    assert order == ["a page", "an accept", "a chart", "another page"]


def test_a_page_lets_others_before_it_for_twenty_seconds_at_most():
    time_ = VirtualTime()
    with time_.patched():
        limiter = time_.of(IssuerLimiter(1, 1000))
        at: list[float] = []

        def charts() -> None:
            for _ in range(20):
                with limiter.slot(time_.now + 500, Turn.FIRST):
                    time_.sleep(2)

        def page() -> None:
            time_.sleep(1)
            with limiter.slot(time_.now + 500, Turn.BULK):
                at.append(time_.now)

        time_.run([charts, charts, page])
    assert 1020 <= at[0] <= 1026


def test_a_chart_a_second_for_a_minute_at_240_requests_a_minute_refuses_nobody():
    """Each signs in with 2 requests and asks 16 for its chart, four charts at a time as in one process; the
    last one is pressed. In virtual time: an EHR that takes a tenth of a second."""
    time_ = VirtualTime()
    with time_.patched():
        limiter = time_.of(IssuerLimiter(4, 240))
        begun: list[float] = []
        waited: dict[Turn, float] = dict.fromkeys(Turn, 0.0)
        hands, opened = 4, 0

        def request(turn: Turn, seconds: float) -> None:
            asked = time_.now
            with limiter.slot(asked + seconds, turn):
                waited[turn] = max(waited[turn], time_.now - asked)
                if turn is not Turn.SIGN_IN:
                    begun.append(time_.now)
                time_.sleep(0.1)

        def chart(number: int) -> None:
            nonlocal hands, opened
            time_.sleep(number)
            for _ in range(2):
                request(Turn.SIGN_IN, 15)
            time_.wait_for(lambda: hands > 0)
            hands -= 1
            for _ in range(15):
                request(Turn.FIRST, 90)
            hands += 1
            time_.changed()
            opened += 1
            if number % 5 == 0:
                request(Turn.PRESSED, 90)

        time_.run([partial(chart, number) for number in range(60)])
    assert opened == 60
    assert waited[Turn.SIGN_IN] == 0
    assert max(sum(start <= one < start + 59.9 for one in begun) for start in begun) <= 240
    assert waited[Turn.PRESSED] < 15


def test_a_pause_says_why_and_for_how_long(watch):
    limiter = IssuerLimiter(1, 1)
    assert limiter.pause is None
    with limiter.slot(watch.monotonic() + 1, Turn.FIRST):
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
