"""What the pages of this app's own record share: whose chart it is, and which form belongs to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from typing import Any, TypeVar

import msgspec
from flask import g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from smartapp.ehr.reading.display import Banner
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.fresh import Present
from smartapp.services import services
from smartapp.store.attestations import ConfirmedEpisode, Settlement, Stated, Statement
from smartapp.store.reading import Snapshot
from smartapp.store.vault import SealBroken
from smartapp.web import words
from smartapp.web.permission import present_findings
from smartapp.web.security import Moved, require_same
from smartapp.web.waiting import take_seat


@dataclass(frozen=True)
class Chart:
    """The chart a page is about, as it was read."""

    issuer_id: str
    patient: str
    snapshot: Snapshot
    findings: Findings

    @property
    def present(self) -> Present:
        return Present(g.session, self.snapshot, self.findings)

    @property
    def today(self) -> date:
        return today()


def today() -> date:
    """The day it is at the site."""
    here = services()
    return here.site.today(here.clock.now())


def chart() -> Chart:
    """The present chart of the request's session. Raises Moved where it has not been read."""
    found = present_findings()
    if found is None or g.session.patient is None:
        raise Moved
    g.findings = found[1]
    return Chart(g.session.issuer_id, g.session.patient, *found)


def own_patient() -> tuple[str, Banner] | None:
    """The open chart's patient, and what the EHR calls them; None in a session without a patient."""
    found = present_findings()
    if found is None or g.session.patient is None:
        return None
    return g.session.patient, found[1].patient


def bring_up_to_date() -> None:
    """Before the form of a charge: what was read too long ago is looked at again, and shown as it is now."""
    found, fresh = present_findings(), services().fresh
    present = None if found is None else Present(g.session, *found)
    if present is None or not fresh.is_old(present):
        return
    take_seat()
    if fresh.bring_up_to_date(present):
        g.pop("present_findings")


def fill_form() -> None:
    """Before the form of a charge: what nobody else needs is read when it is first opened."""
    found = present_findings()
    if found is None or found[1].form is not None:
        return
    take_seat()
    if services().fresh.fill_form(Present(g.session, *found)):
        g.pop("present_findings")


def posted_chart() -> Chart:
    """The same for a form, which must have been made from this very snapshot of this very patient."""
    here = chart()
    require_same(here.patient, here.snapshot.id)
    return here


def require_patient() -> str:
    """For a form that any snapshot may send (a clock runs on while the chart is read again)."""
    patient = g.session.patient
    if patient is None or request.form.get("patient") != patient:
        raise Moved
    return str(patient)


def facts() -> dict[str, str | None]:
    """Who does it, for the audit trail."""
    return {"session": g.session.id, "user": g.session.fhir_user}


def user() -> tuple[str, str]:
    """Reference and name of who is signed in."""
    reference = g.session.fhir_user or ""
    return reference, g.session.user_name or name_of(reference)


def name_of(reference: str) -> str:
    """What the chart calls somebody, where it names them."""
    found = present_findings()
    people = () if found is None else found[1].choices.practitioners
    return next((person.text for person in people if person.reference == reference), reference)


def take_back(attestation_id: str, kind: str) -> None:
    """Take back what was stated of this form's chart, and decide on the chart without it. `kind`: what it
    must be (`AttestationStore.revoke`). Raises Moved where it is nothing of the kind, or was taken back."""
    chart, here = posted_chart(), services()
    by, by_name = user()
    gone = here.store.attestations.revoke(
        chart.issuer_id,
        chart.patient,
        attestation_id,
        by,
        by_name,
        here.clock.now(),
        kind=kind,
        session=g.session.id,
    )
    if not gone:
        raise Moved
    here.jobs.decide_again(g.session)


def taken_back(item: Stated[Statement] | Stated[ConfirmedEpisode] | Stated[Settlement]) -> str:
    """Who took back what was stated, and when; "" while it stands."""
    if item.revoked_at is None:
        return ""
    on = item.revoked_at.astimezone(services().site.zone).date()
    return f"Taken back on {words.day(on)} by {item.revoked_by_name or item.revoked_by}."


def to(endpoint: str, **values: Any) -> AnyResponse:
    """A redirect after a form, to a page of this session."""
    return redirect(url_for(endpoint, sid=g.session.id, **values), 303)


def record_address(reference: str, session_id: str) -> str:
    """Where one record opens in its session. A page names hundreds: what they share is worked out once."""
    return f"{_place('patient.evidence', session_id)}{address_of(reference, session_id)}"


def readings_address(day: date, session_id: str) -> str:
    """The same of all readings of one day."""
    return f"{_place('patient.readings', session_id)}{day_address(day, session_id)}"


def _place(endpoint: str, session_id: str) -> str:
    """What the addresses of one endpoint begin with."""
    places: dict[tuple[str, str], str] = g.setdefault("places", {})
    place = places.get((endpoint, session_id))
    if place is None:
        place = url_for(endpoint, sid=session_id, address="-").removesuffix("-")
        places[endpoint, session_id] = place
    return place


def day_address(day: date, session_id: str) -> str:
    """What a day is called in this session's addresses: when somebody measured what is told to no log."""
    return address_of(f"readings of {day.isoformat()}", session_id)


def window_address(key: str, session_id: str) -> str:
    """The same of a window."""
    return address_of(f"window {key}", session_id)


def strip_day_address(day: date, window: str, session_id: str) -> str:
    """The same of a day as it stands in a window's strip. `window`: its key."""
    return address_of(f"{day.isoformat()} of window {window}", session_id)


def strip_day_place(day: date, window: str, session_id: str) -> str:
    """Where such a day opens alone."""
    return f"{_place('patient.day', session_id)}{strip_day_address(day, window, session_id)}"


_Said = TypeVar("_Said", bound=msgspec.Struct)


def sealed(said: msgspec.Struct) -> str:
    """What goes along in an address, so that Back and reload show it: sealed, since the EHR's own ids stay
    out of addresses, and short, since some servers take few of their bytes."""
    return services().store.vault.seal_text(msgspec.json.encode(said).decode(), _for_address(type(said)))


def unsealed(text: str, kind: type[_Said]) -> _Said | None:
    """The same again; None where it says nothing of the kind."""
    try:
        return msgspec.json.decode(
            services().store.vault.unseal_text(text, _for_address(kind)).encode(), type=kind
        )
    except (SealBroken, ValueError):
        return None


def _for_address(kind: type[msgspec.Struct]) -> str:
    """What it is sealed for: this session, and this kind of thing."""
    return f"{kind.__name__.lower()} in {g.session.id}"


def address_of(reference: str, session_id: str) -> str:
    """What a record is called in this session's addresses: the EHR's own ids stay out of them."""
    return hashlib.sha256(f"{session_id} {reference}".encode()).hexdigest()[:24]
