"""The answer of `smartapp evaluate` for a person at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from fhir_mappings.rules.hints import HINTS
from fhir_mappings.rules.tables import Kind, load_tables
from fhir_mappings.vocabulary import Hint
from smartapp.plain import printable

_SHORT = {
    "monitoring-days": "days",
    "management-time": "min",
    "live-contact": "talk",
    "set-up": "set-up",
    "base-code": "base",
}


def for_terminal(line: str) -> str:
    """A line as a terminal may show it: whatever an id or a file's name holds."""
    return printable(line, "?")


Hints = dict[str, dict[Hint, None]]
"""By patient, what billing is told beside the decisions, in the order in which it came up."""


def print_table(answer: Any, out: TextIO, hints: Hints | None = None) -> None:
    """Print one patient's answer, or several, as aligned columns."""
    answers = answer if isinstance(answer, list) else [answer]
    for position, one in enumerate(answers):
        if position:
            _say("", out)
        _print_one(one, out, (hints or {}).get(one["patient"], {}))


def _say(line: str, out: TextIO) -> None:
    print(for_terminal(line), file=out)


def _print_one(one: Mapping[str, Any], out: TextIO, hints: Iterable[Hint]) -> None:
    who = one["patient"] or "No patient"
    _say(f"{who}  as of {one['as_of']} ({one['timezone']})  payer {one['payer']}", out)
    if one.get("what_if"):
        _say(f"  NOT REAL: what if {', '.join(one['what_if'])}", out)
    rows: list[tuple[str, ...]] = [
        ("CODE", "QTY", "OUTCOME", "PERIOD", "SERVICE DATE", "FOUND / NEEDED", "TO CHECK")
    ]
    rows += [_row(decision) for decision in one["decisions"]]
    if len(rows) == 1:
        _say("  nothing to decide", out)
    else:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
            _say("  " + "  ".join((*cells, row[-1])).rstrip(), out)
    for hint in hints:
        _say(f"  {hint}: {HINTS[hint]}", out)
    if one["excluded"]:
        counts = Counter(entry["reason"] for entry in one["excluded"])
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))
        _say(f"  left out: {told} (--json lists each)", out)
    for missing in one["completeness"]["missing"]:
        _say(f"  not read: {_missing(missing)}", out)
    _say(f"  rules {one['rules_version']}", out)


def _missing(one: Mapping[str, Any]) -> str:
    days = one["days"]
    when = f" {days['start'] or ''}..{days['end'] or ''}" if days else ""
    detail = f": {one['detail']}" if one["detail"] else ""
    return f"{one['type'] or 'of any type'}{when} ({one['why']}){detail}"


def _row(decision: Mapping[str, Any]) -> tuple[str, ...]:
    period = decision["period"]
    return (
        "-".join([decision["code"], *decision["modifiers"]]),
        str(decision["quantity"]),
        decision["outcome"],
        f"{period['start']}..{period['end']}",
        decision["service_date"] or "-",
        _numbers(decision),
        ", ".join(
            [
                *decision["reasons"],
                *(f"settled {entry['reason']}" for entry in decision["resolved"]),
                *(f"?{entry}" for entry in decision["unverified"]),
            ]
        ),
    )


def _numbers(decision: Mapping[str, Any]) -> str:
    """What was found; of a charged period before what was read, that it was not."""
    needs = decision["requirements"]
    rule = load_tables().codes.get(decision["code"])
    asks = rule is None or rule.kind is not Kind.HELD_BACK
    return ", ".join(map(_found, needs)) if needs or not asks else "not read"


def _found(need: Mapping[str, Any]) -> str:
    name = _SHORT[need["requirement"]]
    if need["unit"] == "seconds":
        return f"{_clock(need['found'])}/{_clock(need['needed'])} {name}"
    return f"{need['found']}/{need['needed']} {name}"


def _clock(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02d}"
