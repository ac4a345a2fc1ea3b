"""The rules as data: one YAML file a code or payer, values keyed by the day they take effect.

A change of the rules is a new dated line in a table, never an overwrite, and each value names its sources and
the day somebody last checked it.
"""

from __future__ import annotations

import hashlib
from calendar import monthrange
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.charge_numbers import Numbers
from fhir_mappings.rules.hints import NEVER_HERE
from fhir_mappings.terminology import Discipline, read_table
from fhir_mappings.vocabulary import Line, Program

_Table = TypeVar("_Table")


class Kind(StrEnum):
    START_UP = "start-up"
    DEVICE_SUPPLY = "device-supply"
    MANAGEMENT = "management"
    MANAGEMENT_ADD_ON = "management-add-on"
    HELD_BACK = "held-back"
    """Never suggested; a charged one holds others back."""


class Dated(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """The least that is needed from a day on: monitoring days, or seconds of management."""

    start: date
    least: int
    sources: tuple[str, ...]
    last_checked: date


class CodeRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One code's file. `excludes`: codes that can't be charged beside it in the same window."""

    code: str
    label: str
    program: Program
    kind: Kind
    unit: str
    in_force_from: date
    in_force_to: date | None = None
    """Its last date of service; None while nobody ended it."""
    sources: tuple[str, ...]
    last_checked: date
    covers_to: date
    line: Line | None = None
    group: str | None = None
    tier: int = 0
    base: str | None = None
    units_cap: int | None = None
    excludes: tuple[str, ...] = ()
    monitoring_days: tuple[Dated, ...] = ()
    management_seconds: tuple[Dated, ...] = ()
    therapy_modifiers: Mapping[Discipline, str] = {}
    assistant_modifiers: Mapping[Discipline, str] = {}
    note: str = ""

    def __post_init__(self) -> None:
        if self.in_force_to is not None and self.in_force_to < self.in_force_from:
            raise ValueError(f"{self.code}: it would end before it begins")
        starts = [row.start for row in (self.monitoring_days or self.management_seconds)]
        if twice := next((start for start in starts if starts.count(start) > 1), None):
            raise ValueError(f"{self.code}: two thresholds from {twice}")

    def in_force(self, day: date) -> bool:
        """Whether a service of that day may bear it."""
        return self.in_force_from <= day and (self.in_force_to is None or day <= self.in_force_to)

    def least(self, day: date) -> Dated:
        """The threshold in force on a day; before the first one, the first."""
        rows = self.monitoring_days or self.management_seconds
        if len(rows) == 1:
            return rows[0]
        return max((row for row in rows if row.start <= day), key=lambda row: row.start, default=rows[0])


class GoesBefore(Struct, frozen=True, forbid_unknown_fields=True):
    program: Program
    kinds: tuple[Kind, ...]


class MoreSpecific(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A code that is charged instead of some of ours, and known for that alone (D41). `monitor`: what it is
    the code of, where readings show that by themselves."""

    code: str
    label: str
    goes_before: GoesBefore
    sources: tuple[str, ...]
    last_checked: date
    monitor: Literal["continuous-glucose"] | None = None


class Source(Struct, frozen=True, forbid_unknown_fields=True):
    """`published`: only where the source says so."""

    title: str
    site: str
    grade: Literal["government", "secondary"]
    published: date | None = None


class RuleEntry(
    Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"start": "from", "end": "to"}
):
    """One rule of the register. `how`: decided by the app, put before a human (`review`), or only `stated`,
    since no chart shows it; `proposed` is published and not in force, so that nothing hangs on it. `end`: its
    last date of service. `setting`: where a site or payer may decide otherwise."""

    id: str
    start: date
    end: date | None = None
    how: Literal["decided", "review", "stated", "proposed"]
    says: str
    sources: tuple[str, ...]
    last_checked: date
    setting: str | None = None


class SettingRow(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    value: bool | int | str
    start: date
    reason: str
    last_checked: date


class Covered(StrEnum):
    """What a payer's table says of a code on a day."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"
    PRIOR_AUTH = "prior-auth"
    CRITERIA = "criteria"
    """Accepted under conditions that no chart answers by itself."""


class Coverage(Struct, frozen=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """From a day on: which codes, and what differs for them.

    `least`: monitoring days, or seconds of management. `diagnoses`: the ICD-10-CM beginnings of which the
    payer asks for one; with `covered: yes` that is all it asks. `modifiers`: those it always asks for.
    """

    start: date
    codes: Literal["all"] | tuple[str, ...]
    covered: Covered
    least: int | None = None
    units_cap: int | None = None
    diagnoses: tuple[str, ...] = ()
    modifiers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if never := sorted(NEVER_HERE & set(self.modifiers)):
            raise ValueError(f"coverage: modifier {never[0]} is not for these codes, which have no such part")


class Announced(Struct, frozen=True, forbid_unknown_fields=True):
    """What a payer has announced without a day. It decides nothing until somebody makes it a row with one."""

    codes: Literal["all"] | tuple[str, ...]
    covered: Covered
    diagnoses: tuple[str, ...] = ()


class PayerRule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a payer changes. A code without a row is unknown, never covered."""

    payer: str
    label: str
    coverage: tuple[Coverage, ...] = ()
    settings: Mapping[str, bool | int | str] = {}
    announced: tuple[Announced, ...] = ()
    checklist: tuple[str, ...] = ()
    """What a reviewer of its criteria must find, in words of our own."""
    code_tables: tuple[str, ...] = ()
    """Files of codes as this payer has them, in the shape of codes/, beside this one."""
    code_rules: tuple[CodeRule, ...] = ()
    """What `code_tables` hold. Never written in the file itself."""
    note: str = ""
    sources: tuple[str, ...] = ()
    published: date | None = None
    last_checked: date

    def __post_init__(self) -> None:
        """Two rows of one day that speak of one code alike would leave it to their order what holds (D34)."""
        spoken = Counter(
            (row.start, name)
            for row in self.coverage
            for name in (("all",) if row.codes == "all" else set(row.codes))
        )
        for (start, name), number in sorted(spoken.items()):
            if number > 1:
                raise ValueError(f"coverage: {number} rows from {start} name {name}")

    def row(self, code: str, day: date) -> Coverage | None:
        """The newest row on that code in force on that day."""
        return max(
            (row for row in self.rows(code) if row.start <= day), key=lambda row: row.start, default=None
        )

    def rows(self, code: str) -> list[Coverage]:
        """The rows on that code, the oldest first; of one day the one that names it, not the one on all."""
        found = {row.start: row for row in self.coverage if row.codes == "all"}
        found |= {row.start: row for row in self.coverage if row.codes != "all" and code in row.codes}
        return [found[start] for start in sorted(found)]

    def covered(self, code: str, day: date) -> Covered:
        """Silence is unknown; a list of diagnoses is a condition, which only a chart can answer."""
        row = self.row(code, day)
        if row is None:
            return Covered.UNKNOWN
        return Covered.CRITERIA if row.covered is Covered.YES and row.diagnoses else row.covered


MONTHS_CONFIRMED_AHEAD = 12
"""How far past a table's end a site may confirm it: fee schedule and codes change each January, so that one
word never stands for two changes that nobody has read (D37)."""


class Confirmation(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A site's word that its last tables still hold, up to a date of service: who said so, on which day, and
    which published rule they read."""

    codes: Literal["all"] | tuple[str, ...]
    to: date
    by: str
    on: date
    source: str

    def __post_init__(self) -> None:
        if not self.codes:
            raise ValueError("codes: name the codes, or `all`")
        if not self.by.strip():
            raise ValueError("by: say who confirms it")
        if not self.source.strip():
            raise ValueError("source: name the published rule that was read")

    def holds(self, code: str, day: date) -> bool:
        """Whether it speaks of a code's date of service."""
        return day <= self.to and (self.codes == "all" or code in self.codes)


def check_confirmations(confirmed: Iterable[Confirmation], ends: Mapping[str, date]) -> None:
    """`ends`: the last day for which each code's tables were checked. Raises `ValueError` with one line where
    a code is unknown, or confirmed for longer than a year past that day."""
    for entry in confirmed:
        named = tuple(ends) if entry.codes == "all" else entry.codes
        for code in named:
            if code not in ends:
                raise ValueError(f"rules_confirmed: there is no code {code}")
            latest = months_after(ends[code], MONTHS_CONFIRMED_AHEAD)
            if entry.to > latest:
                raise ValueError(
                    f"rules_confirmed: `to: {entry.to}` is more than {MONTHS_CONFIRMED_AHEAD} months past "
                    f"the end of the table of {code} ({ends[code]}); at most {latest}"
                )


def months_after(day: date, months: int) -> date:
    """The same day of the month so many months later; the month's last where it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


@dataclass(frozen=True, eq=False)
class Tables:
    codes: Mapping[str, CodeRule]
    payers: Mapping[str, PayerRule]
    settings: Mapping[str, SettingRow]
    sources: Mapping[str, Source]
    register: tuple[RuleEntry, ...]
    version: str
    more_specific: Mapping[str, MoreSpecific]

    @lru_cache(maxsize=256)  # noqa: B019 - there is one set of tables in a process
    def reference(self, sources: tuple[str, ...]) -> str:
        """Sources in words, for a person to follow. What sources.yaml does not know a site's own table says
        in words already."""
        known = self.sources
        return "; ".join(
            f"{known[key].title} [{known[key].site}]" if key in known else key for key in sources
        )

    @lru_cache(maxsize=64)  # noqa: B019
    def rules_of(self, program: Program, kinds: tuple[Kind, ...]) -> list[CodeRule]:
        """A program's codes of these kinds; add-ons last, lower tiers first."""
        return in_order(
            rule for rule in self.codes.values() if rule.program is program and rule.kind in kinds
        )


def in_order(rules: Iterable[CodeRule]) -> list[CodeRule]:
    """Add-ons last, lower tiers first."""
    return sorted(rules, key=lambda rule: (rule.base is not None, rule.tier, rule.code))


def code_table(entries: Any) -> tuple[CodeRule, ...]:
    """A file of codes: one in the shape of codes/, or a list of such. Raises `msgspec.ValidationError`."""
    return msgspec.convert(entries if isinstance(entries, list) else [entries], tuple[CodeRule, ...])


def with_code_tables(payer: PayerRule, read: Callable[[str], tuple[CodeRule, ...]]) -> PayerRule:
    """A payer with what its `code_tables` hold. `read`: a file that it names."""
    if payer.code_rules:
        raise ValueError("code_rules is no key of a payer's table; name the file under code_tables")
    return replace(payer, code_rules=tuple(rule for name in payer.code_tables for rule in read(name)))


def table_text(name: str) -> str:
    """A file beside this one: whatever is read of the rules is read here."""
    return files(__package__).joinpath(name).read_text("utf-8")


@cache
def load_tables() -> Tables:
    """The shipped tables, read once. `version`: the day they were last checked and a digest of them. Raises
    `msgspec.ValidationError` that names the file."""
    digest = hashlib.sha256()

    def entries(name: str) -> Any:
        text = table_text(name)
        digest.update(name.encode() + b"\0" + text.encode())
        return read_table(text)

    def read(name: str, kind: type[_Table]) -> _Table:
        try:
            return msgspec.convert(entries(name), kind)
        except msgspec.ValidationError as fault:
            raise msgspec.ValidationError(f"{name}: {fault}") from None

    def folder(name: str) -> list[str]:
        names = [entry.name for entry in files(__package__).joinpath(name).iterdir()]
        return sorted(f"{name}/{entry}" for entry in names if entry.endswith(".yaml"))

    codes = [read(name, CodeRule) for name in folder("codes")]
    payers = [
        with_code_tables(read(name, PayerRule), lambda table: code_table(entries(f"payers/{table}")))
        for name in folder("payers")
    ]
    more_specific = read("more_specific.yaml", tuple[MoreSpecific, ...])
    settings = read("settings.yaml", dict[str, SettingRow])
    sources = read("sources.yaml", dict[str, Source])
    register = read("register.yaml", tuple[RuleEntry, ...])
    checked = max(code.last_checked for code in codes)
    return Tables(
        MappingProxyType({code.code: code for code in codes}),
        MappingProxyType({payer.payer: payer for payer in payers}),
        MappingProxyType(settings),
        MappingProxyType(sources),
        register,
        f"{checked.isoformat()}+{digest.hexdigest()[:12]}",
        MappingProxyType({entry.code: entry for entry in more_specific}),
    )


class KnownCodes(Numbers):
    """Every code by which a charge may matter here: those of the tables in force, a site's own among them,
    and those that go before some of them. `rules`: the newest of each code of remote monitoring."""

    def __init__(self, rules: Mapping[str, CodeRule], more_specific: Iterable[str]) -> None:
        self.rules = rules
        self.programs: Mapping[str | None, Program] = MappingProxyType(
            {code: rule.program for code, rule in rules.items()}
        )
        """Every code of remote monitoring, with its program."""
        self.all = frozenset({*rules, *more_specific})
        super().__init__(self.all)


@cache
def shipped_codes() -> KnownCodes:
    """Those of the shipped tables."""
    tables = load_tables()
    return KnownCodes(tables.codes, tables.more_specific)


def setting_value(value: Any, shipped: SettingRow, name: str) -> bool | int | str:
    """A setting of the same type as the shipped one; `ValueError` in one line otherwise."""
    if type(value) is not type(shipped.value):
        wanted = type(shipped.value).__name__
        raise ValueError(f"setting {name}: expected {wanted}, got {value!r}")
    checked: bool | int | str = value
    return checked
