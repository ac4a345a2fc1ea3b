"""The worklist and the cards of CDS Hooks, as the site's file turns them on: is there a sweep to tell of?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from enum import Enum
from typing import TYPE_CHECKING

from smartapp.commands.checks import Checks
from smartapp.configuration.site import Site
from smartapp.population import listing
from smartapp.population.blocks import NotOpened
from smartapp.population.state import State, StateError

if TYPE_CHECKING:
    from launch.issuers import Issuers

OLD = timedelta(days=2)
"""A sweep that is older than that was missed for a night."""


def check_worklist(
    checks: Checks, id_: Enum, site: Site, issuers: Issuers, keys: Sequence[bytes], today: date
) -> None:
    """A line for each EHR with a worklist: as of when its last sweep speaks, or what is wrong with it."""
    for issuer in issuers:
        entry = site.worklist.of(issuer.id)
        if entry is None:
            continue
        try:
            head = State(site.worklist.state_of(entry), keys).held()[1]
        except (StateError, NotOpened) as fault:
            checks.failure(id_, str(fault), issuer.id)
            continue
        says = f"the last sweep is as of {head.as_of}, of {head.patients:,} patients"
        if head.lists != listing.FORMAT:
            checks.failure(id_, f"{says}, by another version: run `smartapp sweep night`", issuer.id)
        elif head.as_of < today - OLD:
            checks.warning(id_, f"{says}: is `smartapp sweep night` run each night?", issuer.id)
        else:
            checks.ok(id_, says, issuer.id)


def check_cds_hooks(checks: Checks, id_: Enum, site: Site, issuers: Issuers) -> None:
    """A line for each EHR that may ask for cards: whose signature is believed."""
    for issuer in issuers:
        entry = next((one for one in site.cds_hooks.entries if one.issuer in (None, issuer.id)), None)
        if entry is None:
            continue
        if site.worklist.of(issuer.id) is None:
            checks.failure(id_, "no `worklist` for this EHR: there is nothing to make a card from", issuer.id)
            continue
        keys = len(site.cds_hooks.keys_of(entry))
        named = "1 key" if keys == 1 else f"{keys} keys"
        checks.ok(id_, f"{entry.client} may ask, and signs with {named}", issuer.id)
