"""The register of rules: every one with its id, what it says, its value on a day, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from enum import StrEnum

from msgspec import Struct

from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.tables import CodeRule, Covered, Dated, Kind, PayerRule, RuleEntry, Tables

PARTS = (
    ("R1.1", "Codes"),
    ("R1.2", "Management: minutes of a calendar month, with a live conversation in it"),
    ("R1.3", "Device supply: days of a 30-day period"),
    ("R1.4", "Codes beside each other"),
    ("R2", "Periods, days and dates of service"),
    ("R3", "Start-up and the episode of care"),
    ("R4", "Time and conversations"),
    ("R5", "Other conditions"),
    ("R6", "Payers"),
    ("D", "Defaults where the sources are silent or differ"),
    ("P", "Proposed: published, not in force, and nothing is decided by it"),
)


class Status(StrEnum):
    """How a rule stands on a day."""

    IN_FORCE = "in force"
    PROPOSED = "proposed"
    ENDED = "ended"
    NOT_YET = "not yet in force"


class RuleInForce(Struct, frozen=True):
    """One rule as it stands on a day. `value`: what the tables and settings make of it, in words;
    `published`: the day of its newest source that names one."""

    id: str
    part: str
    says: str
    value: str
    how: str
    since: date
    reference: str
    published: date | None
    last_checked: date
    setting: str | None = None
    status: Status = Status.IN_FORCE


def rules_in_force(policy: Policy, day: date) -> list[RuleInForce]:
    """Every rule for service dates on that day, in the order of the register: those that ended and those that
    are proposed among them, each with its status."""
    found = [_of_code(policy.code_on(code, day), policy, day) for code in policy.codes]
    found += [
        RuleInForce(
            entry.id,
            part_of(entry.id),
            entry.says,
            _value(policy, entry.setting),
            entry.how,
            entry.start,
            policy.tables.reference(entry.sources),
            published(policy.tables, entry.sources),
            entry.last_checked,
            entry.setting,
            _status(entry, day),
        )
        for entry in policy.tables.register
        if entry.start <= day or entry.how == "proposed"
    ]
    found += [_of_payer(rule, policy.tables) for rule in policy.tables.payers.values()]
    if policy.rule is not None and policy.rule not in policy.tables.payers.values():
        found.append(_of_payer(policy.rule, policy.tables))
    names = [name for _, name in PARTS]
    return sorted(found, key=lambda rule: names.index(rule.part))


def proposed(tables: Tables, day: date) -> list[RuleEntry]:
    """What is proposed for a service date and not in force."""
    return [entry for entry in tables.register if entry.how == "proposed" and entry.start <= day]


def stale(rules: Iterable[RuleInForce], before: date) -> list[RuleInForce]:
    """Those last checked before that day."""
    return [rule for rule in rules if rule.last_checked < before]


def part_of(rule_id: str) -> str:
    return next(name for prefix, name in PARTS if rule_id.startswith(prefix))


def published(tables: Tables, sources: Iterable[str]) -> date | None:
    """The day of the newest of these sources that says when it was published."""
    known = (tables.sources[key].published for key in sources if key in tables.sources)
    return max((day for day in known if day is not None), default=None)


def needed_in_words(code: CodeRule, row: Dated, base: CodeRule | None = None) -> str:
    """What a code asks for, as `16 days` or `20:00 min`; an add-on's minutes come on top of its base's."""
    if code.kind in (Kind.DEVICE_SUPPLY, Kind.START_UP):
        return f"{row.least} days"
    minutes = f"{row.least // 60}:{row.least % 60:02d} min"
    return f"each further {minutes} on top of {base.code}" if base is not None else minutes


def _of_code(code: CodeRule, policy: Policy, day: date) -> RuleInForce:
    sources, since, checked = code.sources, code.in_force_from, code.last_checked
    if day < code.in_force_from:
        value = f"Not in force before {code.in_force_from.isoformat()}."
    elif not code.in_force(day):
        value = f"Ended on {code.in_force_to}: no service after that day bears it."
    elif code.kind is Kind.HELD_BACK:
        value = "Never suggested."
    else:
        row = code.least(day)
        sources, since, checked = row.sources, max(row.start, since), row.last_checked
        base = policy.codes[code.base] if code.base is not None else None
        needed = needed_in_words(code, row, base)
        words = [f"{needed[0].upper()}{needed[1:]}." if base else f"Needs {needed}, {code.unit}."]
        if code.units_cap is not None:
            words.append(f"At most {code.units_cap} units.")
        if code.excludes:
            words.append(f"Not beside {', '.join(code.excludes)}.")
        covered = policy.covered(code.code, day)
        if covered is not Covered.YES:
            words.append(f"Payer {policy.payer}: {covered}.")
        value = " ".join(words)
    rule_id = f"R1.1-{code.code}"
    return RuleInForce(
        rule_id,
        part_of(rule_id),
        f"{code.code}, {code.label}.",
        value,
        "decided" if code.kind is not Kind.HELD_BACK else "review",
        since,
        policy.tables.reference(sources),
        published(policy.tables, sources),
        checked,
        status=_status_of(code, day),
    )


def _status(entry: RuleEntry, day: date) -> Status:
    if entry.how == "proposed":
        return Status.PROPOSED
    return Status.IN_FORCE if entry.end is None or day <= entry.end else Status.ENDED


def _status_of(code: CodeRule, day: date) -> Status:
    if day < code.in_force_from:
        return Status.NOT_YET
    return Status.IN_FORCE if code.in_force(day) else Status.ENDED


def _of_payer(rule: PayerRule, tables: Tables) -> RuleInForce:
    rows = [
        f"from {row.start.isoformat()} {row.covered}: "
        + ("all codes" if row.codes == "all" else ", ".join(row.codes))
        + (f" with {', '.join(row.diagnoses)}" if row.diagnoses else "")
        for row in rule.coverage
    ]
    rows += [
        f"announced without a day, {row.covered}: "
        + ("all codes" if row.codes == "all" else ", ".join(row.codes))
        + (f" with {', '.join(row.diagnoses)}" if row.diagnoses else "")
        for row in rule.announced
    ]
    rows += [f"to be found in the record: {', '.join(rule.checklist)}"] if rule.checklist else []
    own = [f"{name} = {_shown(value)}" for name, value in sorted(rule.settings.items())]
    rule_id = f"R6-{rule.payer}"
    return RuleInForce(
        rule_id,
        part_of(rule_id),
        f"{rule.label}. {rule.note}".strip(),
        "; ".join([*rows, *own]) + "." if rows or own else "Nothing is covered for certain.",
        "decided" if rule.settings or any(row.covered is Covered.YES for row in rule.coverage) else "review",
        min((row.start for row in rule.coverage), default=date(2019, 1, 1)),
        tables.reference(rule.sources),
        rule.published or published(tables, rule.sources),
        rule.last_checked,
    )


def _value(policy: Policy, setting: str | None) -> str:
    """The value of a rule's setting for this payer and site."""
    if setting is None:
        return ""
    return f"({setting} = {_shown(policy.setting(setting))})"


def _shown(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
