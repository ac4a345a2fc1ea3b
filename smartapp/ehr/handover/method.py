"""What every way of handing over a charge says and does.

The charge has one key whatever its way, and one outbox row under that key: a row that was begun in one way
still stands in the way of a new one when the site changes to another. The row keeps its way and exactly what
leaves, so that whoever goes on from it goes on in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from fhir_mappings.decision import Decision
from launch.issuers import Issuer
from launch.ports import LaunchSession
from launch.scopes import Scopes
from smartapp.configuration.handover import Method
from smartapp.ehr.charges.workflow import Delivery, Found, Hand
from smartapp.ehr.reading.display import Banner
from smartapp.ehr.reading.findings import Findings, Writes
from smartapp.store.charges import Charge, Leaving


@dataclass(frozen=True, slots=True)
class Where:
    """The EHR that a charge is for, and what is known of it. `writes`: None where /metadata is not known."""

    issuer: Issuer
    granted: Scopes
    writes: Writes | None

    @classmethod
    def of(cls, session: LaunchSession, issuer: Issuer, writes: Writes | None) -> Where:
        """What a session's EHR is, and granted."""
        return cls(issuer, Scopes.parse(session.granted_scope), writes)


@dataclass(frozen=True, slots=True)
class Asked:
    """A charge that somebody asks about. `resource`: as a ChargeItem, once the form is filled in."""

    decision: Decision
    findings: Findings
    resource: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToCharge:
    """A charge that somebody is about to hand over.

    `resource`: the charge as a ChargeItem. `label`: what its code is called in our own words. `names`: what
    people call whatever the charge refers to; `npis`: the NPI of people who have one.
    """

    issuer_id: str
    resource: Mapping[str, Any]
    decision: Decision
    label: str
    patient: Banner
    names: Mapping[str, str]
    npis: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HeldNow:
    """What the other side holds after a charge was handed over, where it lets that be read.

    `charge_item`: the logical id of the ChargeItem by which the EHR confirms the charge itself; None where it
    was handed over, and somebody there makes it a charge.
    """

    body: bytes | None
    charge_item: str | None = None
    differences: tuple[str, ...] = ()
    problem: str | None = None
    """What the clinician should know, although the charge was handed over."""


class Handover(Protocol):
    """One way."""

    method: ClassVar[Method]
    title: ClassVar[str]
    """Ends the sentence "This EHR takes charges as: ..."."""
    by_person: ClassVar[bool]
    """Nothing is sent: a person enters it."""

    def refusal(self, where: Where) -> str | None:
        """Why no charge can leave in this way; None where one can, "" where the site did not turn it on."""

    def refusal_of(self, where: Where, asked: Asked) -> str | None:
        """Why this charge cannot."""

    def leaves(self, charge: ToCharge) -> Leaving:
        """Exactly what leaves: shown beforehand, kept in the row, and sent as it is."""

    def ready(self, hand: Hand) -> None:
        """Ask what must be known before it is sent. Raises HttpError and LaunchError."""

    def deliver(self, hand: Hand, row: Charge) -> Delivery:
        """Send it, once."""

    def find(self, hand: Hand, row: Charge) -> Found:
        """What the other side holds of something that was sent. Raises HttpError and LaunchError."""

    def may_repeat(self, hand: Hand) -> bool:
        """Whether sending twice does no harm. Raises HttpError and LaunchError."""

    def read_back(self, hand: Hand, row: Charge, found: Found) -> HeldNow:
        """What the other side holds now. Never raises for what it does."""

    def no_way_back(self, row: Charge) -> str | None:
        """Why it cannot be taken back from here; None where it can."""

    def take_back(self, hand: Hand, row: Charge) -> Delivery:
        """Take back what was handed over. Never raises for what the other side does."""

    def is_taken_back(self, hand: Hand, row: Charge) -> bool | None:
        """Whether the other side has taken it back; None where it does not say. Raises HttpError and
        LaunchError."""
