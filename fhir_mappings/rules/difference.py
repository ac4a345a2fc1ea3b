"""What changes between two dates of service, for the coder who signs a year's rules off (D37)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from enum import StrEnum

from msgspec import Struct

from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.register import Status, needed_in_words, rules_in_force
from fhir_mappings.rules.tables import CodeRule, Coverage, PayerRule


class Changed(StrEnum):
    """What is another one on the second day."""

    CODES = "codes that begin or end"
    THRESHOLDS = "what a code asks for"
    CODE = "what else a code's table says"
    PAYERS = "payers' rows"
    SETTINGS = "settings"
    RULES = "rules of the register that begin or end"
    TABLES = "up to which day the tables were checked"


class Difference(Struct, frozen=True):
    """One thing, before and after. `about`: a code, a payer's name with a code, a setting, or a rule's id."""

    changed: Changed
    about: str
    before: str
    after: str
    reference: str = ""


def differences(
    policy: Policy, before: date, after: date, payer_rules: Iterable[PayerRule] = ()
) -> tuple[Difference, ...]:
    """Everything that decides differently on the second day. `payer_rules`: a site's own tables; the rows of
    every payer are compared, since a site's patients have many. What is proposed changes nothing."""
    found = [
        *(one for code in policy.codes for one in _of_code(policy, code, before, after)),
        *_of_payers(policy, before, after, payer_rules),
        *_of_settings(policy, before, after),
        *_of_register(policy, before, after),
        *_of_tables(policy, before, after),
    ]
    order = list(Changed)
    return tuple(sorted(found, key=lambda one: order.index(one.changed)))


def _of_code(policy: Policy, code: str, before: date, after: date) -> Iterator[Difference]:
    old, new = policy.code_on(code, before), policy.code_on(code, after)
    reference = policy.tables.reference(new.sources)
    was, is_now = old.in_force(before), new.in_force(after)
    if was is not is_now:
        told = (f"in force since {old.in_force_from}", f"ended on {new.in_force_to}")
        if is_now:
            told = ("not in force", f"in force from {new.in_force_from}, {_asked(policy, new, after)}")
        yield Difference(Changed.CODES, code, *told, reference)
    if not (was and is_now):
        return
    asked = _asked(policy, old, before), _asked(policy, new, after)
    if asked[0] != asked[1]:
        sources = new.least(after).sources
        yield Difference(Changed.THRESHOLDS, code, *asked, policy.tables.reference(sources))
    for name in ("label", "unit", "units_cap", "excludes", "group", "tier"):
        one, other = _shown(getattr(old, name)), _shown(getattr(new, name))
        if one != other:
            yield Difference(Changed.CODE, code, f"{name} {one}", f"{name} {other}", reference)
    for name in ("therapy_modifiers", "assistant_modifiers"):
        one, other = (_shown(tuple(getattr(rule, name).values())) for rule in (old, new))
        if one != other:
            yield Difference(Changed.CODE, code, f"{name} {one}", f"{name} {other}", reference)


def _asked(policy: Policy, rule: CodeRule, day: date) -> str:
    """What a code asks for on a day, in words."""
    if not (rule.monitoring_days or rule.management_seconds):
        return "never suggested"
    base = None if rule.base is None else policy.code_on(rule.base, day)
    return needed_in_words(rule, rule.least(day), base)


def _of_payers(
    policy: Policy, before: date, after: date, payer_rules: Iterable[PayerRule]
) -> Iterator[Difference]:
    payers = {**policy.tables.payers, **{own.payer: own for own in payer_rules}}
    for name, payer in payers.items():
        told = {code: (_row(payer.row(code, before)), _row(payer.row(code, after))) for code in policy.codes}
        for named, one, other in _alike(told):
            reference = policy.tables.reference(payer.sources)
            yield Difference(Changed.PAYERS, f"{name}, {named}", one, other, reference)


def _alike(told: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """What differs before and after, in one piece for the codes of which it is the same."""
    codes: dict[tuple[str, str], list[str]] = {}
    for code, pair in told.items():
        if pair[0] != pair[1]:
            codes.setdefault(pair, []).append(code)
    for (one, other), of_pair in codes.items():
        yield "all codes" if len(of_pair) == len(told) else ", ".join(of_pair), one, other


def _of_tables(policy: Policy, before: date, after: date) -> Iterator[Difference]:
    told = {
        code: (str(policy.code_on(code, before).covers_to), str(policy.code_on(code, after).covers_to))
        for code in policy.codes
    }
    for named, one, other in _alike(told):
        yield Difference(Changed.TABLES, named, one, other)


def _row(row: Coverage | None) -> str:
    """A payer's row in words, without its day."""
    if row is None:
        return "unknown: no row"
    words = [str(row.covered)]
    if row.least is not None:
        words.append(f"least {row.least}")
    if row.units_cap is not None:
        words.append(f"at most {row.units_cap} units")
    if row.diagnoses:
        words.append(f"for {', '.join(row.diagnoses)}")
    if row.modifiers:
        words.append(f"with {', '.join(row.modifiers)}")
    return ", ".join(words)


def _of_settings(policy: Policy, before: date, after: date) -> Iterator[Difference]:
    for name, row in policy.tables.settings.items():
        if before < row.start <= after:
            now = f"{_shown(policy.setting(name))} from {row.start}"
            yield Difference(Changed.SETTINGS, name, "no such setting", now, row.reason)


def _of_register(policy: Policy, before: date, after: date) -> Iterator[Difference]:
    old = {rule.id: rule for rule in rules_in_force(policy, before)}
    for rule in rules_in_force(policy, after):
        was = old.get(rule.id)
        if rule.id.startswith(("R1.1-", "R6-")) or (was is not None and was.status is rule.status):
            continue
        one = "not in force" if was is None else str(was.status)
        told = f"{rule.status}: {rule.says}" if rule.status is Status.IN_FORCE else str(rule.status)
        yield Difference(Changed.RULES, rule.id, one, told, rule.reference)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)
