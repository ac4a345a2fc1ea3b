"""From what was read to what a page shows: decisions, their evidence in words, and what could not be read.

`Findings` is the one document of a snapshot. The page, its fragments, the `.json` twin and the accept form
are all made from it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from fhir_mappings.anchor import ProgramAnchor, anchors_of
from fhir_mappings.chart import Chart
from fhir_mappings.completeness import Completeness
from fhir_mappings.decision import Assessment, Decision, answer_json, head_of
from fhir_mappings.identity import Bases
from fhir_mappings.local_time import ONE_DAY, LocalClock, clock_of
from fhir_mappings.needs import Needs, needs
from fhir_mappings.reconciliation import Change, ours_among, reconcile
from fhir_mappings.record import Enrolment as Anchor
from fhir_mappings.record import EpisodeOfCare, Order, PatientRecord, PriorCharge, Resolution
from fhir_mappings.rules.engine import assess
from fhir_mappings.rules.what_if import WhatIf, imagine
from fhir_mappings.vocabulary import Program, Role
from smartapp.configuration.site import Site
from smartapp.ehr.reading.auditor_notes import days_late
from smartapp.ehr.reading.display import CHOOSABLE, Banner, Choice, Choices, banner, choices, decode
from smartapp.ehr.reading.notices import Notice, missing_from
from smartapp.ehr.reading.own_record import OwnRecord, SettledLine, StatementLine
from smartapp.ehr.reading.plots import Plot, Plotter, placed
from smartapp.ehr.reading.seen import MOST_OF_A_DAY, NAMED, Names, Seen, described, seen
from smartapp.ehr.wire.capability import Capability
from smartapp.ehr.wire.looks import Reading, last_day, last_day_of, look, says_a_day_after
from smartapp.ehr.wire.patient_scope import Whose
from smartapp.store.charges import Enrolment
from smartapp.store.reading import StoredResource


class Writes(Struct, frozen=True):
    """What /metadata says can be written."""

    create: bool
    update: bool
    beside: tuple[str, ...] = ()
    """Other types that can be created."""
    operations: tuple[str, ...] = ()
    """Of ChargeItem."""


def writes_of(found: Capability) -> Writes | None:
    """None where there was no CapabilityStatement."""
    if not found.known:
        return None
    beside = tuple(sorted(name for name in found.types if name != "ChargeItem" and found.creates(name)))
    return Writes(found.create, found.update, beside, tuple(sorted(found.of("ChargeItem").operations)))


class ForTheForm(Struct, frozen=True):
    """What only the form of a charge needs, read when it is first opened."""

    conditions: tuple[Choice, ...] = ()
    accounts: tuple[Choice, ...] = ()
    notices: tuple[Notice, ...] = ()


class Findings(Struct, frozen=True):
    """Everything a page shows of one snapshot."""

    said: dict[str, Any] = field(name="contract")
    """Of whom, when and by which rules this is, and what this app keeps of the patient."""
    assessment: Assessment
    patient: Banner
    choices: Choices
    versions: dict[str, str]
    """Reference -> version, of all evidence and of every ChargeItem: what accepting compares."""
    notices: tuple[Notice, ...]
    completeness: Completeness
    """What may be missing, for everybody who decides on it."""
    history_from: date
    resources: int
    server_time: datetime | None = None
    """What the EHR's own clock showed when the reading began, where it said so."""
    user_role: Role = Role.UNKNOWN
    """In which role the signed-in user works, as the chart's staff records say."""
    roles: dict[str, Role] = {}
    """The same of everybody who can be chosen for a charge."""
    people: dict[str, str] = {}
    """Whom each reference to staff means: PractitionerRole -> Practitioner."""
    ordered_by: dict[str, tuple[str, ...]] = {}
    """Who ordered the monitoring, by program: everybody whom an order on record names."""
    basis: tuple[str, ...] = ()
    """Which logged entries and statements were decided from (`OwnRecord.basis`)."""
    logged: dict[str, str] = {}
    """Reference -> entry of the time log: Encounters that were logged in this app."""
    statements: tuple[StatementLine, ...] = ()
    overtaken: tuple[str, ...] = ()
    """The EHR's copies of logged entries that were corrected or withdrawn since."""
    handed: tuple[PriorCharge, ...] = ()
    """Charges that were handed over otherwise than as a ChargeItem, as they were decided with."""
    denied: tuple[str, ...] = ()
    """Keys of charges that a payer denied."""
    bases: tuple[str, ...] = ()
    """The addresses by which the EHR calls itself."""
    settled: tuple[SettledLine, ...] = ()
    """What somebody settled of a review here."""
    anchors: tuple[ProgramAnchor, ...] = ()
    anchor_days: dict[str, date] = {}
    """The anchors that were confirmed here, by program."""
    late: dict[str, int] = {}
    """Reading -> days between measuring and receipt, where there were any."""
    same_as: dict[str, frozenset[str]] = {}
    """Earlier snapshot -> decisions of which nothing has changed since, but for charges written from here."""
    form: ForTheForm | None = None
    """None until the form of a charge was opened."""
    writes: Writes | None = None
    """What the EHR takes of ChargeItem, as it declares; None where nobody knows."""
    seen: dict[str, Seen] = {}
    """Reference -> the record in words: all evidence, some more readings of counted days, and what was left
    out."""
    plots: tuple[Plot, ...] = ()
    """The values of the counted readings, day by day."""
    readings: tuple[int, ...] = ()
    """How many readings each of `assessment.days` has; the page shows a few of them."""
    changes: tuple[Change, ...] = ()
    """Every charge of the EHR, and what should become of it."""

    @property
    def contract(self) -> dict[str, Any]:
        """What `smartapp evaluate --json` gives on the same resources, and what this app keeps."""
        return self.said | answer_json(self.assessment, self.history_from)

    def decision(self, key: str) -> Decision | None:
        """The decision a page's address names (`Decision.key`)."""
        return next((item for item in self.assessment.decisions if item.key == key), None)


def evidence_of(decision: Decision) -> tuple[str, ...]:
    """The source records one decision rests on, each once."""
    return tuple(dict.fromkeys(record for part in decision.requirements for record in part.evidence))


FORM_TYPES = ("Condition", "Account")
"""What can be chosen for a charge, and is read for its form alone."""


def for_the_form(
    resources: Iterable[StoredResource], notices: Iterable[Notice], patient: str, bases: Bases
) -> ForTheForm:
    """What of these can be chosen: it names this patient and nobody else."""
    ours = [one.raw for one in resources if one.raw and look(one.raw).whose(patient, bases) is Whose.OURS]
    found = choices([decode(raw) for raw in ours])
    return ForTheForm(found.conditions, found.accounts, tuple(notices))


_DATED = frozenset({"Observation", "Encounter"})
READ_FIRST = frozenset({"Patient", "ChargeItem"})
"""What says from which day on the rest is needed."""


class FindingsMaker:
    """Collects one patient's resources as they arrive, then gives the findings."""

    def __init__(
        self,
        site: Site,
        patient: str,
        base: str,
        today: date,
        history_months: int,
        enrolments: Mapping[str, Enrolment],
        user: str | None = None,
        own: OwnRecord | None = None,
        history_from: date | None = None,
        written: frozenset[str] = frozenset(),
        aliases: tuple[str, ...] = (),
        writes: Writes | None = None,
        back_to: date | None = None,
    ) -> None:
        """`own`: what this app keeps of the patient. `history_from`: from which day on was read, where that
        is known already. `written`: identifiers of the charges that were written from here. `aliases`: other
        addresses by which the EHR calls its base. `writes`: see `Findings`. `back_to`: a day from which on
        somebody wants it read, whatever was charged since."""
        self._writes = writes
        self._written = written
        self._own = own or OwnRecord(f"Patient/{patient}", site.zone, {})
        self._history_from = history_from
        self._from = self._own.accepted | ({back_to} if back_to is not None else set())
        self._copies: dict[str, str] = {}
        """The EHR's copies of logged entries: entry -> reference."""
        self._overtaken: list[str] = []
        self._site = site
        self._user = user
        self._patient = f"Patient/{patient}"
        self._base = base
        self._bases = (base, *aliases)
        self._today = today
        self._clock = clock_of(site.zone)
        self._history_months = history_months
        self._anchor_days = {item.program: item.anchor_day for item in enrolments.values()}
        self._anchors = [Anchor(Program(item.program), item.anchor_day) for item in enrolments.values()]
        self._first: list[tuple[StoredResource, Reading | None]] = []
        self._chart: Chart | None = None
        self._surely_after = ""
        self._choosable: list[dict[str, Any]] = []
        self._names = Names()
        self._charges: dict[str, str] = {}
        self._own_resources = 0

    def takes(self, writes: Writes | None) -> None:
        """What the EHR takes of ChargeItem, once it is known."""
        self._writes = writes

    def add_first(self, resource: StoredResource) -> None:
        """What comes before it is known how far back the rest is needed."""
        self._first.append((resource, None))

    def assumed(self) -> Needs:
        """What must be read as far as is known before any charge was: how far back, and what."""
        terminology = self._site.terminology
        policy, asked = self._site.policy, self._from
        found = needs(terminology, policy, self._today, self._anchors, (), self._history_months, asked)
        return found if self._history_from is None else replace(found, start=self._history_from)

    def needs(self) -> Needs:
        """What else must be read. To be called once, after the first resources."""
        policy, terminology = self._site.policy, self._site.terminology
        first = Chart(terminology, self._site.zone, self._today, self._bases, codes=policy.known)
        for resource, _ in self._first:
            if resource.reference.split("/", 1)[0] in READ_FIRST | {"Coverage"}:
                first.add(resource.raw, resource.full_url, resource.origin)
        record = first.record(self._patient)
        policy, charges = self._site.policies.of(record.payer), record.charges
        found = needs(
            terminology, policy, self._today, self._anchors, charges, self._history_months, self._from
        )
        start = self._history_from or found.start
        # What is written with a later date lies after the first day in every zone.
        self._surely_after = (start + 2 * ONE_DAY).isoformat()
        self._chart = Chart(
            terminology, self._site.zone, self._today, self._bases, history_from=start, codes=policy.known
        )
        for resource, reading in self._first:
            if reading is None:
                self.add(resource)
            else:
                self.add_reading(resource, reading)
        self._first.clear()
        return found

    def add(self, resource: StoredResource) -> None:
        """One resource. Never raises; not safe to call from two threads at once."""
        assert self._chart is not None, "needs() comes first"
        if self._is_before(resource):
            return
        raw, entry = self._own.judged(resource.raw)
        if entry is not None:
            self._copies[entry] = resource.reference
        elif raw is not resource.raw:
            self._overtaken.append(resource.reference)
        if raw:
            self._chart.add(raw, resource.full_url, resource.origin)
        else:
            self._chart.add_unreadable(resource.reference)
        type_ = resource.reference.split("/", 1)[0]
        if type_ in CHOOSABLE and self._may_be_chosen(resource.raw):
            self._choosable.append(decode(resource.raw))
        if type_ in NAMED:
            self._names.add(resource.reference, decode(resource.raw))
        elif type_ == "ChargeItem":
            self._charges[resource.reference] = resource.version

    def add_reading(self, resource: StoredResource, reading: Reading) -> None:
        """The same as `add` of an Observation that is decoded already, also before the rest is needed."""
        if self._chart is None:
            self._first.append((resource, reading))
            return
        start = self._chart.history_from
        if start is not None and not says_a_day_after(reading, self._surely_after):
            last = last_day_of(reading, self._clock)
            if last is not None and last < start:
                return
        self._chart.add_observation(reading, resource.raw, resource.full_url)

    def _is_before(self, resource: StoredResource) -> bool:
        """Searches are padded by a day, since a server may cut days in another zone: what lies before the
        first day that was asked for is left out again, or a window would seem to hold that day alone."""
        start = self._chart.history_from if self._chart is not None else None
        type_ = resource.reference.split("/", 1)[0]
        if start is None or not resource.raw or type_ not in _DATED:
            return False
        last = last_day(type_, resource.raw, self._clock)
        return last is not None and last < start

    def _may_be_chosen(self, raw: bytes) -> bool:
        """Whether it names this patient and nobody else, or is of a type that need not name one."""
        whose = look(raw).whose(self._patient.removeprefix("Patient/"), self._bases)
        return whose in {Whose.OURS, Whose.NOBODYS}

    def add_own(self) -> list[StoredResource]:
        """The logged entries that the EHR holds no copy of, added last; what the snapshot keeps of them."""
        assert self._chart is not None, "needs() comes first"
        resources = self._own.resources(self._copies)
        for resource in resources:
            self._chart.add_own(resource.raw, resource.reference)
            self._own_resources += 1
        return resources

    def findings(
        self,
        notices: tuple[Notice, ...],
        reopen: Callable[[], Iterable[StoredResource]],
        imagined: WhatIf | None = None,
        supposed: Iterable[EpisodeOfCare] = (),
        server_time: datetime | None = None,
        *,
        settled: Iterable[Resolution] = (),
        performer: str | None = None,
    ) -> Findings:
        """Decide. `reopen` goes through the resources once more, for what each piece of evidence says.

        `imagined`: what there might be besides, `supposed`: episodes that nobody has confirmed yet; such
        findings are shown as not real and never kept; nor are those with `settled`, what somebody is about
        to settle, or with a `performer`, whom somebody is about to choose for a charge (D35). `server_time`:
        see `Findings`.
        """
        assert self._chart is not None, "needs() comes first"
        for one in missing_from(notices):
            self._chart.add_missing(one, self._patient)
        record = self._chart.record(
            self._patient,
            self._anchors,
            self._own.attestations,
            (*self._own.confirmed, *supposed),
            (*self._own.resolutions, *settled),
        )
        handed = [
            replace(one, performers=tuple(self._chart.person_of(who) or who for who in one.performers))
            for one in self._own.charges(self._site.policy.known, record.charges)
        ]
        record = with_charges(record, handed, self._own.denied)
        policy = self._site.policies.of(record.payer if imagined is None else imagined.payer or record.payer)
        if imagined is not None:
            record = imagine(record, policy, record.as_of, imagined)
        person = None if performer is None else self._chart.person_of(performer) or performer
        role = Role.UNKNOWN if performer is None else self._chart.role_of(performer)
        assessment = assess(
            record, policy, record.as_of, all_evidence=True, performer=person, performs_as=role
        )
        choosable = choices(self._choosable)
        wanted = {reference for decision in assessment.decisions for reference in evidence_of(decision)}
        wanted |= {reference for decision in assessment.decisions for reference in decision.charges}
        ours = ours_among(record.charges, assessment.decisions, self._base, self._patient, self._written)
        beside = {reference for day in assessment.days for reference in day.evidence[:MOST_OF_A_DAY]}
        beside.update(described(assessment.excluded))
        clock, plotter = clock_of(self._site.zone), Plotter(placed(assessment.days))
        told, versions, late = _describe(reopen(), wanted, beside, clock, self._names, plotter)
        patient = next((item for item in self._choosable if item.get("resourceType") == "Patient"), {})
        return Findings(
            said=head_of(record, policy.payer, policy.version) | self._own.told(self._copies),
            assessment=_slim(assessment, wanted | beside),
            patient=banner(patient),
            choices=choosable,
            seen=told,
            plots=plotter.plots(),
            readings=tuple(len(day.evidence) for day in assessment.days),
            versions=versions | self._charges,
            notices=notices,
            completeness=record.completeness,
            writes=self._writes,
            server_time=server_time,
            history_from=self._chart.history_from or self._today,
            resources=self._chart.resources - self._own_resources,
            user_role=self._chart.role_of(self._user) if self._user else Role.UNKNOWN,
            roles=self._chart.roles_of(one.reference for one in choosable.practitioners),
            people=self._chart.people_of_roles(),
            ordered_by=_ordered_by(record.orders),
            basis=self._own.basis,
            logged={
                self._copies.get(entry.id, entry.reference): entry.id
                for entry in self._own.entries.values()
                if entry.counts
            },
            overtaken=tuple(sorted(self._overtaken)),
            bases=self._bases,
            handed=tuple(handed),
            denied=tuple(sorted(self._own.denied)),
            statements=self._own.statement_lines,
            settled=self._own.settled_lines,
            late=late,
            anchors=anchors_of(record, policy),
            anchor_days=self._anchor_days,
            changes=reconcile(
                assessment.decisions,
                record.charges,
                ours,
                record.as_of,
                history_from=record.history_from,
                completeness=record.completeness,
                codes=policy.known,
            ),
        )


def with_charges(
    record: PatientRecord, handed: Iterable[PriorCharge], denied: Collection[str] = ()
) -> PatientRecord:
    """A record with charges beside those that the EHR holds. `denied`: keys of charges that left from here
    and that a payer denied; what was handed over says it itself."""
    beside = tuple(handed)
    if not beside and not denied:
        return record
    held = (replace(one, denied=True) if set(one.keys) & set(denied) else one for one in record.charges)
    charges = sorted((*held, *beside), key=lambda one: (one.code, one.resource))
    return replace(record, charges=tuple(charges))


def _ordered_by(orders: Iterable[Order]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for order in orders:
        if order.requester is not None:
            found.setdefault(order.program, {})[order.requester] = None
    return {program: tuple(people) for program, people in found.items()}


def _slim(assessment: Assessment, shown: set[str]) -> Assessment:
    """Without the references no page shows: a chart of continuous readings has thousands a day."""
    return replace(
        assessment,
        decisions=tuple(
            replace(
                decision, requirements=tuple(replace(part, all_evidence=()) for part in decision.requirements)
            )
            for decision in assessment.decisions
        ),
        days=tuple(
            replace(day, evidence=tuple(reference for reference in day.evidence if reference in shown))
            for day in assessment.days
        ),
    )


def _describe(
    resources: Iterable[StoredResource],
    wanted: set[str],
    beside: set[str],
    clock: LocalClock,
    names: Names,
    plotter: Plotter,
) -> tuple[dict[str, Seen], dict[str, str], dict[str, int]]:
    """What each record that is evidence says, its version and lateness; what those `beside` it say. The
    `plotter` is given every one."""
    told: dict[str, Seen] = {}
    versions: dict[str, str] = {}
    late: dict[str, int] = {}
    for resource in resources:
        plotter.add(resource.reference, resource.raw)
        if resource.reference in wanted:
            body = decode(resource.raw)
            told[resource.reference] = seen(body, clock, names)
            versions[resource.reference] = resource.version
            if days := days_late(body, clock):
                late[resource.reference] = days
        elif resource.reference in beside and resource.raw:
            told[resource.reference] = seen(decode(resource.raw), clock, names)
    return told, versions, late
