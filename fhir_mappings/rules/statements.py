"""What somebody must state because no record and no word of the site shows it, where it belongs (D36, D39).

A statement goes only because evidence, or a fact that the site's file gives once, stands in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from msgspec import Struct

from fhir_mappings.completeness import ANY_TYPE
from fhir_mappings.local_time import Window
from fhir_mappings.record import Agreement, Order, PatientRecord
from fhir_mappings.rules.visits import Visits
from fhir_mappings.vocabulary import Program, Unverified

DAYS_AFTER_SURGERY = 90
"""The longest global period there is (D36)."""
OF_A_LATER_RULE = (Unverified.INITIATING_VISIT, Unverified.ESTABLISHED_PATIENT, Unverified.STAFF_EMPLOYED)
"""What a rule that is only proposed would ask; a site begins to ask it on a day of its own."""


class SiteFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """What a site says of itself once. `ask_from`: the first date of service for which it asks what a rule
    that is not in force would ask (`OF_A_LATER_RULE`)."""

    staff_employed: bool | None = None
    """Whether all clinical staff are employed by the practice that bills; None where it does not say."""
    rural_health_clinic: bool = False
    federally_qualified_health_center: bool = False
    ask_from: Mapping[Unverified, date] = {}

    def __post_init__(self) -> None:
        if others := sorted(self.ask_from.keys() - set(OF_A_LATER_RULE)):
            known = ", ".join(OF_A_LATER_RULE)
            raise ValueError(f"ask_from: {others[0]} is asked by other rules (known here: {known})")

    def asks(self, statement: Unverified, day: date) -> bool:
        """Whether the site asks it for a service of that day."""
        since = self.ask_from.get(statement)
        return since is not None and since <= day


class Statements:
    """One patient's, of one program."""

    def __init__(self, record: PatientRecord, program: Program, facts: SiteFacts, visits: Visits) -> None:
        self._record = record
        self._program = program
        self._facts = facts
        self._visits = visits
        self._orders = [order for order in record.orders if order.program is program]
        lacks = record.completeness.lacks
        charges_unread = lacks("ChargeItem") or lacks(ANY_TYPE) or record.charges_elsewhere
        self._always = frozenset({Unverified.PRIOR_CHARGES} if charges_unread else ())
        self._asks_of_surgery = bool(record.surgeries) or not record.completeness.whole

    def of(self, service_date: date, window: Window) -> frozenset[Unverified]:
        """What no record of this program shows of a service, whatever the code. `window`: its days."""
        found = self._always
        if not holds(self._record.consents, service_date):
            found |= {Unverified.CONSENT}
        if not holds(self._orders, service_date):
            found |= {Unverified.ORDER}
        if self._asks_of_surgery and self._after_surgery(window):
            found |= {Unverified.GLOBAL_PERIOD}
        asks = self._facts.asks
        established = self._program is Program.RPM or asks(Unverified.ESTABLISHED_PATIENT, service_date)
        initiated = asks(Unverified.INITIATING_VISIT, service_date)
        if (established or initiated) and not self._visited_by(window.start):
            found |= {Unverified.ESTABLISHED_PATIENT} if established else set()
            found |= {Unverified.INITIATING_VISIT} if initiated else set()
        return found

    def of_staff(self, service_date: date) -> frozenset[Unverified]:
        """What a month asks in which clinical staff's minutes count."""
        if self._facts.staff_employed or not self._facts.asks(Unverified.STAFF_EMPLOYED, service_date):
            return frozenset()
        return frozenset({Unverified.STAFF_EMPLOYED})

    def _after_surgery(self, window: Window) -> bool:
        """Whether the record shows what may be a surgery in the days before the window's end, or may hold one
        that was not read."""
        days = Window(window.end - timedelta(days=DAYS_AFTER_SURGERY), window.end)
        if any(surgery.days is None or surgery.days.overlaps(days) for surgery in self._record.surgeries):
            return True
        read_to = Window(days.start, max(days.start, min(days.end, self._record.as_of)))
        missing = self._record.completeness.of
        return bool(missing("Procedure", read_to) or missing(ANY_TYPE, read_to))

    def _visited_by(self, day: date) -> bool:
        """Whether the record shows a visit to one of the program's people up to a day."""
        first = self._visits.first_by_program
        return first is not None and first <= day


def holds(found: Iterable[Agreement | Order], day: date) -> bool:
    """Whether one of these holds on a day: what was agreed to or ordered afterwards did not when the service
    was furnished, and what had ended before it no longer did (section 5)."""
    return any(one.holds_on(day) for one in found)
