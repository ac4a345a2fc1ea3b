"""One look at an EHR for all charges that somebody accepts with one press.

Asked for when the first of them needs it, and not again: what is written meanwhile from here is known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from fhir_mappings.decision import Decision
from launch.errors import HttpError, LaunchError
from launch.ports import Clock
from launch.tokens import SessionClient
from smartapp.ehr.charges.present import HeldCharge, PresentCharges, carries
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.fresh import Fresh, FreshLook, Present


class OneLook:
    """The charges that the EHR holds and the chart, as they are now."""

    def __init__(
        self,
        client: SessionClient,
        present: Present,
        performer: str | None,
        own_before: Mapping[str, Iterable[str]],
        fresh: FreshLook,
        charges: PresentCharges,
        clock: Clock,
    ) -> None:
        """`performer`: whom the charges name as performing, where that can change what they count (D35).
        `own_before`: what had changed in this app's own record before anything was written, by decision."""
        self.own_before = own_before
        self._client = client
        self._present = present
        self._performer = performer
        self._fresh = fresh
        self._charges = charges
        self._failed: HttpError | LaunchError | None = None
        self._with_charges: Fresh | None = None
        self.began = clock.now()
        self.must_be_kept = False
        """Somebody is told that the chart moved: they must see it as it is now."""

    def beside(self, identifier: str) -> dict[str, HeldCharge] | None:
        """What the EHR holds, the charge of this identifier left out; None if it does not say. Raises
        HttpError and LaunchError."""
        held = self._held
        if held is None:
            return None
        return {name: one for name, one in held.items() if not carries(one.body, identifier)}

    @cached_property
    def _held(self) -> Mapping[str, HeldCharge] | None:
        self._unless_failed()
        try:
            return self._charges.of(self._client, self._present.session)
        except (HttpError, LaunchError) as error:
            self._failed = error
            raise

    @cached_property
    def chart(self) -> Fresh:
        """The chart without what was written since. Raises HttpError and LaunchError."""
        self._unless_failed()
        try:
            return self._fresh.of(self._present, self._performer)
        except (HttpError, LaunchError) as error:
            self._failed = error
            raise

    def _unless_failed(self) -> None:
        """An EHR that did not answer for the first charge is not waited for again for the next."""
        if self._failed is not None:
            raise self._failed

    def wrote(self, charge: bytes | None) -> None:
        """A charge is in the EHR since; None of one that was handed over, which is kept here."""
        if "chart" in self.__dict__:
            before = self._with_charges or self.chart
            with_it = self._fresh.with_charge(self._present, before, charge, self._performer)
            self._with_charges = with_it or self._with_charges

    @property
    def known_since(self) -> Findings | None:
        """What was found, with what was written since: the first charge also fixes the anchor day, say."""
        return None if self._with_charges is None else self._with_charges.findings

    def moved_by_what_was_written(self, decision: Decision, confirmed: Iterable[str]) -> tuple[str, ...]:
        """Whether the charges written since leave a decision what it was."""
        if self._with_charges is None:
            return ()
        now = self._with_charges.decision(decision.key)
        if now is None or _charged(now) != _charged(decision) or set(now.unverified) - set(confirmed):
            return (f"A charge that was just written changes what {decision.code} earns.",)
        return ()

    def keep(self) -> bool:
        """What was found and written is what the session has read from now on, where somebody needs it;
        whether it is."""
        found = self._with_charges or (self.chart if self.must_be_kept else None)
        return found is not None and self._fresh.keep(self._present.session, found)


def _charged(decision: Decision) -> tuple[object, ...]:
    """What a charge says of a decision."""
    return (
        decision.outcome,
        decision.quantity,
        decision.period,
        decision.service_date,
        decision.modifiers,
    )
