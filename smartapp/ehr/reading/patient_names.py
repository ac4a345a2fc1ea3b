"""What the EHR calls several patients, asked with the viewer's own token and kept nowhere."""

from __future__ import annotations

from collections.abc import Collection

from launch.errors import HttpError
from launch.scopes import Interaction, Level, Scopes
from launch.tokens import SessionClient
from smartapp.ehr.reading.display import Banner, banner, decode
from smartapp.ehr.reading.fetch import READ_LIMITS
from smartapp.ehr.wire.bundles import NotAPage, search, search_page

MOST_AT_ONCE = 50


def may_ask_for_names(scopes: Scopes) -> bool:
    """Whether the EHR lets this session's user look for patients, and not only read the launched one."""
    return scopes.allows(Level.USER, "Patient", Interaction.SEARCH) and not scopes.restrictions(
        Level.USER, "Patient", Interaction.SEARCH
    )


def patient_names(client: SessionClient, ids: Collection[str]) -> dict[str, Banner]:
    """Logical id -> name, day of birth and record number; whom the EHR does not give is left out. At most
    `MOST_AT_ONCE` are asked for, in one search. Raises LaunchError."""
    wanted = sorted(set(ids))[:MOST_AT_ONCE]
    if not wanted:
        return {}
    parameters = (("_id", ",".join(wanted)), ("_count", str(len(wanted))))
    try:
        response = search(client, "Patient", parameters, limits=READ_LIMITS)
        page = search_page(response.body) if response.ok else None
    except (HttpError, NotAPage):
        return {}
    if page is None:
        return {}
    found = {}
    for entry in page.entries:
        body = decode(bytes(entry.resource))
        if body.get("resourceType") == "Patient" and body.get("id") in wanted:
            found[str(body["id"])] = banner(body)
    return found
