"""Days on which a calendar plays tricks, and what is true of each: the tests go through them all."""

from __future__ import annotations

from datetime import date, datetime, time

from launch.sandbox.config import ZONE

DAYS = (
    date(2026, 1, 1),  # the first day of the codes for few days: last month is under the rules of 2025
    date(2026, 3, 8),  # the clocks go forward
    date(2026, 11, 1),  # the clocks go back; last month ended yesterday
    date(2026, 12, 1),  # a first: the period that closed yesterday and last month are of one month
    date(2026, 12, 3),  # a device period that begins today ends after the tables' last day
    date(2026, 12, 31),  # the tables' last day
    date(2027, 1, 1),
    date(2027, 1, 15),  # the period closed after the tables' last day, last month before it
    date(2028, 1, 1),
    date(2028, 2, 28),
    date(2028, 2, 29),
)
TIMES = (time(12), time(23, 55))  # at the second UTC is a day ahead, and midnight comes while the test runs
MOMENTS = tuple(datetime.combine(day, at, ZONE) for day in DAYS for at in TIMES)
