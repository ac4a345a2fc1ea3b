"""`smartapp rules`: the rules in force on a day, for a payer; and which of them nobody has checked lately."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NoReturn, TextIO

import msgspec

from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.register import RuleInForce, rules_in_force, stale
from smartapp.site_file import SiteFile, SiteFileError, read_site_file


class Fault(Exception):
    """Something the person who called can mend; its text is the one line they see."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Fault(message)


def run(arguments: list[str]) -> int:
    """Print the rules. Exit status 0; 1 where `--stale-after` found some; 2 and one line for a wrong call."""
    parser = _Parser(prog="smartapp rules", description=__doc__, allow_abbrev=False)
    parser.add_argument("--as-of", metavar="DATE", help="the service date to answer for (default: today)")
    parser.add_argument("--payer", metavar="NAME", help="whose rules (default: the site's, else medicare)")
    parser.add_argument("--site", metavar="FILE", help="site.yaml: its payer, settings and payer tables")
    parser.add_argument("--stale-after", metavar="180d", help="list only what was not checked for so long")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print the whole page docs/rules.md")
    try:
        options = parser.parse_args(arguments)
        if options.markdown:
            from smartapp.commands.rules_document import rules_document

            print(rules_document(), end="")
            return 0
        site = read_site_file(Path(options.site)) if options.site else SiteFile()
        day = _day(options.as_of)
        payer = options.payer or site.payer or "medicare"
        try:
            policy = site.policies(payer).default
        except ValueError as fault:
            raise Fault(str(fault)) from None
        if policy.rule is None:
            known = ", ".join(sorted(policy.tables.payers))
            raise Fault(f"no table for payer {payer!r}: everything met is for review (there are: {known})")
        rules = rules_in_force(policy, day)
        if options.stale_after:
            rules = stale(rules, day - _days(options.stale_after))
    except (Fault, SiteFileError) as fault:
        print(f"smartapp rules: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    if options.json:
        answer = {
            "as_of": day.isoformat(),
            "payer": policy.payer,
            "rules_version": policy.version,
            "rules": rules,
        }
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    elif options.stale_after and not rules:
        print(f"Everything was checked within {options.stale_after} before {day.isoformat()}.")
    else:
        _print(rules, policy, day, sys.stdout)
    return 1 if options.stale_after and rules else 0


def _print(rules: Iterable[RuleInForce], policy: Policy, day: date, out: TextIO) -> None:
    print(f"Rules for dates of service on {day.isoformat()}, payer {policy.payer}", file=out)
    print(f"version {policy.version}", file=out)
    part = ""
    for rule in rules:
        if rule.part != part:
            part = rule.part
            print(f"\n{part}", file=out)
        told = f"{rule.says} {rule.value}".strip()
        print(f"  {rule.id:12} {told}", file=out)
        print(f"  {'':12} {_provenance(rule)}", file=out)


def _provenance(rule: RuleInForce) -> str:
    words = [f"from {rule.since}", rule.how]
    if rule.reference:
        words.append(rule.reference)
    if rule.published:
        words.append(f"published {rule.published}")
    words.append(f"last checked {rule.last_checked}")
    return "; ".join(words)


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Fault(f"--as-of: expected a date such as 2026-04-01, got {text!r}") from None


def _days(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})d", text)
    if found is None:
        raise Fault(f"--stale-after: expected days such as 180d, got {text!r}")
    return timedelta(days=int(found[1]))
