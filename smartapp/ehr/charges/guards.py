"""What stands in the way of a charge: certified months, charges it would repeat, a chart that moved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

from fhir_mappings.charge_item import conflicting
from fhir_mappings.decision import Decision
from fhir_mappings.record import PriorCharge
from launch.ports import LaunchSession
from launch.tokens import SessionClient
from smartapp.configuration.site import Site
from smartapp.ehr.charges.evidence import decision_of
from smartapp.ehr.charges.present import HeldCharge, PresentCharges, carries
from smartapp.ehr.reading.findings import Findings
from smartapp.store import Store
from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, ChargeState

_UNDER_WAY = frozenset(
    {
        ChargeState.PREPARED,
        ChargeState.AWAITING,
        ChargeState.SENT,
        ChargeState.UNKNOWN,
        ChargeState.TO_ENTER,
        *HANDED,
    }
)
"""What the EHR need not hold as a ChargeItem, and stands in the way all the same."""


class Guards:
    """Asked before anything leaves, and again by whoever approves it."""

    def __init__(self, site: Site, store: Store, present: PresentCharges) -> None:
        self._site = site
        self._store = store
        self._present = present

    @property
    def locks(self) -> bool:
        """Whether months are certified at this site, and then closed."""
        return self._site.lock_certified_months

    def locked(self, issuer_id: str, patient: str, days: Iterable[date]) -> str | None:
        """Says which month of these days is certified; None if none is, or the site certifies none."""
        if not self._site.lock_certified_months:
            return None
        month = self._store.months.certified(issuer_id, patient, days)
        if month is None:
            return None
        return f"{month:%B %Y} is certified for this patient: closed for changes until it is reopened."

    def overlaps(
        self,
        decision: Decision,
        others: Mapping[str, HeldCharge] | None,
        charge: Charge,
        since: datetime | None = None,
    ) -> tuple[str, ...]:
        """Sentences on every charge of the same family in the same time: the EHR's, our own under way, and
        those that were written from here `since` the EHR's were asked for."""
        held = () if others is None else others.values()
        prior = (*self._present.among(held, charge.patient), *self._under_way(charge, since))
        return tuple(map(_overlap_sentence, conflicting(decision, prior, self._site.policy.known)))

    def overlaps_now(self, client: SessionClient, session: LaunchSession, charge: Charge) -> tuple[str, ...]:
        """The same of the charges that the EHR holds now."""
        return self.overlaps(
            decision_of(charge), self._present.beside(client, session, charge.identifier), charge
        )

    def overlaps_among(self, charge: Charge, bodies: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
        """The same of charges by reference and body."""
        others = {
            name: HeldCharge(name, dict(body), "")
            for name, body in bodies.items()
            if not carries(body, charge.identifier)
        }
        return self.overlaps(decision_of(charge), others, charge)

    def _under_way(self, charge: Charge, since: datetime | None) -> tuple[PriorCharge, ...]:
        """Our own other charges that are neither written nor refused yet, that left otherwise than as a
        ChargeItem, or that were written `since`."""
        rows = self._store.charges.of_patient(charge.issuer_id, charge.patient)
        sent = [
            HeldCharge("", {**row.content.resource, "id": f"being-written-{number}"}, "")
            for number, row in enumerate(rows)
            if row.identifier != charge.identifier and (row.state in _UNDER_WAY or _written_since(row, since))
        ]
        return self._present.among(sent, charge.patient)


def _written_since(row: Charge, since: datetime | None) -> bool:
    return since is not None and row.state is ChargeState.CONFIRMED and row.changed_at >= since


def charge_differences(findings: Findings, present: Mapping[str, HeldCharge] | None) -> Iterable[str]:
    """ChargeItems that came, went or changed since the chart was read."""
    if present is None:
        # Where they were not listed before either, the clinician has confirmed that there are none.
        if not any(notice.what == "ChargeItem" for notice in findings.notices):
            yield "The EHR does not list prior charges any more."
        return
    before = {name: version for name, version in findings.versions.items() if name.startswith("ChargeItem/")}
    for name, held in present.items():
        if name not in before:
            yield f"{name} is new since the chart was read."
        elif before[name] != held.version:
            yield f"{name} was changed since the chart was read."
    for name in before.keys() - present.keys():
        yield f"{name} is gone."


def _overlap_sentence(charge: PriorCharge) -> str:
    if charge.resource.startswith("ChargeItem/being-written"):
        return (
            f"A charge of {charge.code} in the same time was just written from here, is being written, "
            "awaits approval, was handed over, or its fate is unknown."
        )
    return f"{charge.resource} already stands for {charge.code} in this time."
