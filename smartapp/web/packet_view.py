"""What a packet says, in sections that a page and a PDF show alike.

Everything is what the packet says, whatever the chart has become since; names that it leaves out come from
`name_of`. A packet of an earlier version has fewer sections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from fhir_mappings.anchor import AnchorSource
from fhir_mappings.decision import CountedDay
from fhir_mappings.local_time import Window, clock_of, utc, zone_named
from fhir_mappings.vocabulary import Line, Program, RequirementKind, Role, Unverified
from smartapp.configuration.handover import Method
from smartapp.ehr.reading.auditor_notes import often
from smartapp.ehr.reading.display import banner
from smartapp.ehr.reading.plots import Plotter, placed
from smartapp.ehr.reading.seen import NAMED, Names, Seen, seen
from smartapp.plain import laid_out
from smartapp.store.charges import Leaving
from smartapp.store.denials import DenialState
from smartapp.store.packets import Kept
from smartapp.web import billing_words, charge_words, period_words, words
from smartapp.web.leaving import text_of
from smartapp.web.permission import ROLES
from smartapp.web.plots import PlotView, plots_in
from smartapp.web.resolutions import chosen_in_words, signed

MOST_ROWS = 1000
_READ_BACK = {
    "none": "It could not be read back from the EHR.",
    "same": "It was read back from the EHR, and is what was sent.",
    "other": "It was read back from the EHR, which had changed or added something.",
}
_MEASURED = {"typed": "typed", "clock": "by a clock", "clock-changed": "by a clock, and corrected by hand"}


@dataclass(frozen=True)
class Source:
    title: str
    address: str | None = None


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it; of each kind what there is."""

    key: str
    title: str
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    items: tuple[str, ...] = ()
    plots: tuple[PlotView, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    sources: tuple[Source, ...] = ()
    code: str = ""

    @property
    def empty(self) -> bool:
        return not (self.sentences or self.facts or self.items or self.rows or self.code)


@dataclass(frozen=True)
class PacketView:
    kept: Kept
    title: str
    patient: str
    """Who it is about, as the packet's own Patient says; "" where it holds none."""
    sections: tuple[Section, ...]


def packet_view(
    kept: Kept, content: bytes, zone: ZoneInfo, name_of: Callable[[str], str] = lambda reference: reference
) -> PacketView:
    """A packet in words. `zone`: where it names none."""
    packet: dict[str, Any] = msgspec.json.decode(content)
    told = _Told(kept, packet, zone, name_of)
    code, quantity = told.decision.get("code"), told.decision.get("quantity", 1)
    title = f"{code or 'a charge'}{f' × {quantity}' if quantity > 1 else ''}"
    sections = (
        told.what(),
        told.unusual(),
        told.said(),
        told.anchor(),
        told.days(),
        told.time(),
        told.other_parts(),
        told.left_out(),
        told.rule(),
        told.sent(),
    )
    return PacketView(kept, title, told.patient(), tuple(one for one in sections if not one.empty))


class _Told:
    """One packet, taken apart once."""

    def __init__(
        self, kept: Kept, packet: dict[str, Any], zone: ZoneInfo, name_of: Callable[[str], str]
    ) -> None:
        self._kept, self._packet, self._name_of = kept, packet, name_of
        self._evidence: dict[str, Any] = packet.get("evidence") or {}
        self.decision: dict[str, Any] = self._evidence.get("decision") or {}
        named = self._evidence.get("timezone")
        self._zone = zone_named(named) if named else zone
        self._rows: list[dict[str, Any]] = [
            *self._evidence.get("records", ()),
            *self._evidence.get("others", ()),
        ]
        clock, names = clock_of(self._zone), Names()
        self._people: dict[str, str] = {}
        for row in self._rows:
            body, type_ = row["resource"], row["reference"].partition("/")[0]
            if type_ in NAMED and isinstance(body, dict):
                names.add(row["reference"], body)
                self._people[row["reference"]] = names.of({"reference": row["reference"]})
        self._seen = {
            row["reference"]: seen(row["resource"], clock, names)
            for row in self._rows
            if isinstance(row["resource"], dict)
        }
        self._versions = {row["reference"]: row["version"] for row in self._rows}
        self._why = {one["resource"]: one["reason"] for one in self._evidence.get("left_out", ())}

    # Sections

    def patient(self) -> str:
        body = next(
            (r["resource"] for r in self._rows if r["reference"] == self._evidence.get("patient")), None
        )
        if not isinstance(body, dict):
            return f"Patient/{self._kept.patient}"
        who = banner(body)
        born = f", born {who.birth_date}" if who.birth_date else ""
        return f"{who.name or 'Name not given'}{born}, MRN {who.mrn or 'not given'}"

    def what(self) -> Section:
        packet, decision, kept = self._packet, self.decision, self._kept
        facts: list[tuple[str, str]] = []
        if packet.get("said"):
            facts.append(("Change", packet["said"]))
        if decision:
            period = decision["period"]
            facts.append(("Period", f"{words.day(period['start'])} to {words.day(period['end'])}"))
            facts.append(("Service date", words.day(decision.get("service_date")) or "none"))
            facts += [
                (words.REQUIREMENTS[part["requirement"]], self._of_part(part))
                for part in decision["requirements"]
            ]
            if decision.get("modifiers"):
                facts.append(("Modifiers", ", ".join(decision["modifiers"])))
        if self._evidence.get("payer"):
            facts.append(("Payer", self._evidence["payer"]))
        facts.append(("Written on", words.day(kept.created_at.astimezone(self._zone).date())))
        confirmed = packet.get("confirmed_by_name") or self._person(packet.get("confirmed_by", ""))
        facts.append(("Confirmed by", confirmed))
        if approval := packet.get("approval"):
            on = words.day(datetime.fromisoformat(approval["at"]).astimezone(self._zone).date())
            facts.append(("Approved by", f"{approval['by_name'] or self._person(approval['by'])}, {on}"))
        facts.append(("In the EHR", self._in_the_ehr()))
        return Section("what", "What was charged", facts=tuple(facts))

    def unusual(self) -> Section:
        return Section("unusual", "Late or unusual", items=tuple(self._evidence.get("notes", ())))

    def said(self) -> Section:
        return Section("said", "What people confirmed", items=tuple(self._sentences()))

    def anchor(self) -> Section:
        anchor = self._packet.get("anchor")
        items = [
            f"{self._on(one['at'])}, {self._anchor_change(one)}"
            for one in self._evidence.get("anchors", ())
            if one["program"] == self.decision.get("program")
        ]
        sentences = []
        if anchor:
            source = period_words.anchor_source(anchor["source"])
            who = self._person(anchor["confirmed_by"])
            on = self._on(anchor["confirmed_at"])
            sentences.append(f"They begin on {words.day(anchor['anchor_day'])}. {source} ({who}, {on}).")
            by_record = [
                one
                for one in self._evidence.get("found_anchor", ())
                if one["day"] and one["source"] not in {None, AnchorSource.ENROLMENT}
            ]
            sentences += [
                f"The record gave {words.day(one['day'])}. {period_words.anchor_source(one['source'])}"
                for one in by_record
            ]
            if items:
                sentences.append(f"Set by hand {often(len(items))}:")
            elif by_record:
                sentences.append("Nobody set a day by hand.")
        title = "Where the 30-day periods begin"
        return Section("anchor", title, sentences=tuple(sentences), items=tuple(items) if anchor else ())

    def _anchor_change(self, one: dict[str, Any]) -> str:
        """One time that somebody had the periods begin on a day, with what they stated."""
        told = period_words.anchor_change(
            self._person(one["by"]),
            one["day"],
            one.get("instead_of") or one["before"],
            one["source"],
            one.get("charged_on"),
        )
        return f"{told} Confirmed: “{one['says']}”" if one.get("says") else told

    def days(self) -> Section:
        """Each reading of the window that is held, day by day."""
        part = self._part(RequirementKind.MONITORING_DAYS)
        if part is None:
            return Section("days", "")
        counts = set(part["evidence"])
        window = self._window
        counted = {self._seen[name].day for name in counts if name in self._seen}
        rows = [
            (told.day, told.start, self._row(name, told, self._counted(name, counts, told.day in counted)))
            for name, told in self._seen.items()
            if name.startswith("Observation/") and told.day is not None and told.day in window
        ]
        title = f"{words.REQUIREMENTS[part['requirement']]}: {self._of_part(part)}"
        return Section(
            "days",
            title,
            sentences=(part["reference"],),
            plots=self._plots(window),
            columns=("Day", "Time", "What", "Value", "From", "Counted", "Record and version"),
            rows=tuple(row for _, _, row in sorted(rows, key=lambda one: one[:2])[:MOST_ROWS]),
        )

    def time(self) -> Section:
        part = self._part(RequirementKind.MANAGEMENT_TIME)
        if part is None:
            return Section("time", "")
        logged = {one["resource"]: one for one in self._evidence.get("time_log", ())}
        spans = sorted(self._evidence.get("spans", ()), key=lambda one: (one["start"], one["resource"]))
        rows = [self._span(one, logged.get(one["resource"])) for one in spans]
        if not spans:  # of an earlier version
            rows = [self._row(name, self._seen.get(name, Seen()), "yes") for name in part["evidence"]]
        title = f"{words.REQUIREMENTS[part['requirement']]}: {self._of_part(part)}"
        columns = (
            ("Day", "Time", "Minutes", "What", "Who", "How it was recorded", "Record and version")
            if spans
            else ("Day", "Time", "What", "Value", "From", "Counted", "Record and version")
        )
        talks = [
            f"{words.day(self._seen[name].day) if name in self._seen else name}: with "
            f"{talk['with_whom'] or 'somebody not said'}; about {talk['data'] or 'what is not said'}; "
            f"decided: {talk['decided'] or 'not said'}."
            for name, one in logged.items()
            if name in part["evidence"] and any((talk := one.get("talk") or {"": ""}).values())
        ]
        return Section(
            "time",
            title,
            sentences=(part["reference"],),
            items=tuple(talks),
            columns=columns,
            rows=tuple(rows),
        )

    def other_parts(self) -> Section:
        shown = {RequirementKind.MONITORING_DAYS, RequirementKind.MANAGEMENT_TIME}
        rows = [
            (words.REQUIREMENTS[part["requirement"]], *self._row(name, self._seen.get(name, Seen()), "")[:5])
            for part in self.decision.get("requirements", ())
            if part["requirement"] not in shown
            for name in part["evidence"]
        ]
        columns = ("For", "Day", "Time", "What", "Value", "From")
        return Section("others", "Other records that it rests on", columns=columns, rows=tuple(rows))

    def left_out(self) -> Section:
        held = [
            (self._why[name], told.day or date.min, told.start, name, told)
            for name, told in self._seen.items()
            if name in self._why
        ]
        rows = [
            (
                words.excluded(reason).capitalize(),
                *self._row(name, told, "")[:5],
                f"{name} {self._versions[name]}".strip(),
            )
            for reason, _, _, name, told in sorted(held, key=lambda one: one[:4])
        ]
        beyond = self._evidence.get("not_held", {}).get("left_out", {})
        sentences = [
            f"Not held here, since nothing hangs on them: "
            f"{words.listed(f'{number} {words.excluded(reason)}' for reason, number in beyond.items())}."
        ]
        columns = ("Why", "Day", "Time", "What", "Value", "From", "Record and version")
        return Section(
            "left-out",
            "Records left out, and why",
            sentences=tuple(sentences) if beyond else (),
            columns=columns,
            rows=tuple(rows[:MOST_ROWS]),
        )

    def rule(self) -> Section:
        rule, basis = self._evidence.get("rule"), self._evidence.get("basis")
        if not rule or not basis:
            return Section("rule", "")
        since, checked = words.day(rule["since"]), words.day(rule["last_checked"])
        return Section(
            "rule",
            "The rule",
            sentences=(
                f"{rule['says']} Since {since}; last checked {checked}.",
                f"Tables {self._evidence['rules_version']}, version {basis['app']} of the app.",
            ),
            sources=tuple(
                Source(f"{one['title']} ({one['site']})", one["address"]) for one in rule["sources"]
            ),
        )

    def sent(self) -> Section:
        packet, kept = self._packet, self._kept
        handed = packet.get("handed")
        place = handed["name"] if handed else f"ChargeItem/{kept.charge_item}"
        if "leaving" in packet:
            text = text_of(msgspec.convert(packet["leaving"], Leaving))
        else:
            text = laid_out(msgspec.json.encode(packet.get("written")))
        facts = [("Where", place)]
        if self._evidence.get("as_of"):
            facts.append(("Decided as of", f"{words.day(self._evidence['as_of'])}, {self._zone.key}"))
        facts.append(("SHA-256 of this record", kept.sha256))
        facts.append(("SHA-256 of what was read", (packet.get("snapshot") or {}).get("sha256", "not kept")))
        return Section("sent", "As it was sent", facts=tuple(facts), code=text)

    # Of these

    @property
    def _window(self) -> Window:
        period = self.decision["period"]
        return Window(date.fromisoformat(period["start"]), date.fromisoformat(period["end"]))

    def _part(self, kind: RequirementKind) -> dict[str, Any] | None:
        parts = self.decision.get("requirements", ())
        return next((part for part in parts if part["requirement"] == kind), None)

    def _of_part(self, part: Mapping[str, Any]) -> str:
        found, needed = words.amount(part["found"], part["unit"]), words.amount(part["needed"], part["unit"])
        return f"{found} found, {needed} needed"

    def _counted(self, name: str, counts: set[str], day_counts: bool) -> str:
        if name in counts:
            return "yes"
        if name in self._why:
            return f"no: {words.excluded(self._why[name])}"
        return "its day counts already" if day_counts else "not for this code"

    def _row(self, name: str, told: Seen, counted: str) -> tuple[str, ...]:
        version = self._versions.get(name, "")
        return (
            words.day(told.day),
            told.time,
            told.what,
            told.value,
            words.listed(told.by) if told.by else "",
            counted,
            f"{name} {version}".strip(),
        )

    def _span(self, span: Mapping[str, Any], logged: Mapping[str, Any] | None) -> tuple[str, ...]:
        start, end = (utc(span[edge]).astimezone(self._zone) for edge in ("start", "end"))
        name, role = span["resource"], span["role"]
        told = self._seen.get(name, Seen())
        who = words.listed(told.by) if told.by else ""
        if role in set(Role):
            who = f"{who} ({ROLES[Role(role)]})" if who else ROLES[Role(role)]
        how = "in the EHR"
        if logged is not None:
            how = (
                f"logged here, {_MEASURED.get(logged['measured'], logged['measured'])}; signed by "
                f"{self._person(logged['signed_by'])}, {self._on(logged['signed_at'])}"
            )
            if logged.get("days_late"):
                how += f"; typed {logged['days_late']} days later"
        live = ", live" if span["live"] else ""
        return (
            words.day(start.date()),
            f"{words.clock(start)} to {words.clock(end)}",
            words.minutes(span["seconds"]),
            f"{words.activity(span['activity'])}{live}",
            who,
            how,
            f"{name} {self._versions.get(name, '')}".strip(),
        )

    def _plots(self, window: Window) -> tuple[PlotView, ...]:
        program, line = Program(self.decision["program"]), self.decision.get("line")
        if line is None:
            return ()
        by_day: dict[date, list[str]] = {}
        for name, told in self._seen.items():
            counts = name.startswith("Observation/") and name not in self._why
            if counts and told.day is not None and told.day in window:
                by_day.setdefault(told.day, []).append(name)
        days = [CountedDay(program, Line(line), day, tuple(names)) for day, names in by_day.items()]
        plotter = Plotter(placed(days))
        for row in self._rows:
            plotter.add(row["reference"], msgspec.json.encode(row["resource"]))
        return plots_in(window, program, Line(line), plotter.plots())

    def _sentences(self) -> Iterator[str]:
        packet, evidence = self._packet, self._evidence
        who = packet.get("confirmed_by_name") or self._person(packet.get("confirmed_by", ""))
        if self.decision:
            for entry in packet.get("attested", ()):
                yield f"{words.attestation(Unverified(entry), self._window)} ({who}, with this charge)."
        for one in evidence.get("attestations", ()):
            sentence = words.ATTESTATIONS[Unverified(one["statement"])]
            yield f"{self._signed(sentence, one)}; {_scope(one)}."
        for one in evidence.get("resolutions", ()):
            chosen = chosen_in_words(one["resolves"], one["choice"])
            more = [f"{chosen[0].upper()}{chosen[1:]}."] if chosen else []
            more += [f"Reference: {one['reference']}."] if one["reference"] else []
            yield f"{self._signed(' '.join((one['says'], *more)), one)}; {_scope(one)}."
        for one in evidence.get("denials", ()):
            done = billing_words.DENIED[DenialState(one["done"])]
            codes = f"{one['reason']} {one['remark']}".strip()
            says = f"A payer's answer of {words.day(one['on'])}, reason {codes}: {done}"
            yield f"{self._signed(says, one)}."
        for one in evidence.get("episodes", ()):
            end = words.day(one["end"]) or "still running"
            source = words.plain(one["source"])
            says = f"An episode of care from {words.day(one['start'])} to {end}, from {source}"
            yield f"{self._signed(says, one)}."

    def _signed(self, sentence: str, one: Mapping[str, Any]) -> str:
        at = datetime.fromisoformat(one["at"]).astimezone(self._zone)
        return signed(sentence, self._person(one["by"]), at.date())

    def _on(self, at: str) -> str:
        return words.day(datetime.fromisoformat(at).astimezone(self._zone).date())

    def _person(self, reference: str) -> str:
        return self._people.get(reference) or self._name_of(reference)

    def _in_the_ehr(self) -> str:
        packet = self._packet
        if not packet.get("handed"):
            return _READ_BACK[_compared(packet)]
        handed, method = packet["handed"], Method(packet["leaving"]["method"])
        if method is Method.WORKSHEET:
            who = handed["by_name"] or self._person(handed["by"])
            return f"{who} entered it in billing by hand; the EHR did not confirm it as a charge."
        return (
            f"It was handed over as {charge_words.METHODS[method]}; the EHR did not confirm it as a charge."
        )


def _scope(one: Mapping[str, Any]) -> str:
    period = one["period"]
    window = period and Window(date.fromisoformat(period["start"]), date.fromisoformat(period["end"]))
    codes: Iterable[str] = one["codes"]
    return words.scope(codes, window)


def _compared(packet: Mapping[str, Any]) -> str:
    read_back, written = packet.get("read_back"), packet.get("written")
    if not isinstance(read_back, dict):
        return "none"
    own = {name: value for name, value in read_back.items() if name not in {"id", "meta"}}
    return "same" if own == written else "other"
