"""What this app itself keeps of a patient, beside what the EHR holds: logged time, statements, episodes,
what was settled of a review, and charges that were handed over otherwise than as a ChargeItem.

A signed entry becomes an Encounter and goes the way of the EHR's Encounters. Where the EHR holds its copy,
the copy counts and the entry is not counted again; a copy of an earlier version counts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec

from fhir_mappings.charge_item import PERFORMING, performer_in
from fhir_mappings.local_time import Window, clock_of
from fhir_mappings.prior_charge import handed_over
from fhir_mappings.record import Attestation, EpisodeOfCare, PriorCharge, Resolution
from fhir_mappings.rules.tables import KnownCodes
from fhir_mappings.time_log import MARK, TIME_LOG, encounter_of, entry_id_of, says_the_same
from fhir_mappings.vocabulary import Unverified
from smartapp.ehr.reading.display import decode
from smartapp.store import Store
from smartapp.store.attestations import AnchorSet, ConfirmedEpisode, Settlement, Stated, Statement, episode_of
from smartapp.store.charges import Charge, key_in
from smartapp.store.claims import HANDED, ChargeState
from smartapp.store.denials import Denial
from smartapp.store.reading import StoredResource
from smartapp.store.time_log import EntryState, Measured, TimeEntry

if TYPE_CHECKING:
    from smartapp.ehr.reading.findings import Findings

ORIGIN = "time log"
"""Origin of our own Encounters in a snapshot."""
URN = "urn:uuid:"
_IN_BYTES = TIME_LOG.encode()


class StatementLine(msgspec.Struct, frozen=True):
    """A standing statement, as a page shows it."""

    id: str
    statement: Unverified
    codes: tuple[str, ...]
    window: Window | None
    by: str
    by_name: str
    at: datetime

    def covers(self, code: str, window: Window) -> bool:
        return Attestation(str(self.statement), frozenset(self.codes), self.window).covers(code, window)


class SettledLine(msgspec.Struct, frozen=True):
    """A standing settlement of a reason for review, as a page shows it."""

    id: str
    content: Settlement
    at: datetime

    def covers(self, code: str, window: Window, service_date: date) -> bool:
        return self.content.resolution(self.at, UTC).covers(code, window, service_date)


@dataclass(frozen=True)
class DeniedCharge:
    """A charge that a payer has had and denied. Whatever becomes of it in the EHR, it is not charged anew
    (D29); only what was written in its place from here, to correct it, stands for it."""

    row: Charge
    keys: frozenset[str]
    """Its own, and those of the charges that came in its place, one after the other."""

    @classmethod
    def load(
        cls, store: Store, issuer_id: str, patient: str, identifiers: Set[str]
    ) -> tuple[DeniedCharge, ...]:
        rows = {row.identifier: row for row in store.charges.of_patient(issuer_id, patient)}
        names = {row.charge_item: row.identifier for row in rows.values() if row.charge_item}
        after = {
            names.get(change.charge_item): change.content.new.identifier
            for change in store.changes.of_patient(issuer_id, patient)
            if change.content.new is not None
        }
        return tuple(
            cls(rows[identifier], frozenset(map(key_in, _followed(identifier, after))))
            for identifier in sorted(identifiers & rows.keys())
        )


def _followed(first: str, after: Mapping[str | None, str]) -> Iterator[str]:
    """One, what came after it, and so on."""
    seen: set[str] = set()
    one: str | None = first
    while one is not None and one not in seen:
        seen.add(one)
        yield one
        one = after.get(one)


@dataclass(frozen=True)
class OwnRecord:
    """Entries, and what stands of statements, episodes and settlements, of one patient, as they were when it
    was made."""

    patient: str
    zone: ZoneInfo
    entries: Mapping[str, TimeEntry]
    statements: tuple[Stated[Statement], ...] = ()
    episodes: tuple[Stated[ConfirmedEpisode], ...] = ()
    settlements: tuple[Stated[Settlement], ...] = ()
    handed: tuple[Charge, ...] = ()
    denials: tuple[Denial, ...] = ()
    """What payers denied of it, as it stands."""
    denied_charges: tuple[DeniedCharge, ...] = ()
    """But for those that were handed over, which count by themselves."""
    anchors: tuple[Stated[AnchorSet], ...] = ()
    """Every time somebody had the 30-day periods begin on a day."""
    accepted: frozenset[date] = frozenset()
    """First days of windows of which something was accepted and nothing stands: not sent, or taken back."""

    @classmethod
    def load(cls, store: Store, issuer_id: str, patient: str, zone: ZoneInfo) -> OwnRecord:
        entries = {entry.id: entry for entry in store.time_log.of_patient(issuer_id, patient)}
        statements = store.attestations.of_patient(issuer_id, patient)
        episodes = store.attestations.episodes(issuer_id, patient)
        settlements = store.attestations.settlements(issuer_id, patient)
        denials = tuple(one for one in store.denials.of_patient(issuer_id, patient) if one.stands)
        rows = store.charges.of_patient(issuer_id, patient)
        handed = tuple(row for row in rows if row.state in HANDED)
        told = {one.identifier for one in denials} - {row.identifier for row in handed}
        return cls(
            f"Patient/{patient}",
            zone,
            entries,
            tuple(item for item in statements if item.stands),
            tuple(item for item in episodes if item.stands),
            tuple(item for item in settlements if item.stands),
            handed,
            denials,
            DeniedCharge.load(store, issuer_id, patient, told) if told else (),
            store.attestations.anchors(issuer_id, patient),
            _accepted(rows),
        )

    @property
    def basis(self) -> tuple[str, ...]:
        """What was decided from: compared with `present_basis` to see whether anything has changed."""
        return _basis(
            {entry.reference: entry.latest.version for entry in self.entries.values() if entry.counts},
            [item.id for items in (self.statements, self.episodes, self.settlements) for item in items],
            [row.identifier for row in self.handed],
            [one.identifier for one in self.denials],
        )

    @property
    def attestations(self) -> tuple[Attestation, ...]:
        return tuple(item.content.attestation for item in self.statements)

    @property
    def confirmed(self) -> tuple[EpisodeOfCare, ...]:
        return tuple(episode_of(item) for item in self.episodes)

    @property
    def resolutions(self) -> tuple[Resolution, ...]:
        """The oldest first, as they were made: of two of one day the later one is the newer."""
        return tuple(item.content.resolution(item.at, self.zone) for item in reversed(self.settlements))

    @property
    def settled_lines(self) -> tuple[SettledLine, ...]:
        return tuple(SettledLine(item.id, item.content, item.at) for item in self.settlements)

    @property
    def statement_lines(self) -> tuple[StatementLine, ...]:
        return tuple(
            StatementLine(
                item.id,
                item.content.statement,
                item.content.codes,
                item.content.window,
                item.content.by,
                item.content.by_name,
                item.at,
            )
            for item in self.statements
        )

    @property
    def denied(self) -> frozenset[str]:
        """Keys of charges that a payer denied."""
        return frozenset(one.key for one in self.denials)

    def charges(self, codes: KnownCodes, in_ehr: Iterable[PriorCharge] = ()) -> tuple[PriorCharge, ...]:
        """What was handed over, as charges beside those that the EHR holds; and what was denied and is no
        charge there any more."""
        clock, denied = clock_of(self.zone), self.denied
        held = {key for charge in in_ehr for key in charge.keys}
        gone = (one.row for one in self.denied_charges if held.isdisjoint(one.keys))
        return tuple(
            msgspec.structs.replace(one, performers=() if person is None else (person,), denied=key in denied)
            for row in (*self.handed, *gone)
            for person, key in [(performer_in(row.content.resource, PERFORMING), key_in(row.identifier))]
            for one in handed_over(row.content.resource, key, clock, codes)
        )

    def encounter(self, entry: TimeEntry) -> dict[str, Any]:
        """The Encounter of an entry that counts."""
        signed = entry.signed
        assert signed is not None, "only a signed entry is an Encounter"
        return encounter_of(entry.id, self.patient, signed.content.logged, self.zone)

    def resources(self, held: Iterable[str]) -> list[StoredResource]:
        """Every entry that counts and of which the EHR holds no copy (`held`: ids of those it does)."""
        left_out = set(held)
        return [
            StoredResource(
                ORIGIN,
                entry.reference,
                entry.reference,
                str(entry.latest.version),
                msgspec.json.encode(self.encounter(entry)),
            )
            for entry in sorted(self.entries.values(), key=lambda entry: entry.id)
            if entry.counts and entry.id not in left_out
        ]

    def judged(self, raw: bytes) -> tuple[bytes, str | None]:
        """A resource of the EHR as it counts, and the entry that it is the copy of.

        A copy of an entry that was corrected or withdrawn here since counts as entered in error, until the
        EHR's copy says so itself. One that the EHR changed after we wrote it is the EHR's own word.
        """
        if _IN_BYTES not in raw:
            return raw, None
        body = decode(raw)
        entry = self.entries.get(entry_id_of(body) or "")
        if entry is None or body.get("resourceType") != "Encounter":
            return raw, None
        if entry.state is EntryState.WRITTEN or (
            entry.state is EntryState.SIGNED and says_the_same(body, self.encounter(entry))
        ):
            return raw, entry.id
        return overtaken(raw), None

    def _days_late(self, entry: TimeEntry) -> int:
        """Days from when it was until somebody typed what stands of it; 0 where a clock measured it."""
        content = entry.latest.content
        if content.measured is Measured.CLOCK:
            return 0
        was = content.logged.day or content.logged.end.astimezone(self.zone).date()
        return max(0, (entry.stated_at.astimezone(self.zone).date() - was).days)

    def told(self, held: Mapping[str, str]) -> dict[str, Any]:
        """For the page's JSON and the packet: what was logged, stated and confirmed here, if anything.

        `held`: the EHR's copies, entry -> reference.
        """
        logged = [
            {
                "resource": held.get(entry.id, entry.reference),
                "entry": entry.id,
                "version": entry.latest.version,
                "origin": MARK,
                "measured": entry.latest.content.measured.value,
                "talk": msgspec.to_builtins(entry.latest.content.talk),
                "signed_by": signed.content.by,
                "signed_at": signed.at.isoformat(),
                "entered_at": entry.stated_at.isoformat(),
                "days_late": self._days_late(entry),
                "role_of_oneself": entry.states_own_role,
            }
            for entry in sorted(self.entries.values(), key=lambda entry: entry.id)
            if (signed := entry.signed) is not None
        ]
        stated = [
            {
                "statement": str(item.content.statement),
                "codes": list(item.content.codes),
                "period": None if item.content.window is None else msgspec.to_builtins(item.content.window),
                "by": item.content.by,
                "at": item.at.isoformat(),
            }
            for item in self.statements
        ]
        confirmed = [
            {
                "program": item.content.program.value,
                "start": item.content.start.isoformat(),
                "end": None if item.content.end is None else item.content.end.isoformat(),
                "source": item.content.source,
                "by": item.content.by,
                "at": item.at.isoformat(),
            }
            for item in self.episodes
        ]
        settled = [
            {
                "resolves": item.content.resolves,
                "says": item.content.says,
                "codes": list(item.content.codes),
                "period": None if item.content.window is None else msgspec.to_builtins(item.content.window),
                "choice": item.content.choice,
                "reference": item.content.reference,
                "until": None if item.content.until is None else item.content.until.isoformat(),
                "by": item.content.by,
                "at": item.at.isoformat(),
            }
            for item in self.settlements
        ]
        handed = [
            {
                "code": row.code,
                "decision": row.content.decision,
                "method": row.content.method.value,
                "state": row.state.value,
                "name": row.name,
                "at": row.changed_at.isoformat(),
            }
            for row in self.handed
        ]
        anchors = [
            {
                "program": item.content.program,
                "day": item.content.day.isoformat(),
                "before": None if item.content.before is None else item.content.before.isoformat(),
                "source": item.content.source,
                **_grounds(item.content),
                "by": item.content.by,
                "at": item.at.isoformat(),
            }
            for item in reversed(self.anchors)
        ]
        told = {
            "time_log": logged,
            "attestations": stated,
            "episodes": confirmed,
            "resolutions": settled,
            "handed_over": handed,
            "denials": [
                {
                    "charge": one.key,
                    "on": one.on.isoformat(),
                    "reason": one.reason,
                    "remark": one.remark,
                    "done": one.state.value,
                    "note": one.content.note,
                    "by": one.content.by,
                    "at": one.at.isoformat(),
                }
                for one in self.denials
            ],
            "anchors": anchors,
        }
        return {name: value for name, value in told.items() if value}


def _grounds(content: AnchorSet) -> dict[str, str]:
    """What there is of them."""
    grounds = content.grounds
    days = {"instead_of": content.instead_of, "charged_on": grounds.charged_on}
    told = {name: day.isoformat() for name, day in days.items() if day is not None}
    return told | ({"says": grounds.says} if grounds.says else {})


def _accepted(rows: Iterable[Charge]) -> frozenset[date]:
    """See `OwnRecord.accepted`. What was taken back counts only where nothing came in its place. A key of a
    decision ends with the first day of its window."""
    rows = tuple(rows)
    standing = {row.content.decision for row in rows if row.state in {ChargeState.CONFIRMED, *HANDED}}
    charged = {key[-10:] for key in standing}
    return frozenset(
        date.fromisoformat(row.content.decision[-10:])
        for row in rows
        if row.content.decision not in standing
        and not (row.state is ChargeState.WITHDRAWN and row.content.decision[-10:] in charged)
    )


def overtaken(raw: bytes) -> bytes:
    """An Encounter of which another version counts, or none."""
    return msgspec.json.encode({**decode(raw), "status": "entered-in-error"})


def present_basis(store: Store, issuer_id: str, patient: str) -> tuple[str, ...]:
    """`OwnRecord.basis` of this moment, without unsealing anything."""
    return _basis(
        store.time_log.counting(issuer_id, patient),
        store.attestations.standing(issuer_id, patient),
        store.charges.handed_keys(issuer_id, patient),
        store.denials.denied_keys(issuer_id, patient),
    )


def _basis(
    entries: Mapping[str, int], statements: Iterable[str], handed: Iterable[str], denied: Iterable[str]
) -> tuple[str, ...]:
    return tuple(
        sorted(
            [
                *(f"{name} {version}" for name, version in entries.items()),
                *(f"stated {name}" for name in statements),
                *(f"handed over {key}" for key in handed),
                *(f"denied {key}" for key in set(denied)),
            ]
        )
    )


def own_differences(
    store: Store, issuer_id: str, patient: str, findings: Findings, evidence: Iterable[str]
) -> list[str]:
    """Sentences on what was changed here since these findings were made: entries, statements, the anchor."""
    present = store.time_log.counting(issuer_id, patient)
    found = [
        "An entry of the time log was corrected or withdrawn since the chart was read."
        for name in evidence
        if name.startswith(URN) and findings.versions.get(name) != str(present.get(name))
    ]
    if not found and present_basis(store, issuer_id, patient) != findings.basis:
        found.append(
            "The time log, a statement, a confirmed episode, a denial or what was handed over was changed "
            "since the chart was read."
        )
    anchors = {
        program: enrolment.anchor_day
        for program, enrolment in store.charges.enrolments(issuer_id, patient).items()
    }
    if anchors != findings.anchor_days:
        found.append("The anchor day of the 30-day periods was changed since the chart was read.")
    return found
