"""A code's tables over time: the shipped one, and what a site or payer adds to it by date (D37).

An added table speaks from its own `in_force_from` on; its thresholds take their place among the others by
their own days. What a code is (its program, kind, line and base) never changes: else it is another code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.local_time import ONE_DAY
from fhir_mappings.rules.tables import CodeRule, Confirmation, Dated, Kind, PayerRule, check_confirmations

_STAYS = ("program", "kind", "line", "base")
_DAYS = frozenset({Kind.START_UP, Kind.DEVICE_SUPPLY})
_CODE = re.compile(r"[0-9]{4}[0-9A-Z]|[A-Z][0-9]{4}")


class Edition(Struct, frozen=True):
    """A code as one table has it, with the thresholds of every table. `since`: the first date of service that
    it speaks of."""

    since: date
    rule: CodeRule


Editions = Mapping[str, tuple[Edition, ...]]
"""Each code's editions, the oldest first."""


def editions(shipped: Mapping[str, CodeRule], *layers: Iterable[CodeRule]) -> Editions:
    """The shipped tables with the `layers` over them, each over the one before where both speak from one day
    on. A code that is new is for the first of them, a site's, to bring: every payer's rules must know it, or
    a charge of it would not be seen. Raises `ValueError` with one line for a table that cannot be added."""
    tables: dict[str, list[CodeRule]] = {code: [rule] for code, rule in shipped.items()}
    new: list[CodeRule] = []
    for number, layer in enumerate(layers):
        added: set[tuple[str, date]] = set()
        for rule in layer:
            if rule.code not in tables and number == 0:
                _check_new(rule, shipped)
                new.append(rule)
                tables[rule.code] = []
            else:
                _check(rule, next(iter(tables.get(rule.code, ())), None))
            if (rule.code, rule.in_force_from) in added:
                raise ValueError(f"{rule.code}: two tables that speak from {rule.in_force_from} on")
            added.add((rule.code, rule.in_force_from))
            tables[rule.code].append(rule)
    for rule in new:
        _check_beside(rule, tables)
        for code in rule.excludes:
            tables[code] = [replace(one, excludes=(*one.excludes, rule.code)) for one in tables[code]]
    return {code: _merged(of_code) for code, of_code in tables.items()}


def edition_on(of_code: Sequence[Edition], day: date) -> CodeRule:
    """The code as it is on a day."""
    found = of_code[0]
    for edition in of_code[1:]:
        if edition.since <= day:
            found = edition
    return found.rule


def end_of(of_code: Sequence[Edition], confirmed_to: date = date.min) -> date:
    """The last date of service up to which a code was checked without a gap, by its tables or by the site's
    word up to a day."""
    end = max(of_code[0].rule.covers_to, confirmed_to)
    for edition in of_code[1:]:
        if edition.since > end + ONE_DAY:
            break
        end = max(edition.rule.covers_to, confirmed_to)
    return end


def check_own_rules(
    shipped: Mapping[str, CodeRule],
    code_rules: Sequence[CodeRule],
    payer_rules: Iterable[PayerRule],
    confirmed: Iterable[Confirmation],
) -> None:
    """Whether what a site says of the rules fits the shipped tables and itself. Raises `ValueError` with one
    line."""
    of_site = editions(shipped, code_rules)
    check_confirmations(confirmed, {code: end_of(of_code) for code, of_code in of_site.items()})
    for payer in payer_rules:
        editions(shipped, code_rules, payer.code_rules)


def _check(rule: CodeRule, known: CodeRule | None) -> None:
    if known is None:
        raise ValueError(
            f"{rule.code}: there is no such code here; a new one stands under the site's code_tables"
        )
    if rule.in_force_from < known.in_force_from:
        raise ValueError(f"{rule.code}: there was no such code before {known.in_force_from}")
    for name in _STAYS:
        if getattr(rule, name) != getattr(known, name):
            raise ValueError(f"{rule.code}: its {name} is {getattr(known, name)}, and stays so")
    if rule.management_seconds if rule.kind in _DAYS else rule.monitoring_days:
        raise ValueError(f"{rule.code}: it asks for {'days' if rule.kind in _DAYS else 'seconds'}")


def _check_new(rule: CodeRule, known: Mapping[str, CodeRule]) -> None:
    """Whether a code that nobody here knows can be decided, charged and seen again."""
    if _CODE.fullmatch(rule.code) is None:
        raise ValueError(f"{rule.code}: that is no code of CPT or HCPCS")
    if not (rule.monitoring_days if rule.kind in _DAYS else rule.management_seconds):
        raise ValueError(f"{rule.code}: it asks for nothing")
    if rule.kind in (Kind.HELD_BACK, Kind.MANAGEMENT_ADD_ON) or rule.base is not None:
        raise ValueError(f"{rule.code}: a new code is one of start-up, device supply or management")
    if (rule.kind is Kind.DEVICE_SUPPLY) is not (rule.line is not None):
        raise ValueError(f"{rule.code}: a line is what a code of device supply has, and no other")
    if rule.line is not None and rule.line.program is not rule.program:
        raise ValueError(f"{rule.code}: {rule.line} is not monitored in {rule.program}")
    if unknown := sorted(set(rule.excludes) - known.keys()):
        raise ValueError(f"{rule.code}: it excludes {', '.join(unknown)}, which nobody knows here")
    _check(rule, rule)


def _check_beside(new: CodeRule, tables: Mapping[str, Sequence[CodeRule]]) -> None:
    """Whether one service can bear the new code or another one, and never both."""
    for code, of_code in tables.items():
        other = max(of_code, key=lambda rule: rule.in_force_from)
        same = (other.program, other.kind, other.line) == (new.program, new.kind, new.line)
        if code == new.code or not same:
            continue
        if code not in new.excludes:
            raise ValueError(f"{new.code}: one service bears it or {code}, so it must exclude that")
        together = other.in_force_to is None or new.in_force_from <= other.in_force_to
        tiers = new.group is not None and new.group == other.group and new.tier != other.tier
        if together and not tiers:
            raise ValueError(f"{new.code}: {code} is in force too; end that, or give both tiers of one group")


def _merged(tables: Sequence[CodeRule]) -> tuple[Edition, ...]:
    """Editions that all know every threshold, and since when there is the code. Of two thresholds, or tables,
    from one day the one added last holds."""
    if len(tables) == 1:
        return (Edition(tables[0].in_force_from, tables[0]),)
    days = _by_day(table.monitoring_days for table in tables)
    seconds = _by_day(table.management_seconds for table in tables)
    by_day = {table.in_force_from: table for table in tables}
    first = min(by_day)
    return tuple(
        Edition(
            since,
            replace(by_day[since], in_force_from=first, monitoring_days=days, management_seconds=seconds),
        )
        for since in sorted(by_day)
    )


def _by_day(rows: Iterable[Iterable[Dated]]) -> tuple[Dated, ...]:
    found = {row.start: row for of_table in rows for row in of_table}
    return tuple(found[start] for start in sorted(found))
