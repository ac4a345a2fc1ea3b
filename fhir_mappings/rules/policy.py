"""The rules of one payer: the dated values that apply on a day."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.local_time import ONE_DAY, Window
from fhir_mappings.rules.editions import Edition, Editions, check_own_rules, edition_on, editions, end_of
from fhir_mappings.rules.statements import SiteFacts
from fhir_mappings.rules.tables import (
    CodeRule,
    Confirmation,
    Coverage,
    Covered,
    Dated,
    Kind,
    KnownCodes,
    PayerRule,
    Tables,
    in_order,
    load_tables,
    setting_value,
)
from fhir_mappings.vocabulary import UNKNOWN_PAYER, Program, ReviewReason, Unverified

_PAYER_DOUBTS = {
    Covered.UNKNOWN: ReviewReason.PAYER_UNKNOWN,
    Covered.NO: ReviewReason.PAYER_DOES_NOT_COVER,
    Covered.CRITERIA: ReviewReason.PAYER_CRITERIA,
    Covered.PRIOR_AUTH: ReviewReason.PAYER_CRITERIA,
}


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "multi_device_rule": ("max", "union"),
    "minutes_kept_in": ("ehr", "app"),
    "continuous_glucose": ("ask", "rpm", "cgm"),
}


class Terms(Struct, frozen=True, eq=False):
    """What holds on one day for one code that asks for days or minutes, whoever the patient is.

    `least`: the monitoring days, or seconds of management, that the code itself asks for; `needed`: with
    those of its base. `reference`: the sources of that, in words; `rule_reference`: of the code. `doubts`:
    why a met code is for review by the day alone. `modifiers`: those that the payer always asks for.
    `in_force`: whether the code is; `covered`: what the payer's row says, None where no row speaks.
    `changes`: the days from which something else may hold.
    """

    policy: Policy
    rule: CodeRule
    least: int
    needed: int
    reference: str
    rule_reference: str
    doubts: frozenset[ReviewReason]
    modifiers: tuple[str, ...]
    in_force: bool
    covered: Covered | None
    changes: tuple[date, ...]
    row: Coverage | None = None
    """What the payer's table says of the code on the day."""

    def pays_for(self, diagnosed: Iterable[str]) -> bool:
        """Whether the payer covers it for a patient with active Conditions of these codes: one of the list is
        enough where a diagnosis is all that the row asks for (D40)."""
        row = self.row
        if row is None or row.covered is not Covered.YES:
            return False
        return not row.diagnoses or diagnosis_met(row, diagnosed)

    def doubts_of(self, diagnosed: Iterable[str]) -> frozenset[ReviewReason]:
        """`doubts` of a patient with active Conditions of these codes."""
        return self.doubts - {ReviewReason.PAYER_CRITERIA} if self.pays_for(diagnosed) else self.doubts

    def earned(self, found: int, at_most: int | None = None) -> int:
        """The units that so many days, or seconds, earn: no midpoint rule, no rounding up. `at_most`: what
        else limits an add-on; the cap does not yet."""
        if found < self.needed:
            return 0
        if self.rule.base is None:
            return 1
        units = (found - self.needed) // self.least + 1
        return units if at_most is None else min(units, at_most)

    def changes_within(
        self, window: Window, found: int, diagnosed: Collection[str], at_most: int | None = None
    ) -> bool:
        """Whether so many days, or seconds, of a patient with these diagnoses have another answer by what
        holds on some other day of the window (D34): a threshold, a cap, whether the code is in force, whether
        the payer covers it.

        A payer's table that begins within the window changes nothing: before its first row it says nothing.
        """
        days = [day for day in self.changes if window.start < day <= window.end]
        if not days:
            return False
        others = (self.policy.terms(self.rule.code, day) for day in (window.start, *days))
        return any(self._differs(other, found, diagnosed, at_most) for other in others)

    def _differs(self, other: Terms, found: int, diagnosed: Collection[str], at_most: int | None) -> bool:
        units = self._charged(found, at_most)
        if units != other._charged(found, at_most):
            return True
        told = self.covered is not None and other.covered is not None
        return units > 0 and told and self.pays_for(diagnosed) is not other.pays_for(diagnosed)

    def _charged(self, found: int, at_most: int | None) -> int:
        # Start-up is one day's: what came into force or ended on another is no doubt about it.
        stands = self.in_force or self.rule.kind is Kind.START_UP
        units = self.earned(found, at_most) if stands else 0
        return units if self.rule.units_cap is None else min(units, self.rule.units_cap)


DAYS_OF_WARNING = 60
"""How long before the rules end it is told. A device period is dated 29 days after its first day, so that a
month before the tables end the first period begins that they do not reach; and to read a year's rules, sign
them off and ask an administrator takes another."""


class Year(Struct, frozen=True):
    """Whether the rules of a day were checked for a code (D37). `confirmed`: by whom, where the tables
    themselves end before that day."""

    unverified: frozenset[Unverified] = frozenset()
    confirmed: Confirmation | None = None


class Policy(Struct, frozen=True, eq=False):
    """`payer` is the name that was asked for; `rule` is None where no table of it exists. `editions`: every
    code as this payer has it, table by table; `codes`: the newest of each. `confirmed`: what the site
    confirmed past the tables' end. `version`: of all tables that decide."""

    payer: str
    rule: PayerRule | None
    tables: Tables
    version: str
    editions: Editions
    codes: Mapping[str, CodeRule]
    settings: Mapping[str, bool | int | str]
    multi_device_union: bool
    contacts_per_addon_unit: int
    rtm_aux_time_counts: bool
    empty_days_until_episode_unclear: int
    assistant_de_minimis_percent: int
    rtm_and_rpm_exclusive: bool
    minutes_kept_in_app: bool
    continuous_glucose: str
    known: KnownCodes
    """The codes by which a charge may matter."""
    confirmed: tuple[Confirmation, ...] = ()
    facts: SiteFacts = SiteFacts()
    of_coverage: bool = False
    """A chart's Coverages may say who pays: nobody said it for all charts."""

    def rules_of(self, program: Program, kinds: tuple[Kind, ...]) -> list[CodeRule]:
        """A program's codes of these kinds; add-ons last, lower tiers first."""
        return _rules_of(self, program, kinds)

    def code(self, code: str) -> CodeRule:
        """A code as the newest table has it: what it is (program, kind, line, base) holds on every day."""
        return self.codes[code]

    def code_on(self, code: str, day: date) -> CodeRule:
        """A code as it is on a day, with the cap that this payer has then."""
        return _code_on(self, code, day)

    @property
    def ends(self) -> Mapping[str, date]:
        """The last date of service up to which each code's rules were checked, by a table or by the site."""
        return _ends(self)

    def covered(self, code: str, day: date) -> Covered:
        """What the payer's table says of this code on this day."""
        return self.on(code, day)[0]

    def on(self, code: str, day: date) -> tuple[Covered, tuple[str, ...]]:
        """Whether the payer covers a code on a day, and the modifiers it always asks for."""
        if self.rule is None:
            return Covered.UNKNOWN, ()
        row = self.rule.row(code, day)
        return self.rule.covered(code, day), () if row is None else row.modifiers

    def terms(self, code: str, day: date) -> Terms:
        """What holds for a code on a day. Kept once worked out: the same days come up for every patient."""
        return _terms(self, code, day)

    def year(self, code: str, day: date) -> Year:
        """Whether the rules of that day were checked: past the tables' end the last table decides, and a
        charge waits for the site's word or a newer table."""
        return _year(self, code, day)

    @property
    def checked_to(self) -> date:
        """The last date of service for which every code that is suggested was checked: by a table, or by the
        site's word. A code that has ended by then needs no more."""
        return min(
            (
                end
                for code, end in self.ends.items()
                if self.codes[code].kind is not Kind.HELD_BACK
                and self.code_on(code, end).in_force(end + ONE_DAY)
            ),
            default=date.max,
        )

    def ends_soon(self, today: date) -> bool:
        """Whether somebody must see to the rules now, `DAYS_OF_WARNING` before nothing can be charged."""
        return self.checked_to - today <= timedelta(days=DAYS_OF_WARNING)

    def not_checked(self, day: date) -> list[str]:
        """The codes in force on a day whose rules nobody checked for it."""
        return [
            code
            for code in self.codes
            if self.code_on(code, day).in_force(day) and self.year(code, day).unverified
        ]

    def in_force(self, program: Program, kinds: tuple[Kind, ...], day: date) -> tuple[Terms, ...]:
        """The terms of those codes of `rules_of` that are in force on a day, in that order."""
        return _in_force(self, program, kinds, day)

    def setting(self, name: str) -> bool | int | str:
        """A named setting (settings.yaml) as this payer and site have it."""
        value: bool | int | str = self.settings[name]
        return value


def load_policy(
    payer: str | None = None,
    settings: Mapping[str, Any] | None = None,
    payer_rules: Iterable[PayerRule] = (),
    confirmed: Iterable[Confirmation] = (),
    code_rules: Iterable[CodeRule] = (),
    facts: SiteFacts | None = None,
) -> Policy:
    """A payer's policy; the shipped defaults where its file is silent, a site's `settings` over both.

    `payer_rules`: a site's own tables, each in place of a shipped one of that name; `code_rules`: its tables
    of codes, added to the shipped ones by date; `confirmed`: its `rules_confirmed`; `facts`: what it says of
    itself. An unknown payer is no
    error: nothing is covered then, so that everything met is for review. Raises `ValueError` with one line
    for an unknown setting, a value of the wrong type, a table that cannot be added, or a confirmation that
    reaches too far.
    """
    tables = load_tables()
    name = payer or UNKNOWN_PAYER
    rule = {**tables.payers, **{own.payer: own for own in payer_rules}}.get(name)
    values: dict[str, Any] = {key: row.value for key, row in tables.settings.items()}
    for source in (rule.settings if rule is not None else {}, settings or {}):
        for key, value in source.items():
            if key not in tables.settings:
                raise ValueError(f"unknown setting: {key} (known: {', '.join(sorted(tables.settings))})")
            values[key] = setting_value(value, tables.settings[key], key)
    confirmed = tuple(confirmed)
    of_site = tuple(code_rules)
    of_payer = () if rule is None else rule.code_rules
    check_own_rules(tables.codes, of_site, () if rule is None else (rule,), confirmed)
    own = {
        code: tuple(Edition(one.since, _as_paid(one.rule, rule)) for one in of_code)
        for code, of_code in editions(tables.codes, of_site, of_payer).items()
    }
    multi_device = values["multi_device_rule"]
    for key, known in _CHOICES.items():
        if values[key] not in known:
            expected = f"{', '.join(known[:-1])} or {known[-1]}"
            raise ValueError(f"setting {key}: expected {expected}, got {values[key]!r}")
    codes = MappingProxyType({code: of_code[-1].rule for code, of_code in own.items()})
    return Policy(
        payer=name,
        rule=rule,
        tables=tables,
        version=tables.version + _own_version((*of_site, *of_payer)),
        editions=MappingProxyType(own),
        codes=codes,
        known=KnownCodes(codes, tables.more_specific),
        settings=MappingProxyType(values),
        multi_device_union=multi_device == "union",
        contacts_per_addon_unit=values["contacts_per_addon_unit"],
        rtm_aux_time_counts=values["rtm_aux_time_counts"],
        empty_days_until_episode_unclear=values["empty_days_until_episode_unclear"],
        assistant_de_minimis_percent=values["assistant_de_minimis_percent"],
        rtm_and_rpm_exclusive=values["rtm_and_rpm_exclusive"],
        minutes_kept_in_app=values["minutes_kept_in"] == "app",
        continuous_glucose=values["continuous_glucose"],
        confirmed=confirmed,
        facts=facts or SiteFacts(),
    )


def diagnosis_met(row: Coverage, diagnosed: Iterable[str]) -> bool:
    """Whether one of the codes (ICD-10-CM, without a dot) begins as the payer's row asks."""
    asked = tuple(one.upper().replace(".", "") for one in row.diagnoses)
    return bool(asked) and any(code.startswith(asked) for code in diagnosed)


class Policies:
    """The policies of one site, by payer. `payer`: the site's own word; `always`: whatever a chart says."""

    def __init__(
        self,
        payer: str | None,
        settings: Mapping[str, Any] | None = None,
        payer_rules: Iterable[PayerRule] = (),
        *,
        confirmed: Iterable[Confirmation] = (),
        code_rules: Iterable[CodeRule] = (),
        facts: SiteFacts | None = None,
        always: bool = False,
    ) -> None:
        self._settings = dict(settings or {})
        self._payer_rules = tuple(payer_rules)
        self._confirmed = tuple(confirmed)
        self._code_rules = tuple(code_rules)
        self._facts = facts
        self._always = always
        self.default = self._load(payer)
        self._known = {self.default.payer: self.default}

    def of(self, coverage: str | None) -> Policy:
        """The policy for a chart whose Coverages name this payer (None: they name nobody)."""
        if coverage is None or self._always:
            return self.default
        if coverage not in self._known:
            self._known[coverage] = self._load(coverage)
        return self._known[coverage]

    def _load(self, payer: str | None) -> Policy:
        loaded = load_policy(
            payer, self._settings, self._payer_rules, self._confirmed, self._code_rules, self._facts
        )
        return replace(loaded, of_coverage=not self._always)


def _own_version(rules: tuple[CodeRule, ...]) -> str:
    """What tables of a site's or payer's own add to the version of the shipped ones."""
    if not rules:
        return ""
    return "+own." + hashlib.sha256(msgspec.json.encode(rules, order="deterministic")).hexdigest()[:8]


def _as_paid(code: CodeRule, rule: PayerRule | None) -> CodeRule:
    """A code with a payer's thresholds, from the day they hold in place of the shipped ones."""
    rows = [] if rule is None else rule.rows(code.code)
    own = [
        Dated(row.start, row.least, rule.sources or (f"the table of {rule.label}",), rule.last_checked)
        for row in rows
        if row.least is not None and rule is not None
    ]
    if not own:
        return code
    first = min(row.start for row in own)
    if code.monitoring_days:
        return replace(code, monitoring_days=(*_before(code.monitoring_days, first), *own))
    return replace(code, management_seconds=(*_before(code.management_seconds, first), *own))


def _before(rows: tuple[Dated, ...], day: date) -> tuple[Dated, ...]:
    return tuple(row for row in rows if row.start < day)


@lru_cache(maxsize=8192)
def _code_on(policy: Policy, code: str, day: date) -> CodeRule:
    rule = edition_on(policy.editions[code], day)
    rows = () if policy.rule is None else policy.rule.rows(code)
    caps = [row.units_cap for row in rows if row.units_cap is not None and row.start <= day]
    return replace(rule, units_cap=caps[-1]) if caps else rule


@lru_cache(maxsize=256)
def _changes(policy: Policy, code: str) -> tuple[date, ...]:
    """The days from which something else may hold for a code or its base: tables, thresholds, the payer's
    rows."""
    rule = policy.code(code)
    found = {row.start for row in (*rule.monitoring_days, *rule.management_seconds)}
    for edition in policy.editions[code]:
        found |= {edition.since, edition.rule.in_force_from}
        if edition.rule.in_force_to is not None:
            found.add(edition.rule.in_force_to + ONE_DAY)
    if policy.rule is not None:
        found |= {row.start for row in policy.rule.rows(code)}
    if rule.base is not None:
        found.update(_changes(policy, rule.base))
    return tuple(sorted(found))


@lru_cache(maxsize=8192)
def _terms(policy: Policy, code: str, day: date) -> Terms:
    rule = policy.code_on(code, day)
    covered, modifiers = policy.on(code, day)
    told = policy.rule is not None and policy.rule.row(code, day) is not None
    doubts = {_PAYER_DOUBTS[covered]} if covered in _PAYER_DOUBTS else set()
    threshold = rule.least(day)
    # A table that names no source is one itself: no requirement stands there without its reference.
    own = (f"the table of {code} that holds from {threshold.start}",)
    return Terms(
        policy,
        rule,
        threshold.least,
        threshold.least if rule.base is None else threshold.least + policy.code(rule.base).least(day).least,
        policy.tables.reference(threshold.sources or own),
        policy.tables.reference(rule.sources or own),
        frozenset(doubts),
        modifiers,
        rule.in_force(day),
        covered if told else None,
        _changes(policy, code),
        None if policy.rule is None else policy.rule.row(code, day),
    )


@lru_cache(maxsize=8192)
def _year(policy: Policy, code: str, day: date) -> Year:
    if day <= policy.code_on(code, day).covers_to:
        return Year()
    confirmed = next((entry for entry in policy.confirmed if entry.holds(code, day)), None)
    if confirmed is not None:
        return Year(confirmed=confirmed)
    return Year(frozenset({Unverified.RULES_OF_THE_YEAR}))


@lru_cache(maxsize=8192)
def _in_force(policy: Policy, program: Program, kinds: tuple[Kind, ...], day: date) -> tuple[Terms, ...]:
    rules = [policy.code_on(rule.code, day) for rule in policy.rules_of(program, kinds)]
    return tuple(_terms(policy, rule.code, day) for rule in in_order(rules) if rule.in_force(day))


@lru_cache(maxsize=256)
def _ends(policy: Policy) -> Mapping[str, date]:
    return {
        code: end_of(
            of_code,
            max(
                (one.to for one in policy.confirmed if one.codes == "all" or code in one.codes),
                default=date.min,
            ),
        )
        for code, of_code in policy.editions.items()
    }


@lru_cache(maxsize=256)
def _rules_of(policy: Policy, program: Program, kinds: tuple[Kind, ...]) -> list[CodeRule]:
    return in_order(rule for rule in policy.codes.values() if rule.program is program and rule.kind in kinds)
