"""The rules of one payer: the dated values that apply on a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from msgspec import Struct

from fhir_mappings.rules.tables import CodeRule, Kind, PayerRule, Tables, load_tables, setting_value
from fhir_mappings.vocabulary import Program

UNKNOWN_PAYER = "unknown"


class Policy(Struct, frozen=True):
    """`payer` is the name that was asked for; `rule` is None where no table of it exists."""

    payer: str
    rule: PayerRule | None
    tables: Tables
    multi_device_union: bool
    contacts_per_addon_unit: int
    rtm_aux_time_counts: bool
    empty_days_until_episode_unclear: int
    assistant_de_minimis_percent: int
    rtm_and_rpm_exclusive: bool

    @property
    def version(self) -> str:
        return self.tables.version

    def rules_of(self, program: Program, kinds: tuple[Kind, ...]) -> list[CodeRule]:
        """A program's codes of these kinds; add-ons last, lower tiers first."""
        return self.tables.rules_of(program, kinds)

    def code(self, code: str) -> CodeRule:
        return self.tables.codes[code]

    def covers(self, code: str, day: date) -> bool:
        """Does the payer's table say yes for this code on this day? Silence is no."""
        return self.rule is not None and self.rule.covers(code, day)


def load_policy(payer: str | None = None, settings: Mapping[str, Any] | None = None) -> Policy:
    """A payer's policy; the shipped defaults where its file is silent, a site's `settings` over both.

    Raises `ValueError` with one line for an unknown setting or a value of the wrong type. An unknown payer is
    no error: nothing is covered then, so that everything met is for review.
    """
    tables = load_tables()
    name = payer or UNKNOWN_PAYER
    rule = tables.payers.get(name)
    values: dict[str, Any] = {key: row.value for key, row in tables.settings.items()}
    for source in (rule.settings if rule is not None else {}, settings or {}):
        for key, value in source.items():
            if key not in tables.settings:
                raise ValueError(f"unknown setting: {key} (known: {', '.join(sorted(tables.settings))})")
            values[key] = setting_value(value, tables.settings[key], key)
    multi_device = values["multi_device_rule"]
    if multi_device not in ("max", "union"):
        raise ValueError(f"setting multi_device_rule: expected max or union, got {multi_device!r}")
    return Policy(
        payer=name,
        rule=rule,
        tables=tables,
        multi_device_union=multi_device == "union",
        contacts_per_addon_unit=values["contacts_per_addon_unit"],
        rtm_aux_time_counts=values["rtm_aux_time_counts"],
        empty_days_until_episode_unclear=values["empty_days_until_episode_unclear"],
        assistant_de_minimis_percent=values["assistant_de_minimis_percent"],
        rtm_and_rpm_exclusive=values["rtm_and_rpm_exclusive"],
    )
