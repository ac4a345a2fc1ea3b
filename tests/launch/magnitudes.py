"""Values that are too large, too small, too long or no values at all, as they can stand in JSON and in texts.

Python's own JSON writer refuses some of them (integers of 100,000 digits), so a number is drawn as a mark and
put in by `written`. Shared by the tests of every parser of outside bytes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

_DIGITS = "9" * 100_000
LITERALS = {
    "nan": "NaN",
    "infinity": "Infinity",
    "minus infinity": "-Infinity",
    "most digits Python reads": "9" * 4300,
    "one digit more": "9" * 4301,
    "many digits": _DIGITS,
    "minus many digits": f"-{_DIGITS}",
    "many decimals": f"0.{_DIGITS}",
    "tiny": "0." + "0" * 400 + "1",
    "huge exponent": "1e" + "9" * 400,
    "huge negative exponent": "1e-" + "9" * 400,
    "too large for a float": "1e309",
    "too small for a float": "-1e309",
    "largest": "1.7976931348623157e308",
    "round": "1e308",
    "smallest": "5e-324",
    "minus zero": "-0",
    "minus zero point zero": "-0.0",
    "2^53": str(2**53 + 1),
    "2^63": str(2**63),
    "2^64": str(2**64),
    "below -2^63": str(-(2**63) - 1),
    "10^30": "1" + "0" * 30,
    "10^400": "1" + "0" * 400,
    "minus one": "-1",
    "zero": "0",
}
_MARK = re.compile(r'"@number ([^"@]+)@"')

NUMBERS: st.SearchStrategy[Any] = st.sampled_from([f"@number {name}@" for name in LITERALS])
"""Marks of numbers: of use only in a value that `written` puts into JSON."""

TIMES: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            "9999-12-31T23:59:59+14:00",
            "9999-12-31T23:59:59.999999999-14:00",
            "9999-12-31",
            "9999-12",
            "9999",
        ),
        *("0001-01-01", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00-14:00"),
        *("0000-00-00", "0000-01-01T00:00:00Z", "-0001-01-01", "10000-01-01", "99999-12-31T23:59:59Z"),
        *("1900-01-01", "1900-01-01T00:00:00+14:00", "1900-01-01T00:00:00-14:00", "1899-12-31T23:59:59Z"),
        *("2199-12-31", "2199-12-31T23:59:59-14:00", "2199-12-31T23:59:59+14:00", "2200-01-01T00:00:00Z"),
        *("2026-03-02T10:00:00+99:99", "2026-03-02T10:00:00-99:99", "2026-03-02T10:00:00+14:01"),
        *("2026-03-02T10:00:00+14:00", "2026-03-02T10:00:00-14:00", "2026-03-02T10:00:00+23:59"),
        *("2026-03-02T10:00:00+24:00", "2026-03-02T10:00:00+00:00:00.000001", "2026-03-02T10:00:00-00:00"),
        *("2026-03-02T24:00:00Z", "2026-03-02T23:59:60Z", "2026-02-29", "2026-02-30T00:00:00Z"),
        *("2026-03-08T02:30:00", "2026-11-01T01:30:00", "2026-03-02T10:00Z", "2026-W10-1T10:00:00Z"),
        f"2026-03-02T10:00:00.{'9' * 1000}Z",
        f"2026-03-02T10:00:00{'+01:00' * 1000}",
        f"{'9' * 5000}-01-01",
        "٢٠٢٦-٠٣-٠٢",
        "２０２６-03-02T10:00:00Z",
    ]
)
TEXTS: st.SearchStrategy[Any] = st.sampled_from(
    [
        *("", " ", "\x00", "\ud800", "\udfff\ud800", "\u2028", "\ufeff", "\U0010ffff", "NaN", "Infinity"),
        *("identifier ", "identifier Patient", "identifier a\0b\0c\0d", "Patient/", "/", "//", "#", "#x"),
        "x" * 100_000,
        "9" * 5000,
        "-" + "9" * 5000,
        "٣" * 20,
        "1e308",
        "Patient/" + "p" * 10_000,
        "a/" * 5000,
        "https://ehr.example/fhir/" + "Device/" * 2000 + "1",
        "urn:uuid:" + "0" * 5000,
    ]
)
MAGNITUDES: st.SearchStrategy[Any] = NUMBERS | TIMES | TEXTS
DEEP = [(b"[" * levels, b"]" * levels) for levels in (65, 900, 1100, 100_000)]
"""What opens and what closes arrays nested so deeply."""


def written(value: Any) -> bytes:
    """A value with marks as JSON, the numbers in their places."""
    return _MARK.sub(lambda mark: LITERALS[mark[1]], json.dumps(value)).encode()
