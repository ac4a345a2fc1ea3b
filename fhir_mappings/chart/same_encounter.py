"""Which Encounters are one, recorded twice; and what they say together (D31).

An entry of the time log and the Encounter that the EHR made of it are one; so are two papers of one visit,
and what was recorded anew under another id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from msgspec.structs import replace

from fhir_mappings.encounter import NEVER_TOOK_PLACE, EncounterFacts, start_of
from fhir_mappings.local_time import LocalClock, Moment
from fhir_mappings.places import Presence, together
from fhir_mappings.resources import Encounter, Identifier
from fhir_mappings.rules.minutes import whole_seconds
from fhir_mappings.vocabulary import ExcludedReason

_FEWEST_OF_A_SERIES = 3
"""Different beginnings that share an identifier: then it is an order's, an account's or a series', and none
of theirs. Of readings the same is said (D28)."""


def one_encounter(
    encounters: Mapping[str, Encounter], clock: LocalClock, as_of: date
) -> list[tuple[str, ...]]:
    """Names of Encounters of one patient that share an identifier of their own: two or more each, in order.

    What was planned, taken back or entered in error is no second paper of what took place; nor is what began
    after the day of the question.
    """
    by_identifier: dict[Identifier, list[str]] = {}
    for name, encounter in encounters.items():
        if encounter.identifier and encounter.status not in NEVER_TOOK_PLACE:
            for identifier in dict.fromkeys(encounter.identifier):
                if identifier.value:
                    by_identifier.setdefault(identifier, []).append(name)
    group_of: dict[str, set[str]] = {}
    for names in by_identifier.values():
        if len(names) == 1:
            continue
        began = {name: clock.read(start_of(encounters[name])) for name in names}
        known = {name: start for name, start in began.items() if isinstance(start, Moment)}
        together = {name for name in names if name not in known or known[name].day <= as_of}
        if len({known[name].instant for name in together & known.keys()}) < _FEWEST_OF_A_SERIES:
            together = together.union(*[group_of.get(name, ()) for name in together])
            group_of |= dict.fromkeys(together, together)
    return sorted({tuple(sorted(group)) for group in group_of.values() if len(group) > 1})


def as_one(facts: Mapping[str, EncounterFacts]) -> dict[str, EncounterFacts]:
    """What Encounters that are one say: what was earned, one of them says; what stands in the way of a
    charge, each. The shorter time counts; another time stands beside it in doubt, under the same name.

    Between equals the EHR's own counts before that of the time log.
    """
    counts, *others = sorted(facts, key=lambda name: _order(name, facts[name]))
    counted = facts[counts]
    presences = together(presence for name in sorted(facts) for presence in facts[name].presences)
    counted = replace(counted, presences=presences)
    found = {name: _without_claims(facts[name], presences) for name in others}
    if not counted.management:
        return {counts: counted, **found}
    different = [
        facts[name].management
        for name in others
        if facts[name].management and _times(facts[name]) != _times(counted)
    ]
    if different:
        longest = max(different, key=whole_seconds)
        in_doubt = [replace(time, resource=counts, doubt=ExcludedReason.IMPLAUSIBLE_SPAN) for time in longest]
        counted = replace(counted, management=(*counted.management, *in_doubt), two_times=True)
    return {counts: counted, **found}


def _order(name: str, facts: EncounterFacts) -> tuple[bool, int, bool, int, bool, str]:
    """Which of several is believed: one that says something; then the shortest, one without a conversation,
    and the latest set-up, since what was measured before it does not count."""
    return (
        facts.excluded is not None and facts.contact is None,
        whole_seconds(facts.management),
        facts.contact is not None,
        -facts.set_up.instant if facts.set_up is not None else 0,
        name.startswith("urn:"),
        name,
    )


def _times(facts: EncounterFacts) -> set[tuple[int, int, int | None]]:
    return {(time.start, time.end, time.seconds) for time in facts.management}


def _without_claims(facts: EncounterFacts, presences: tuple[Presence, ...]) -> EncounterFacts:
    """What takes something away stays: the place, the visit, the time that is used up."""
    return replace(
        facts,
        presences=presences,
        management=(),
        contact=None,
        set_up=None,
        coded_program=None,
        excluded=ExcludedReason.DUPLICATE,
    )
