"""CDS Hooks 2.0: discovery and `patient-view`. At most one card, and none where there is nothing to do.

A card tells of a patient. So it is given only to an EHR that signed the request (`cds_hooks.guard`), about a
patient of that EHR's own last sweep, and only where the token that came with the request reads that Patient.
Nothing of the patient is logged. Off until a site names an EHR.
"""

from __future__ import annotations

import logging
import re
import uuid
from typing import Any

import msgspec
from flask import Blueprint, Response, abort, jsonify, request
from msgspec import Struct
from werkzeug.exceptions import HTTPException

from launch.errors import HttpError, LaunchError, SmartError
from launch.http import MEGABYTE, Limits
from launch.issuers import Issuer
from smartapp.cds_hooks.guard import CdsClient, Refused, TooMany
from smartapp.ehr.reading.display import decode
from smartapp.ehr.wire.bundles import read_target
from smartapp.logs import FACTS
from smartapp.population.listing import TO_DO, Listed
from smartapp.services import services
from smartapp.web.access import Open, needs
from smartapp.web.words import day
from smartapp.web.worklist_view import TOPICS, Looking, sentences
from smartapp.worklist.lists import NoList

log = logging.getLogger(__name__)
pages = Blueprint("cds_hooks", __name__, url_prefix="/cds-services")

SERVICE = "remote-monitoring"
HOOK = "patient-view"
LONGEST_SUMMARY = 139
READING = Limits(connect=2.0, read=3.0, total=4.0, max_bytes=MEGABYTE)
"""Of the one Patient that is asked for: whoever opens a chart does not wait longer for a card."""
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9\-._]{1,255}")


class _Context(Struct):
    patientId: str  # noqa: N815
    userId: str = ""  # noqa: N815


class _Authorization(Struct):
    access_token: str
    token_type: str = ""
    patient: str | None = None


class _Call(Struct):
    """A request, of which only this is read; prefetched resources are not."""

    hook: str
    hookInstance: str  # noqa: N815
    context: _Context
    fhirServer: str | None = None  # noqa: N815
    fhirAuthorization: _Authorization | None = None  # noqa: N815


@pages.before_request
def _only_where_it_is_on() -> None:
    if not services().guard.on:
        abort(404)


@pages.get("")
@needs(Open.PUBLIC)
def discovery() -> Response:
    """What can be asked here."""
    return jsonify(
        services=[
            {
                "hook": HOOK,
                "id": SERVICE,
                "title": "Remote monitoring charges",
                "description": (
                    "Says that a patient's remote monitoring can be charged, or must be decided or logged "
                    "first, as of the last sweep of this site."
                ),
                "usageRequirements": "fhirAuthorization with permission to read the Patient.",
            }
        ]
    )


@pages.post(f"/{SERVICE}")
@needs(Open.PUBLIC, besides="a request that a named EHR signed, and a token of its that reads the Patient")
def call() -> tuple[Response, int]:
    """One card, or none."""
    here = services()
    audience = f"{here.settings.base_url}/cds-services/{SERVICE}"
    try:
        client = here.guard.admit(request.headers.get("Authorization", ""), audience)
    except Refused as refused:
        _noted("refused", refused.reason)
        return _bare(401)
    except TooMany:
        _noted("refused", "too many")
        response, status = _bare(429)
        response.headers["Retry-After"] = "60"
        return response, status
    try:
        asked = msgspec.json.decode(request.get_data(), type=_Call)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, HTTPException):
        return _bare(400)
    if asked.hook != HOOK or not _ID.fullmatch(asked.context.patientId):
        return _bare(400)
    issuer = _issuer_of(client, asked.fhirServer)
    if issuer is None:
        _noted("refused", "another server")
        return _bare(403)
    card = _card(issuer, asked)
    _noted("answered", "a card" if card else "no card", issuer.id)
    return jsonify(cards=[] if card is None else [card]), 200


def _issuer_of(client: CdsClient, server: str | None) -> Issuer | None:
    """The EHR that was named, where it is the one whose key signed."""
    issuers = services().issuers
    try:
        issuer = issuers.match(server or "")
    except LaunchError:
        return None
    named = client.issuer_id or next(iter(issuers)).id
    return issuer if issuer.id == named else None


def _card(issuer: Issuer, asked: _Call) -> dict[str, Any] | None:
    here = services()
    patient = f"Patient/{asked.context.patientId}"
    try:
        as_of, listed = here.lists.one(issuer.id, patient)
    except NoList:
        return None
    if listed is None or not TO_DO & {matter.topic for matter in listed.matters}:
        return None
    today = here.site.today(here.clock.now())
    mark = here.store.marks.of_patient(issuer.id, asked.context.patientId)
    if mark is not None and mark.hides(listed.digest, today):
        return None
    told = sentences(Looking(here, issuer.id, "", as_of, today, may_charge=False), listed)
    if not told or not _may_be_told(issuer, asked, patient):
        return None
    here.store.audit.add(
        here.clock.now(),
        "cds-card-given",
        issuer=issuer.id,
        patient=asked.context.patientId,
        user=asked.context.userId[:256] or None,
    )
    return {
        "uuid": str(uuid.uuid4()),
        "summary": _summary(listed),
        "detail": "\n".join([*(f"- {one.text}" for one in told), "", f"As of {day(as_of)}."]),
        "indicator": "info",
        "source": {"label": "Remote monitoring charges", "url": here.settings.base_url},
        "links": [
            {
                "label": "Open remote monitoring charges",
                "url": f"{here.settings.base_url}/launch",
                "type": "smart",
            }
        ],
    }


def _summary(listed: Listed) -> str:
    """What there is to see to, in one line; how much of it the card's text says."""
    topics = {matter.topic for matter in listed.matters} & TO_DO
    said = "; ".join(text[0].lower() + text[1:] for topic, text in TOPICS.items() if topic in topics)
    return f"Remote monitoring: {said}"[:LONGEST_SUMMARY]


def _may_be_told(issuer: Issuer, asked: _Call, patient: str) -> bool:
    """Whether the token that came with the request reads the Patient, now. It serves for nothing else."""
    token = asked.fhirAuthorization
    if token is None or token.token_type.lower() != "bearer" or not token.access_token:
        return False
    if token.patient not in (None, asked.context.patientId):
        return False
    here = services()
    try:
        with here.cds_seats.one(issuer.registration):
            answer = here.clients.of(issuer).fhir(
                "GET", read_target(patient), token=token.access_token, limits=READING
            )
    except (SmartError, HttpError):
        return False
    found = decode(answer.body) if answer.ok else {}
    return f"{found.get('resourceType')}/{found.get('id')}" == patient


def _bare(status: int) -> tuple[Response, int]:
    """Without a word of why."""
    return Response(status=status), status


def _noted(what: str, why: str, issuer: str | None = None) -> None:
    log.info("cds request %s: %s", what, why, extra={FACTS: {"issuer": issuer}})
