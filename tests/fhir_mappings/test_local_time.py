"""Which local day a FHIR time belongs to."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_mappings import local_time
from fhir_mappings.local_time import (
    MICROSECONDS,
    LocalClock,
    Moment,
    TimeProblem,
    Window,
    month_window,
    period_number,
    period_window,
    shown,
    utc,
    zone_named,
)

FIRST, LAST = datetime(2024, 1, 1), datetime(2028, 12, 31)  # noqa: DTZ001 - the offset is drawn too
NEW_YORK = ZoneInfo("America/New_York")


def day(text: str, zone: str = "America/New_York") -> date:
    moment = LocalClock(ZoneInfo(zone)).read(text)
    assert isinstance(moment, Moment), moment
    return moment.day


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-05T23:59:59-05:00", date(2026, 3, 5)),
        ("2026-03-06T00:00:00-05:00", date(2026, 3, 6)),
        # another offset than the site's: the patient's own clock wrote it
        ("2026-03-05T23:30:00+09:00", date(2026, 3, 5)),
    ],
)
def test_a_time_with_an_offset_belongs_to_the_date_as_written(text: str, expected: date) -> None:
    assert day(text) == expected


@pytest.mark.parametrize("zero", ["Z", "+00:00", "-00:00"])
def test_a_time_in_utc_is_turned_into_the_sites_zone(zero: str) -> None:
    assert day(f"2026-03-05T04:59:59{zero}") == date(2026, 3, 4)
    assert day(f"2026-03-05T05:00:00{zero}") == date(2026, 3, 5)


@pytest.mark.parametrize("offset", ["Z", "+00:00", "-05:00", "", ".25Z", ".999-05:00"])
@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
def test_a_leap_second_is_the_second_before_it(offset: str, known: bool) -> None:
    clock = LocalClock(NEW_YORK)
    if known:
        clock.read(f"2026-12-31T10:00:00{offset}")
    assert clock.read(f"2026-12-31T23:59:60{offset}") == clock.read(f"2026-12-31T23:59:59{offset}")
    assert clock.read(f"2026-12-31T08:30:60{offset}") == clock.read(f"2026-12-31T08:30:59{offset}")


def test_the_turn_of_the_day_follows_the_clocks() -> None:
    # Clocks go forward on 8 March 2026 at 2:00: midnight is 05:00Z before, 04:00Z after.
    assert day("2026-03-08T04:59:59Z") == date(2026, 3, 7)
    assert day("2026-03-08T05:00:00Z") == date(2026, 3, 8)
    assert day("2026-03-09T03:59:59Z") == date(2026, 3, 8)
    assert day("2026-03-09T04:00:00Z") == date(2026, 3, 9)


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        ("Pacific/Auckland", "2026-03-05T11:00:00Z", date(2026, 3, 6)),
        ("Asia/Kathmandu", "2026-03-05T18:14:59Z", date(2026, 3, 5)),
        ("Asia/Kathmandu", "2026-03-05T18:15:00Z", date(2026, 3, 6)),
        # Beirut's clocks go forward at midnight: the day begins at 1:00
        ("Asia/Beirut", "2026-03-28T21:59:59Z", date(2026, 3, 28)),
        ("Asia/Beirut", "2026-03-28T22:00:00Z", date(2026, 3, 29)),
    ],
)
def test_zones_east_and_odd_ones_turn_at_their_own_midnight(zone: str, text: str, expected: date) -> None:
    assert day(text, zone) == expected


def test_a_date_alone_is_that_date() -> None:
    moment = LocalClock(NEW_YORK).read("2026-03-05")
    assert isinstance(moment, Moment)
    assert (moment.day, moment.date_only) == (date(2026, 3, 5), True)


def test_a_time_without_an_offset_is_the_sites_and_says_so() -> None:
    moment = LocalClock(NEW_YORK).read("2026-03-05T23:30:00")
    assert isinstance(moment, Moment)
    assert moment.zone_assumed
    assert moment.day == date(2026, 3, 5)
    assert utc(moment.instant) == datetime(2026, 3, 6, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["2026-03-05T23:30:00z", "2026-03-05t23:30:00Z", "2026-03-05t23:30:00.000z", "2026-03-05T23:29:60z"],
)
def test_the_marks_of_a_time_may_be_written_small(text: str) -> None:
    clock = LocalClock(NEW_YORK)
    for _ in range(2):  # the second time it is known
        assert clock.read(text) == clock.read(text.upper())


@pytest.mark.parametrize(
    ("text", "as_fhir_writes_it"),
    [
        ("2026-03-05 23:30:00-05:00", "2026-03-05T23:30:00-05:00"),
        ("2026-03-05 23:30:00.123Z", "2026-03-05T23:30:00.123Z"),
        ("2026-03-05 23:29:60Z", "2026-03-05T23:29:59Z"),
        ("2026-03-05 23:30:00", "2026-03-05T23:30:00"),
        ("2026-03-05T23:30:00Z ", "2026-03-05T23:30:00Z"),
        (" 2026-03-05T23:30:00Z", "2026-03-05T23:30:00Z"),
        ("2026-03-05 ", "2026-03-05"),
        ("2026-03   \t   ", "2026-03"),
        ("            ", ""),
    ],
)
def test_blanks_for_the_mark_or_around_a_time_change_nothing(text: str, as_fhir_writes_it: str) -> None:
    clock = LocalClock(NEW_YORK)
    for _ in range(2):  # the second time it is known
        assert clock.read(text) == clock.read(as_fhir_writes_it)


@pytest.mark.parametrize("text", ["2026", "2026-03"])
def test_a_year_or_a_month_names_no_day(text: str) -> None:
    assert LocalClock(NEW_YORK).read(text) is TimeProblem.PARTIAL


@pytest.mark.parametrize("text", [None, ""])
def test_no_time_is_missing(text: str | None) -> None:
    assert LocalClock(NEW_YORK).read(text) is TimeProblem.MISSING


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-02-30",
        "2026-13-01T00:00:00Z",
        "2026-W10-4",
        "20260305T100000Z",
        "2026-03-05T24:00:00Z",
        "2026-03-05T25:00:00Z",
        "2026-W10-4T10:00:00Z",
        "2026-03-05?10:00:00Z",
        "2026-03-05T1000Z",
        "2026-03-05T10",
        "1899-12-31T10:00:00Z",
        "2200-01-01T10:00:00Z",
        "2026-03-05T10:00:00+15:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "2026-03-05T",
        "２０２６-03-05",
    ],
)
def test_what_is_no_fhir_time_is_unreadable(text: str) -> None:
    assert LocalClock(NEW_YORK).read(text) is TimeProblem.UNREADABLE


@given(
    st.datetimes(min_value=FIRST, max_value=LAST),
    st.sampled_from(["America/New_York", "Asia/Kathmandu", "Pacific/Auckland", "America/St_Johns"]),
    st.sampled_from(["Z", "+00:00", "-05:00", "+13:45"]),
    st.sampled_from(["seconds", "milliseconds"]),
)
def test_the_quick_way_agrees_with_the_standard_library(
    moment: datetime, zone: str, offset: str, precision: str
) -> None:
    clock = LocalClock(ZoneInfo(zone))
    text = moment.isoformat(timespec=precision) + offset
    first, again = clock.read(text), clock.read(text)
    parsed = datetime.fromisoformat(text)
    expected = parsed.date() if parsed.utcoffset() else parsed.astimezone(ZoneInfo(zone)).date()
    assert isinstance(first, Moment)
    assert first == again
    assert first.day == expected
    assert utc(first.instant) == parsed.astimezone(UTC)


def test_a_span_over_the_end_of_a_month_is_split_at_local_midnight() -> None:
    clock = LocalClock(NEW_YORK)
    start = clock.midnight(date(2026, 6, 1)) - 15 * 60 * MICROSECONDS
    parts = list(clock.months_of(start, start + 30 * 60 * MICROSECONDS))
    assert [(month, (end - begin) // (60 * MICROSECONDS)) for month, begin, end in parts] == [
        (date(2026, 5, 1), 15),
        (date(2026, 6, 1), 15),
    ]


@pytest.mark.parametrize(("on", "hours"), [((2026, 3, 8), 23), ((2026, 3, 9), 24), ((2026, 11, 1), 25)])
def test_a_day_on_which_clocks_change_is_an_hour_shorter_or_longer(
    on: tuple[int, int, int], hours: int
) -> None:
    start, end = LocalClock(NEW_YORK).day_span(date(*on))
    assert end - start == hours * 3600 * MICROSECONDS


def test_a_thirty_day_period_ends_on_day_thirty() -> None:
    assert period_window(date(2026, 2, 1), 0) == Window(date(2026, 2, 1), date(2026, 3, 2))
    assert period_window(date(2026, 2, 1), 1).start == date(2026, 3, 3)
    assert period_window(date(2028, 2, 1), 0).end == date(2028, 3, 1)


@given(st.dates(date(2020, 1, 1), date(2030, 1, 1)), st.integers(-400, 400))
def test_each_day_lies_in_the_period_of_its_number(anchor: date, offset: int) -> None:
    on = anchor + timedelta(days=offset)
    assert on in period_window(anchor, period_number(anchor, on))


def test_a_month_window_ends_on_its_last_day() -> None:
    assert month_window(date(2026, 2, 1)).end == date(2026, 2, 28)
    assert month_window(date(2028, 2, 1)).end == date(2028, 2, 29)
    assert month_window(date(2026, 12, 1)).end == date(2026, 12, 31)


def test_windows_that_share_a_day_overlap() -> None:
    first = Window(date(2026, 1, 1), date(2026, 1, 30))
    assert first.overlaps(Window(date(2026, 1, 30), date(2026, 2, 28)))
    assert not first.overlaps(Window(date(2026, 1, 31), date(2026, 2, 28)))


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "America"])
def test_an_unknown_zone_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
        zone_named(name)


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("2026-02-03", date(2026, 2, 3)),
        ("2026-02-04T03:00:00Z", date(2026, 2, 3)),
        ("2026-02", date(2026, 2, 28)),
        ("2026-01", date(2026, 1, 31)),
        (" 2026-05 ", date(2026, 5, 31)),
        ("2026-12", date(2026, 12, 31)),
        ("2026-00", date.max),
        (" 2019 ", date(2019, 12, 31)),
        ("1900", date(1900, 12, 31)),
        ("2199", date(2199, 12, 31)),
        ("2200", date.max),
        ("2019", date(2019, 12, 31)),
        ("2026-13", date.max),
        ("1899", date.max),
        ("childhood", date.max),
    ],
)
def test_a_year_or_a_month_may_mean_its_last_day_and_what_is_no_date_any(text: str, last: date) -> None:
    assert LocalClock(ZoneInfo("America/New_York")).latest_day(text) == last


@given(
    st.datetimes(datetime(2025, 12, 27), datetime(2026, 2, 5), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(("Pacific/Kiritimati", "Pacific/Pago_Pago", "America/New_York", "Asia/Kathmandu", "UTC")),
    st.sampled_from((month_window(date(2026, 1, 1)), Window(date(2026, 1, 9), date(2026, 1, 9)))),
)
def test_what_lies_in_a_window_is_what_the_clocks_of_the_zone_show(
    moment: datetime, zone: str, window: Window
) -> None:
    instant = round(moment.timestamp()) * MICROSECONDS
    first, end = LocalClock(ZoneInfo(zone)).window_span(window)
    assert (first <= instant < end) is (shown(instant, ZoneInfo(zone)).date() in window)


def test_a_clock_keeps_no_more_than_it_may_and_reads_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_time, "_MOST_KEPT", 3)
    clock = LocalClock(NEW_YORK)
    for number in range(1, 10):
        on = date(2026, 3, number)
        read = [clock.read(text) for text in (f"{on}", f"{on}T10:00:00Z", f"{on}T10:00:00-05:00")]
        assert [isinstance(one, Moment) and one.day for one in read] == [on] * 3
        assert all(len(kept) <= 3 for kept in vars(clock).values() if isinstance(kept, dict))
