"""`smartapp evaluate`: the main job without a browser. Its JSON is a contract (docs/contract.md)."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec
import yaml
from msgspec import Struct
from msgspec.structs import replace

from fhir_mappings.chart import Chart
from fhir_mappings.decision import Assessment, strangers_json
from fhir_mappings.local_time import Window, zone_named
from fhir_mappings.record import Attestation, Excluded, PatientRecord, Resolution
from fhir_mappings.rules.compare import ExclusionViolated
from fhir_mappings.rules.policy import Policies
from fhir_mappings.rules.reviews import problem_of
from fhir_mappings.rules.what_if import WhatIf, imagine, read_what_if
from fhir_mappings.terminology import load_terminology, read_table
from fhir_mappings.vocabulary import Unverified
from smartapp.commands.evaluate_table import Hints, for_terminal, print_table
from smartapp.configuration.site_file import SiteFile, SiteFileError, read_site_file
from smartapp.population.deciding import Stated, answer_of
from smartapp.population.files import NotReadable, read_paths


class Fault(Exception):
    """Something the person who called can mend; its text is the one line they see."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Fault(message)


class _AttestedPeriod(Struct, frozen=True, forbid_unknown_fields=True):
    start: date
    end: date


class _Entry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of an attestations file: of whom, for what, by whom, and when."""

    patient: str
    codes: tuple[str, ...] = ()
    period: _AttestedPeriod | None = None
    by: str
    at: Any
    """A date or a time: YAML reads it as such, JSON holds it as text."""

    def __post_init__(self) -> None:
        self.on  # noqa: B018 - it must be one

    @property
    def on(self) -> date:
        if isinstance(self.at, datetime):
            return self.at.date()
        if isinstance(self.at, date):
            return self.at
        try:
            return datetime.fromisoformat(self.at).date()
        except (TypeError, ValueError):
            raise ValueError("at: expected a date or a time") from None

    @property
    def window(self) -> Window | None:
        return Window(self.period.start, self.period.end) if self.period is not None else None


class _AttestationEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What somebody stated."""

    statement: Unverified


class _ResolutionEntry(_Entry, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How somebody settled a reason for review."""

    resolves: str
    choice: Any = None
    """As text; YAML reads some of it as a date."""
    reference: str = ""
    until: date | None = None

    @property
    def resolution(self) -> Resolution:
        return Resolution(
            self.resolves,
            frozenset(self.codes),
            self.window,
            None if self.choice is None else str(self.choice),
            self.reference,
            self.until,
            self.by,
            self.on,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="FHIR JSON (Bundle or resource), NDJSON, or a folder of them"
    )
    site_options(parser)
    parser.add_argument("--evidence", choices=["all"], help="list every counted reading")
    parser.add_argument(
        "--what-if",
        action="append",
        default=[],
        metavar="CHANGE",
        help="imagine add-days=2, add-minutes=8, add-call-minutes=5 or payer=cigna; the answer says so",
    )
    parser.add_argument(
        "--suggest-site",
        action="store_true",
        help="print what was left out for want of a declaration, as lines for site.yaml to be confirmed",
    )
    parser.add_argument("--json", action="store_true", help="print the contract's JSON")


def site_options(parser: argparse.ArgumentParser) -> None:
    """Under what is decided: the day, the site, and what people stated."""
    parser.add_argument("--as-of", metavar="DATE", help="decide as of this local day (default: today)")
    parser.add_argument("--site", metavar="FILE", help="site.yaml: time zone, payer, codings of the site")
    parser.add_argument("--payer", metavar="NAME", help="whose rules apply, e.g. medicare")
    parser.add_argument("--timezone", metavar="ZONE", help="the site's IANA time zone")
    parser.add_argument("--history-from", metavar="DATE", help="the first day that was read")
    parser.add_argument("--attestations", metavar="FILE", help="statements that count as evidence")


def run(arguments: list[str]) -> int:
    """Evaluate and print. Exit status 0, or 2 with one line on standard error."""
    parser = Parser(prog="smartapp evaluate", description=__doc__, allow_abbrev=False)
    add_arguments(parser)
    # A short-lived process that keeps what it reads: looking for garbage in between finds none.
    gc.disable()
    left_out: list[Excluded] = []
    hints: Hints = {}
    try:
        options = parser.parse_args(arguments)
        answer = evaluate(
            [Path(path) for path in options.paths],
            as_of=read_day(options.as_of, "--as-of"),
            site=read_site_file(Path(options.site)) if options.site else SiteFile(),
            payer=options.payer,
            timezone=options.timezone,
            history_from=read_day(options.history_from, "--history-from"),
            attestations=read_attestations(Path(options.attestations), sys.stderr)
            if options.attestations
            else {},
            all_evidence=options.evidence == "all",
            what_if=options.what_if,
            progress=sys.stderr,
            left_out=left_out,
            hints=hints,
        )
    except (Fault, SiteFileError) as fault:
        print(f"smartapp evaluate: {' '.join(str(fault).split())}", file=sys.stderr)
        return 2
    finally:
        gc.enable()
    if options.suggest_site:
        from smartapp.commands.suggest_site import suggested_lines

        for line in suggested_lines(left_out):
            print(for_terminal(line))
    elif options.json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        print_table(answer, sys.stdout, hints)
    return 0


def evaluate(
    paths: Iterable[Path],
    *,
    as_of: date | None = None,
    site: SiteFile | None = None,
    payer: str | None = None,
    timezone: str | None = None,
    history_from: date | None = None,
    attestations: Mapping[str, Stated] | None = None,
    all_evidence: bool = False,
    what_if: Sequence[str] = (),
    progress: TextIO | None = None,
    left_out: list[Excluded] | None = None,
    hints: Hints | None = None,
) -> dict[str, Any] | list[dict[str, Any]]:
    """The contract's JSON for the patients in these files. Raises `Fault` with one line for a person.

    `left_out` gets what the records left out, as the chart names it; `hints`, by patient, what billing
    is told beside the decisions.
    """
    site = site or SiteFile()
    zone_name = timezone or site.timezone
    if not zone_name:
        raise Fault("no time zone: give --timezone, or `timezone` in the site file")
    try:
        zone = zone_named(zone_name)
        changes = read_what_if(what_if)
        payer = changes.payer or payer
        policies = site.policies(payer, always=payer is not None)
        terminology = load_terminology(site.terminology)
    except ValueError as fault:
        raise Fault(str(fault)) from None
    as_of = as_of or datetime.now(UTC).astimezone(zone).date()

    def say(line: str) -> None:
        if progress is not None:
            print(f"smartapp evaluate: {for_terminal(line)}", file=progress)

    chart = Chart(terminology, zone, as_of, history_from=history_from, codes=policies.default.known)
    try:
        read_paths(chart, paths, progress, say)
    except NotReadable as fault:
        raise Fault(str(fault)) from None
    patients = chart.patients()
    if not patients:
        raise Fault("no patient found in the input")
    answers = []
    for patient in patients:
        stated = (attestations or {}).get(patient, Stated())
        record = chart.record(patient, attestations=stated.attestations, resolutions=stated.resolutions)
        answer, assessment = _answer(record, policies, changes, all_evidence=all_evidence)
        answers.append(answer)
        if hints is not None:
            for decision in assessment.decisions:
                hints.setdefault(patient, {}).update(dict.fromkeys(decision.hints))
        if left_out is not None:
            left_out.extend(record.excluded)
    if what_if:
        for answer in answers:
            answer["what_if"] = list(what_if)
    if chart.ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(chart.ignored.items()))
        say(f"not needed for these codes: {kinds}")
    if len(answers) == 1:
        return answers[0]
    strangers = chart.strangers()
    if strangers:
        answers.append(strangers_json(answers[-1], strangers))
    return answers


def _answer(
    record: PatientRecord, policies: Policies, changes: WhatIf, *, all_evidence: bool
) -> tuple[dict[str, Any], Assessment]:
    if changes != WhatIf(payer=changes.payer):
        record = imagine(record, policies.of(record.payer), record.as_of, changes)
    try:
        return answer_of(record, policies, all_evidence=all_evidence)
    except ExclusionViolated as slip:
        raise Fault(
            f"{record.patient}: {slip} came out together, which must never be: nothing was decided. "
            "This is a fault of the rules; please report it"
        ) from None


def read_day(text: str | None, option: str) -> date | None:
    """A date as an option gives it. Raises `Fault`."""
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or len(text) != 10:
        raise Fault(f"{option}: expected a date such as 2026-04-01, got {text!r}")
    return day


def _entry(row: dict[str, Any]) -> _AttestationEntry | _ResolutionEntry:
    if "resolves" in row:
        return msgspec.convert(row, _ResolutionEntry)
    return msgspec.convert(row, _AttestationEntry)


def read_attestations(path: Path, told: TextIO) -> dict[str, Stated]:
    """Attestations and resolutions by patient. The file is a YAML or JSON list; see docs/contract.md. What
    settles nothing is `told`."""
    try:
        rows = msgspec.convert(read_table(path.read_text("utf-8")) or [], list[dict[str, Any]])
        entries = [_entry(row) for row in rows]
    except OSError as fault:
        raise Fault(f"{path}: {fault.strerror or 'cannot be read'}") from None
    except msgspec.ValidationError as fault:
        raise Fault(f"{path}: {fault}") from None
    except (UnicodeDecodeError, yaml.YAMLError):
        raise Fault(f"{path}: not YAML") from None
    found: dict[str, Stated] = {}
    for entry in entries:
        known = found.get(entry.patient, Stated())
        if isinstance(entry, _ResolutionEntry):
            if (problem := problem_of(entry.resolution)) is not None:
                print(for_terminal(f"smartapp evaluate: {path}: {problem}"), file=told)
            found[entry.patient] = replace(known, resolutions=(*known.resolutions, entry.resolution))
            continue
        if entry.statement is Unverified.RULES_OF_THE_YEAR:
            print(
                f"smartapp evaluate: {path}: {entry.statement} is nobody's to attest; it is settled by "
                "`rules_confirmed` in the site file, or by a newer table",
                file=told,
            )
            continue
        attestation = Attestation(str(entry.statement), frozenset(entry.codes), entry.window)
        found[entry.patient] = replace(known, attestations=(*known.attestations, attestation))
    return found
