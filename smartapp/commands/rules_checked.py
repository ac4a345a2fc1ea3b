"""Up to which date of service the rules were checked: a line of `config check` and `doctor` (D37)."""

from __future__ import annotations

from datetime import date
from enum import Enum

from fhir_mappings.rules.policy import Policy
from smartapp.commands.checks import Checks


def check_rules(checks: Checks, id_: Enum, policy: Policy, today: date) -> None:
    """A warning from 60 days before the first code's rules end; it says on which day, and what to do."""
    last = policy.checked_to
    if not policy.ends_soon(today):
        checks.ok(id_, f"checked for dates of service up to {last}")
        return
    checks.warning(
        id_,
        f"checked for dates of service up to {last}; later ones cannot be charged before rules_confirmed or "
        "a newer table in the site file: docs/new-year.md, and `smartapp rules diff` for what changes",
    )
