"""A site's own fee table. None is shipped; without one no amount appears anywhere, and none ever decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from msgspec import Struct

_AMOUNT = re.compile(r"\d{1,6}(\.\d{2})?")
_CURRENCY = re.compile(r"[A-Z]{3}")


class Fee(Struct, frozen=True, forbid_unknown_fields=True):
    """One row: what the site expects for one unit of a code in a year, and where it has that from.

    `amount`: decimal text such as "43.20", never a float.
    """

    code: str
    amount: str
    year: int
    source: str
    currency: str = "USD"

    def __post_init__(self) -> None:
        if not _AMOUNT.fullmatch(self.amount):
            raise ValueError(
                f"fees: the amount of {self.code} is a text such as '43.20', got {self.amount!r}"
            )
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(f"fees: the currency of {self.code} is three capital letters")
        if not self.source.strip():
            raise ValueError(f"fees: the row of {self.code} names no source")


class FeeTable:
    """The rows of a site's file, by code and year. Raises `ValueError` for a row that stands twice."""

    def __init__(self, rows: Iterable[Fee] = ()) -> None:
        self._rows: dict[tuple[str, int], Fee] = {}
        for row in rows:
            if (row.code, row.year) in self._rows:
                raise ValueError(f"fees: {row.code} stands twice for {row.year}")
            self._rows[row.code, row.year] = row

    def fee(self, code: str, service_date: date) -> Fee | None:
        """The row of a code in the year of its service date; another year's amount is never used."""
        return self._rows.get((code, service_date.year))
