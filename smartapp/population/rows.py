"""Rows: what a worklist needs of an answer, taken from the contract's JSON and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

Row = dict[str, Any]
_OF_DECISION = (
    *("code", "program", "line", "outcome", "quantity", "period", "service_date", "reasons"),
    *("unverified", "modifiers", "forecast"),
)


def rows_of(contract: Mapping[str, Any]) -> list[Row]:
    """A row a decision, in the contract's order."""
    whole = contract["completeness"]["whole"]
    return [
        {
            "patient": contract["patient"],
            "payer": contract["payer"],
            **{key: decision[key] for key in _OF_DECISION},
            "found": {
                one["requirement"]: {"unit": one["unit"], "found": one["found"], "needed": one["needed"]}
                for one in decision["requirements"]
            },
            "incomplete": not whole,
        }
        for decision in contract["decisions"]
    ]


def lines_of(rows: Iterable[Row]) -> bytes:
    """Rows as NDJSON: the same rows give the same bytes."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def changes(before: bytes, after: bytes) -> list[Row]:
    """What differs between two sets of lines of one patient: rows that are new, changed or gone."""
    old, new = (
        {_place(row): row for row in map(msgspec.json.decode, x.splitlines())} for x in (before, after)
    )
    found = [
        {"change": "new" if place not in old else "changed", **row}
        for place, row in new.items()
        if old.get(place) != row
    ]
    return found + [{"change": "gone", **row} for place, row in old.items() if place not in new]


def _place(row: Row) -> tuple[str, str, str]:
    """A decision's place in a patient's answer."""
    return row["code"], row["period"]["start"], row["period"]["end"]
