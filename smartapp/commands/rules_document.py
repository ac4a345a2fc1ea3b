"""docs/rules.md, made from the tables: `smartapp rules --markdown`. A test fails where the file is stale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date

from fhir_mappings.rules.policy import Policy, load_policy
from fhir_mappings.rules.register import PARTS, RuleInForce, needed_in_words, rules_in_force
from fhir_mappings.rules.tables import CodeRule, Kind, Tables
from fhir_mappings.terminology import Discipline

_INTRODUCTION = """\
# The rules, and where they come from

For people who code claims, and for auditors. Every number the app decides by stands in a table under
`fhir_mappings/rules/`, keyed by the first date of service it holds for; this page is made from those
tables (`make docs`). It is no billing or legal advice. CPT is a trademark of the American Medical
Association: codes stand here with labels of our own, never with the official wording.

How to read it:
- **decided**: the app decides by it. **review**: the app puts it before a human and says what to check.
  **stated**: no chart shows it; the app says so and asks for a statement where a charge depends on it.
  **proposed**: published and not in force; nothing is decided by it.
- An id such as `R2.9` or `D4` names the rule in the app, in its tests (`tests/cases/`) and in this page.
- A rule is *from* the first date of service it holds for. *Published* is the day of its newest source that
  says so; *checked* is the day somebody last held it against its sources.
- Sources are listed at the end, by number. **[G]** marks a text of the government or of a Medicare
  contractor, or a page that quotes one; the others are secondary.
- `smartapp rules --as-of DATE --payer NAME` prints the rules of any day, `smartapp rules diff DAY DAY` what
  changes between two, and `smartapp rules --stale-after 180d` lists what nobody has checked lately.
"""


def rules_document() -> str:
    """The whole page, for service dates up to the tables' last day, under Medicare's rules."""
    policy = load_policy("medicare")
    last = max(code.covers_to for code in policy.codes.values())
    rules = rules_in_force(policy, last)
    parts = [_INTRODUCTION, "\n".join(_codes(policy, last))]
    parts.append("## Codes that go before these\n" + "\n".join(_more_specific(policy.tables)))
    for _, name in PARTS:
        if name not in ("Codes", "Payers"):
            parts.append(f"## {name}\n" + _table(policy.tables, (r for r in rules if r.part == name)))
    parts.append("## Payers\n" + "\n".join(_payers(policy.tables, rules)))
    parts.append("## Settings\n" + "\n".join(_settings(policy)))
    parts.append("## Sources\n" + "\n".join(_sources(policy.tables)))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _codes(policy: Policy, last: date) -> Iterator[str]:
    yield "## Codes"
    yield f"The tables were checked for dates of service up to {last.isoformat()}. A later one is decided by"
    yield "the last table, and charged once the site has confirmed the rules or a newer table has come (D37)."
    yield ""
    yield "| id | code | what it is | needs | unit | not beside | in force from | sources | checked |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for code in policy.codes.values():
        yield _row(
            f"R1.1-{code.code}",
            code.code,
            _label(code),
            _needs(code, policy),
            code.unit + (f", at most {code.units_cap}" if code.units_cap is not None else ""),
            ", ".join(code.excludes) or "-",
            code.in_force_from.isoformat(),
            ", ".join(code.sources),
            code.last_checked.isoformat(),
        )
    notes = [f"- {code.code}: {code.note.strip()}" for code in policy.codes.values() if code.note]
    if notes:
        yield ""
        yield from notes
    yield ""
    yield from _thresholds(policy)
    yield ""
    yield from _places(policy)


def _thresholds(policy: Policy) -> Iterator[str]:
    yield "Each threshold, the first date of service it holds for, and where it comes from:"
    yield ""
    yield "| code | least | from | sources | checked |"
    yield "|---|---|---|---|---|"
    for code in policy.codes.values():
        for row in code.monitoring_days or code.management_seconds:
            yield _row(
                code.code,
                needed_in_words(code, row),
                row.start.isoformat(),
                ", ".join(row.sources),
                row.last_checked.isoformat(),
            )


def _places(policy: Policy) -> Iterator[str]:
    yield "Where each code stands. Of one group only the highest tier is charged; modifiers follow the"
    yield "therapist's discipline; past a code's last day nothing is charged before the rules are confirmed."
    yield ""
    yield "| code | program | kind | line | group | tier | therapist | assistant | until |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for code in policy.codes.values():
        yield _row(
            code.code,
            code.program,
            code.kind,
            code.line or "-",
            code.group or "-",
            str(code.tier) if code.tier else "-",
            _modifiers(code.therapy_modifiers),
            _modifiers(code.assistant_modifiers),
            code.covers_to.isoformat(),
        )


def _modifiers(of_discipline: Mapping[Discipline, str]) -> str:
    return ", ".join(f"{discipline} {modifier}" for discipline, modifier in of_discipline.items()) or "-"


def _label(code: CodeRule) -> str:
    """A code's label, with its line where the label itself does not begin to name it."""
    if code.line is None or code.line.split("-")[0] in code.label:
        return code.label
    return f"{code.label} ({code.line.replace('-', ' ')})"


def _needs(code: CodeRule, policy: Policy) -> str:
    """Every threshold with its day: the history of the rule in one cell."""
    if code.kind is Kind.HELD_BACK:
        return "never suggested"
    base = policy.codes[code.base] if code.base is not None else None
    rows = code.monitoring_days or code.management_seconds
    return "; ".join(
        needed_in_words(code, row, base) + (f" from {row.start.isoformat()}" if len(rows) > 1 else "")
        for row in rows
    )


def _table(tables: Tables, rules: Iterable[RuleInForce]) -> str:
    by_id = {entry.id: entry for entry in tables.register}
    rows = ["| id | rule | how | from | published | sources | checked |", "|---|---|---|---|---|---|---|"]
    for rule in rules:
        setting = f" Setting: `{rule.setting}`." if rule.setting else ""
        rows.append(
            _row(
                rule.id,
                rule.says + setting,
                rule.how,
                rule.since.isoformat(),
                rule.published.isoformat() if rule.published else "-",
                ", ".join(by_id[rule.id].sources) or "a default of ours",
                rule.last_checked.isoformat(),
            )
        )
    return "\n".join(rows)


def _payers(tables: Tables, rules: Iterable[RuleInForce]) -> Iterator[str]:
    payers = {f"R6-{payer.payer}": payer for payer in tables.payers.values()}
    yield "A code that a payer's table does not name is unknown, never covered: `review: payer-unknown`."
    yield "The patient's Coverage chooses the payer where the site says which Coverage means whom."
    yield ""
    for rule in rules:
        if rule.part == "Payers":
            sources = ", ".join(payers[rule.id].sources)
            published = f", {payers[rule.id].published}" if payers[rule.id].published else ""
            yield (
                f"- **{rule.id}** {rule.says} {rule.value} "
                f"({sources}{published}; checked {rule.last_checked.isoformat()})"
            )


def _more_specific(tables: Tables) -> Iterator[str]:
    yield "Known only because a charge of one of them holds some of the codes above (D41); none is suggested."
    yield ""
    yield "| code | what it is | goes before | sources | checked |"
    yield "|---|---|---|---|---|"
    for entry in tables.more_specific.values():
        before = [
            code.code
            for code in tables.codes.values()
            if code.program is entry.goes_before.program and code.kind in entry.goes_before.kinds
        ]
        yield _row(
            entry.code,
            entry.label,
            ", ".join(before),
            ", ".join(entry.sources),
            entry.last_checked.isoformat(),
        )


def _settings(policy: Policy) -> Iterator[str]:
    yield "What a site or a payer may decide otherwise: `settings` of the site's file or of a payer's table."
    yield ""
    yield "| setting | shipped | Medicare | from | reason | checked |"
    yield "|---|---|---|---|---|---|"
    for name, row in policy.tables.settings.items():
        yield _row(
            f"`{name}`",
            _shown(row.value),
            _shown(policy.setting(name)),
            row.start.isoformat(),
            row.reason,
            row.last_checked.isoformat(),
        )


def _sources(tables: Tables) -> Iterator[str]:
    for key, source in tables.sources.items():
        grade = " **[G]**" if source.grade == "government" else ""
        day = f", {source.published.isoformat()}" if source.published else ""
        yield f"- {key}{grade} {source.title}{day} ({source.site})"


def _shown(value: bool | int | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
