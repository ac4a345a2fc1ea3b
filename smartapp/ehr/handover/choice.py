"""Which way a charge leaves: the best that can be used at this EHR, known before any form is filled in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from smartapp.configuration.handover import Method
from smartapp.ehr.handover.method import Asked, Handover, Where
from smartapp.store.charges import Charge


@dataclass(frozen=True, slots=True)
class Chosen:
    """The way that is used. `passed_over`: the better ones, each with why it cannot be."""

    handover: Handover
    passed_over: tuple[tuple[Handover, str], ...] = ()

    @property
    def why(self) -> str | None:
        """Why no better way is used; None where it is the best there is."""
        return " ".join(why for _, why in self.passed_over) or None


class Handovers:
    """Every way, the best first. The last one can always be used."""

    def __init__(self, ways: Iterable[Handover]) -> None:
        self._ways = {way.method: way for way in ways}

    def of(self, row: Charge) -> Handover:
        """The way in which a row was begun: whatever the site has changed since, it goes on in that."""
        return self._ways[row.content.method]

    def named(self, method: Method) -> Handover:
        return self._ways[method]

    def chosen(self, where: Where, asked: Asked | None = None) -> Chosen:
        """For an EHR, or for one charge there."""
        passed_over: list[tuple[Handover, str]] = []
        *better, last = self._ways.values()
        for way in better:
            why = way.refusal(where)
            if why is None and asked is not None:
                why = way.refusal_of(where, asked)
            if why is None:
                return Chosen(way, tuple(passed_over))
            if why:
                passed_over.append((way, why))
        return Chosen(last, tuple(passed_over))
