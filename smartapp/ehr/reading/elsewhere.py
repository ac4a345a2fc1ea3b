"""Looks in the EHR for calls and reviews that are kept where nothing is counted, when somebody asks for it:
one search a type, only of types that the EHR granted, and never before the answer stands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from fhir_mappings.elsewhere import ELSEWHERE, Elsewhere, elsewhere_of
from fhir_mappings.local_time import LocalClock
from launch.errors import HttpError
from launch.scopes import Interaction, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.wire.bundles import NotAPage, search, search_page
from smartapp.ehr.wire.json_guard import Unreadable, decoded_as

_DAY_OF = {"Communication": "sent", "DocumentReference": "date", "Appointment": "date"}
"""The search parameter of its day."""


@dataclass(frozen=True)
class FoundElsewhere:
    """`not_read`: types of which nothing is known now. `in_part`: there may be more of these."""

    entries: tuple[Elsewhere, ...] = ()
    not_read: tuple[str, ...] = ()
    in_part: tuple[str, ...] = ()


def readable_elsewhere(scopes: Scopes) -> tuple[str, ...]:
    """Which of the types the EHR granted."""
    return tuple(type_ for type_ in ELSEWHERE if scopes.can(type_, Interaction.SEARCH))


def look_elsewhere(
    client: SessionClient, types: Iterable[str], patient: str, since: date, clock: LocalClock
) -> FoundElsewhere:
    """What these types hold of a patient (a logical id) from a day on, the newest first. Raises
    LaunchError."""
    entries: list[Elsewhere] = []
    not_read: list[str] = []
    in_part: list[str] = []
    for type_ in types:
        parameters = (
            ("patient", patient),
            (_DAY_OF[type_], f"ge{since.isoformat()}"),
            ("_count", str(client.issuer.profile.page_size)),
        )
        try:
            response = search(client, type_, parameters, limits=READ_LIMITS)
            page = search_page(response.body) if response.ok else None
        except (HttpError, NotAPage):
            page = None
        if page is None:
            not_read.append(type_)
            continue
        if page.next_url is not None or page.cut_off:
            in_part.append(type_)
        for entry in page.entries:
            try:
                resource = decoded_as(entry.resource, dict)
            except Unreadable:
                in_part += [type_] if type_ not in in_part else []
                continue
            found = elsewhere_of(resource, f"Patient/{patient}", client.issuer.bases, clock)
            if found is not None and found.day >= since:
                entries.append(found)
    entries.sort(key=lambda one: (one.day, one.type), reverse=True)
    return FoundElsewhere(tuple(entries), tuple(not_read), tuple(in_part))
