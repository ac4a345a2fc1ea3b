"""One EHR's waiting room is full before the house is."""

from __future__ import annotations

import pytest

from launch.errors import LaunchError, LaunchReason
from launch.seats import Seats


def test_one_who_finds_no_seat_is_told_so_and_may_come_again():
    seats = Seats(most=2)
    with seats.one("a"), seats.one("a"):
        with pytest.raises(LaunchError) as refused:
            seats.take("a")
        assert refused.value.reason is LaunchReason.EHR_BUSY
    seats.take("a")


def test_one_ehr_takes_no_seat_of_another():
    seats = Seats(most=1)
    with seats.one("a"), seats.one("b"):
        pass


def test_a_seat_is_given_back_after_an_error_too():
    seats = Seats(most=1)
    with pytest.raises(ZeroDivisionError), seats.one("a"):
        raise ZeroDivisionError
    seats.take("a")
