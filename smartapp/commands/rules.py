"""`smartapp rules`: the rules in force on a day, for a payer; and which of them nobody has checked lately.

`smartapp rules diff DAY DAY`: what changes between two dates of service, for the coder who signs a year off.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NoReturn, TextIO

import msgspec

from fhir_mappings.rules.difference import Changed, Difference, differences
from fhir_mappings.rules.policy import Policy
from fhir_mappings.rules.register import RuleInForce, Status, proposed, rules_in_force, stale
from smartapp.configuration.site_file import SiteFile, SiteFileError, read_site_file


class Fault(Exception):
    """Something the person who called can mend; its text is the one line they see."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Fault(message)


def run(arguments: list[str]) -> int:
    """Print the rules. Exit status 0; 1 where `--stale-after` found some; 2 and one line for a wrong call."""
    try:
        return _diff(arguments[1:]) if arguments[:1] == ["diff"] else _rules(arguments)
    except (Fault, SiteFileError) as fault:
        print(f"smartapp rules: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2


def _rules(arguments: list[str]) -> int:
    parser = _Parser(prog="smartapp rules", description=__doc__, allow_abbrev=False)
    parser.add_argument("--as-of", metavar="DATE", help="the service date to answer for (default: today)")
    _add_site(parser)
    parser.add_argument("--stale-after", metavar="180d", help="list only what was not checked for so long")
    parser.add_argument("--markdown", action="store_true", help="print the whole page docs/rules.md")
    options = parser.parse_args(arguments)
    if options.markdown:
        from smartapp.commands.rules_document import rules_document

        print(rules_document(), end="")
        return 0
    day = datetime.now(UTC).date() if options.as_of is None else _day(options.as_of, "--as-of")
    policy = _policy(_site(options), options.payer)
    rules = rules_in_force(policy, day)
    if options.stale_after:
        rules = stale(rules, day - _days(options.stale_after))
    if options.json:
        answer = {
            "as_of": day,
            "payer": policy.payer,
            "rules_version": policy.version,
            **_checked(policy, day),
            "rules": rules,
        }
        _print_json(answer)
    elif options.stale_after and not rules:
        print(f"Everything was checked within {options.stale_after} before {day.isoformat()}.")
    else:
        _print(rules, policy, day, sys.stdout)
    return 1 if options.stale_after and rules else 0


def _diff(arguments: list[str]) -> int:
    parser = _Parser(
        prog="smartapp rules diff",
        description="What changes between two dates of service: codes, thresholds, payers' rows, settings, "
        "and up to which day the tables were checked. Exit status 0, or 2 and one line for a wrong call.",
        allow_abbrev=False,
    )
    parser.add_argument("before", metavar="DAY", help="a date of service, e.g. 2026-12-31")
    parser.add_argument("after", metavar="DAY", help="a later one, e.g. 2027-01-01")
    _add_site(parser)
    options = parser.parse_args(arguments)
    before, after = _day(options.before, "diff"), _day(options.after, "diff")
    if after <= before:
        raise Fault("diff: the second day must be the later one")
    site = _site(options)
    policy = _policy(site, options.payer)
    changes = differences(policy, before, after, site.payer_rules)
    if options.json:
        answer = {
            "from": before,
            "to": after,
            "payer": policy.payer,
            "rules_version": policy.version,
            "changes": changes,
            **_checked(policy, after),
            "proposed": [rule for rule in rules_in_force(policy, after) if rule.status is Status.PROPOSED],
        }
        _print_json(answer)
    else:
        _print_differences(policy, before, after, changes, sys.stdout)
    return 0


def _add_site(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--payer", metavar="NAME", help="whose rules (default: the site's, else medicare)")
    parser.add_argument("--site", metavar="FILE", help="site.yaml: its payer, settings and tables")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _site(options: argparse.Namespace) -> SiteFile:
    return read_site_file(Path(options.site)) if options.site else SiteFile()


def _policy(site: SiteFile, asked: str | None) -> Policy:
    payer = asked or site.payer or "medicare"
    try:
        policy = site.policies(payer).default
    except ValueError as fault:
        raise Fault(str(fault)) from None
    if policy.rule is None:
        known = ", ".join(sorted(policy.tables.payers))
        raise Fault(f"no table for payer {payer!r}: everything met is for review (there are: {known})")
    return policy


def _checked(policy: Policy, day: date) -> dict[str, object]:
    """For which days somebody checked the tables, and of which codes nobody did for this one."""
    return {
        "tables_end": min(policy.ends.values()),
        "not_checked": policy.not_checked(day),
        "rules_confirmed": policy.confirmed,
    }


def _print_json(answer: Mapping[str, object]) -> None:
    print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())


def _unchecked_in_words(policy: Policy, day: date) -> str | None:
    """What nobody checked for a day, and what that means; None where everything was."""
    codes = policy.not_checked(day)
    if not codes:
        return None
    named = "all codes" if len(codes) == len(policy.codes) else ", ".join(codes)
    ends = " and ".join(str(end) for end in sorted({policy.ends[code] for code in codes}))
    return (
        f"Nobody has checked the rules for {day} ({named}); they were checked up to {ends}. The last table "
        "decides, with `unverified: rules-of-the-year`, and nothing of it can be charged before the site's "
        "rules_confirmed or a newer table (docs/new-year.md)."
    )


def _confirmed_in_words(policy: Policy) -> Iterator[str]:
    for entry in policy.confirmed:
        named = "all codes" if entry.codes == "all" else ", ".join(entry.codes)
        yield f"Confirmed for {named} up to {entry.to}, by {entry.by} on {entry.on}: {entry.source}"


def _print_differences(
    policy: Policy, before: date, after: date, changes: Sequence[Difference], out: TextIO
) -> None:
    print(f"What changes between dates of service {before} and {after}, payer {policy.payer}", file=out)
    print(f"version {policy.version}", file=out)
    for line in _confirmed_in_words(policy):
        print(line, file=out)
    print(file=out)
    ends = sorted({policy.code_on(code, after).covers_to for code in policy.codes})
    until = " and ".join(map(str, ends))
    if not changes:
        print(f"Nothing changes in the tables; they end on {until}.", file=out)
    for kind in Changed:
        of_kind = [change for change in changes if change.changed is kind]
        if of_kind:
            print(f"{kind.value[0].upper()}{kind.value[1:]}", file=out)
        for change in of_kind:
            print(f"  {change.about:8} {change.before} -> {change.after}", file=out)
            if change.reference:
                print(f"  {'':8} {change.reference}", file=out)
    if changes:
        print(f"\nThe tables end on {until}.", file=out)
    if (unchecked := _unchecked_in_words(policy, after)) is not None:
        print(unchecked, file=out)
    if coming := proposed(policy.tables, after):
        print("\nProposed, and deciding nothing", file=out)
    for entry in coming:
        print(f"  {entry.id:8} for {entry.start}: {entry.says}", file=out)
    for reference in dict.fromkeys(policy.tables.reference(entry.sources) for entry in coming):
        print(f"  {'':8} {reference}", file=out)


def _print(rules: Iterable[RuleInForce], policy: Policy, day: date, out: TextIO) -> None:
    if (unchecked := _unchecked_in_words(policy, day)) is not None:
        print(f"{unchecked}\n", file=out)
    print(f"Rules for dates of service on {day.isoformat()}, payer {policy.payer}", file=out)
    print(f"version {policy.version}", file=out)
    for line in _confirmed_in_words(policy):
        print(line, file=out)
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
    if rule.status is Status.ENDED:
        words[0] += ", ended"
    if rule.reference:
        words.append(rule.reference)
    if rule.published:
        words.append(f"published {rule.published}")
    words.append(f"last checked {rule.last_checked}")
    return "; ".join(words)


def _day(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Fault(f"{option}: expected a date such as 2026-04-01, got {text!r}") from None


def _days(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,5})d", text)
    if found is None:
        raise Fault(f"--stale-after: expected days such as 180d, got {text!r}")
    return timedelta(days=int(found[1]))
