"""The FHIR R4 REST API: read, search, create, update; every error an OperationOutcome; scopes enforced."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

from flask import Blueprint, Response, current_app, g, request
from werkzeug.exceptions import HTTPException

from launch.sandbox.answers import FHIR_JSON, Refused, outcome
from launch.sandbox.answers import as_json as _json
from launch.sandbox.capability import capability_statement, smart_configuration
from launch.sandbox.credentials import Credential, CredentialKind
from launch.sandbox.indexing import patient_of, reference_target
from launch.sandbox.own_charges import own_charge, own_search
from launch.sandbox.scopes import Interaction, Reach, reach
from launch.sandbox.search import Query, ResultSet, SearchError, parse_query
from launch.sandbox.search_parameters import PARAMETERS, PATIENT_PATH, SHARED_TYPES
from launch.sandbox.store import Conflict, Stored, instant
from launch.sandbox.validation import MANDATORY, Invalid, parse_json, validate

if TYPE_CHECKING:
    from launch.sandbox.app import Sandbox

fhir = Blueprint("fhir", __name__)

_JSON_TYPES = {"application/fhir+json", "application/json"}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_DEFAULT_COUNT = 50
_MOST_IN_A_BATCH = 50
#: Readable without a token: what a client must know before it can have one.
_PUBLIC = {"fhir.metadata", "fhir.smart_well_known"}


def _sandbox() -> Sandbox:
    return current_app.extensions["sandbox"]  # type: ignore[no-any-return]


# --- before each request ---------------------------------------------------------------------------------


@fhir.before_request
def _prepare() -> None:
    quirks = _sandbox().quirks
    quirks.delay()
    wait = quirks.seconds_to_wait()
    if wait:
        raise Refused(429, "throttled", "too many requests", {"Retry-After": str(wait)})
    if request.endpoint != "fhir.export_file" and not _accepts_json():
        raise Refused(406, "not-supported", "this server answers application/fhir+json only")
    is_open = request.endpoint == "fhir.export_file" and quirks.export_open_files
    if request.endpoint not in _PUBLIC and not is_open:
        g.token = _token()


def _accepts_json() -> bool:
    format_ = request.args.get("_format")
    if format_ is not None:
        return format_ == "json" or format_.partition(";")[0].strip() in _JSON_TYPES
    accept = request.accept_mimetypes
    return not accept or any(accept[name] > 0 for name in _JSON_TYPES)


def _token() -> Credential:
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Refused(
            401, "login", "an access token is needed", {"WWW-Authenticate": 'Bearer realm="sandbox"'}
        )
    token = _sandbox().credentials.live(CredentialKind.ACCESS, secret.strip())
    if token is None:
        challenge = 'Bearer realm="sandbox", error="invalid_token"'
        raise Refused(401, "login", "the access token is unknown or over", {"WWW-Authenticate": challenge})
    return token


def _confined_to(type_: str, interaction: Interaction) -> str | None:
    """The patient the token is confined to for this, or None for everybody. Raises Refused(403)."""
    token: Credential = g.token
    found = reach(token.get_scope(), type_, interaction)
    if found is Reach.NOTHING:
        challenge = 'Bearer realm="sandbox", error="insufficient_scope"'
        text = f"the granted scopes don't allow this on {type_}"
        raise Refused(403, "forbidden", text, {"WWW-Authenticate": challenge})
    reading = interaction in (Interaction.READ, Interaction.SEARCH)
    if found is Reach.EVERYTHING or (type_ in SHARED_TYPES and reading):
        return None
    return str(token.data["context"]["patient"])


def _closed() -> frozenset[str]:
    """The patients whose charts are closed to the token's user."""
    token: Credential = g.token
    return _sandbox().quirks.closed_to(str(token.data.get("context", {}).get("user", "")))


def _known(type_: str) -> None:
    if type_ not in PARAMETERS:
        raise Refused(404, "not-supported", "this server doesn't hold that resource type")


# --- discovery -------------------------------------------------------------------------------------------


@fhir.get("/metadata")
def metadata() -> Response:
    """The CapabilityStatement."""
    return _json(capability_statement(_sandbox().config))


@fhir.get("/.well-known/smart-configuration")
def smart_well_known() -> Response:
    """SMART discovery."""
    return Response(json.dumps(smart_configuration(_sandbox().config)), content_type="application/json")


# --- read ------------------------------------------------------------------------------------------------


@fhir.get("/<type_>/<id_>")
def read(type_: str, id_: str) -> Response:
    """The current version of one resource."""
    _known(type_)
    _apply_faults(type_)
    patient = _confined_to(type_, Interaction.READ)
    stored = _sandbox().store.read(type_, id_)
    if stored is None:
        raise Refused(404, "not-found", "there is no such resource")
    if patient is not None and stored.patient != patient:
        raise Refused(403, "forbidden", "the resource is not one of the launch patient's")
    if stored.patient in _closed():
        raise Refused(403, "forbidden", "this chart is closed to the user")
    return Response(stored.body, 200, _version_headers(stored), content_type=FHIR_JSON)


def _version_headers(stored: Stored) -> dict[str, str]:
    from werkzeug.http import http_date

    return {"ETag": stored.etag, "Last-Modified": http_date(stored.updated / 1000)}


# --- search ----------------------------------------------------------------------------------------------


@fhir.get("/<type_>")
def search(type_: str) -> Response:
    """Search by GET, and the further pages of one."""
    _known(type_)
    page = request.args.get("_page")
    if page is not None:
        return _further_page(type_, page)
    return _search(type_, list(request.args.items(multi=True)))


@fhir.post("/<type_>/_search")
def search_by_post(type_: str) -> Response:
    """Search by POST; parameters may stand in the URL too."""
    _known(type_)
    if request.mimetype != "application/x-www-form-urlencoded":
        raise Refused(415, "not-supported", "_search takes application/x-www-form-urlencoded")
    return _search(type_, [*request.args.items(multi=True), *request.form.items(multi=True)])


def _search(type_: str, pairs: list[tuple[str, str]]) -> Response:
    sandbox = _sandbox()
    patient = _confined_to(type_, Interaction.SEARCH)
    _apply_search_quirks(type_, pairs)
    _apply_faults(type_)
    if type_ == "ChargeItem" and sandbox.quirks.own_charge_operation:
        pairs = own_search(pairs)
    if sandbox.quirks.no_last_updated and any(name == "_lastUpdated" for name, _ in pairs):
        if _strict():
            raise Refused(400, "not-supported", "unknown search parameter: _lastUpdated")
        pairs = [pair for pair in pairs if pair[0] != "_lastUpdated"]
    query = _query(type_, pairs, patient)
    if type_ == "Device" and sandbox.quirks.implants_only:
        query.add("r.body LIKE ?", ["%implant%"])
    for closed in sorted(_closed()):
        query.add("r.patient IS NOT ?", [closed])
    if query.unknown and _strict():
        raise Refused(400, "not-supported", f"unknown search parameter: {query.unknown[0][:80]}")
    count = _count(pairs)
    wanted = tuple(name for key, value in pairs if key == "_elements" for name in value.split(",") if name)
    with sandbox.database.read() as connection:
        rids = query.rids(connection)
    address = f"{sandbox.config.fhir_base}/{type_}"
    self_link = f"{address}?{urlencode(query.used, quote_via=quote, safe='|,:/')}" if query.used else address
    results = ResultSet(type_, array("q", rids), g.token.family, count, wanted, self_link)
    return _page(results, 0, None)


def _strict() -> bool:
    return "handling=strict" in request.headers.get("Prefer", "").replace(" ", "")


def _query(type_: str, pairs: Sequence[tuple[str, str]], patient: str | None) -> Query:
    base = _sandbox().config.fhir_base
    try:
        query = parse_query(type_, pairs, base)
    except SearchError as error:
        raise Refused(400, error.code, str(error)) from None
    if patient is not None:
        _refuse_other_patients(type_, pairs, patient)
        query.confine(patient)
    return query


def _refuse_other_patients(type_: str, pairs: Sequence[tuple[str, str]], patient: str) -> None:
    # Confining alone would answer such a search with nothing: true of no patient, and read as "no data".
    for name, value in pairs:
        plain, _, modifier = name.partition(":")
        parameter = PARAMETERS[type_].get(plain)
        if parameter is None or modifier == "missing" or parameter.paths != (PATIENT_PATH.get(type_),):
            continue
        targets = [reference_target(part, _sandbox().config.fhir_base) for part in value.split(",")]
        if any(target is None or target.id != patient for target in targets):
            raise Refused(403, "forbidden", "the token is confined to another patient")


def _apply_search_quirks(type_: str, pairs: Sequence[tuple[str, str]]) -> None:
    quirks = _sandbox().quirks
    names = {name.partition(":")[0] for name, _ in pairs}
    if type_ == quirks.refused:
        raise Refused(403, "forbidden", "searches of this type are refused")
    if type_ == "Observation" and quirks.refused_category in {v for n, v in pairs if n == "category"}:
        raise Refused(403, "forbidden", "searches by this category are refused")
    if quirks.one_id_at_a_time and any(name == "_id" and "," in value for name, value in pairs):
        raise Refused(400, "not-supported", "_id takes one value")
    if type_ == "ChargeItem" and quirks.no_charge_item_search:
        raise Refused(404, "not-supported", "ChargeItem can't be searched here")
    if (
        type_ == "Observation"
        and quirks.require_category_for_observation_search
        and not names & {"category", "code", "_id"}
    ):
        raise Refused(400, "required", "must have either code or category", expression="category")


def _apply_faults(type_: str) -> None:
    if type_ == _sandbox().quirks.failing:
        raise Refused(500, "exception", "a fault of this server")


def _count(pairs: Sequence[tuple[str, str]]) -> int:
    quirks, most = _sandbox().quirks, _sandbox().config.max_count
    values = [value for name, value in pairs if name == "_count"]
    if values and not re.fullmatch(r"\d{1,9}", values[-1]):
        raise Refused(400, "value", "_count is a whole number")
    asked = int(values[-1]) if values else _DEFAULT_COUNT
    if values and 0 < quirks.refused_above < asked:
        raise Refused(400, "too-costly", "_count is too large")
    return min(asked, most, quirks.cap_count or most)


def _further_page(type_: str, page: str) -> Response:
    _confined_to(type_, Interaction.SEARCH)
    name, _, offset = page.rpartition(".")
    results = _sandbox().results.find(name, g.token.family)
    lost = _sandbox().quirks.lost_next
    if lost or results is None or results.type != type_ or not re.fullmatch(r"\d{1,9}", offset):
        raise Refused(410, "expired", "the page is over; make the search again")
    return _page(results, int(offset), name)


def _page(results: ResultSet, offset: int, name: str | None) -> Response:
    """One page as a Bundle, put together from the stored texts without reading them again."""
    sandbox = _sandbox()
    address = f"{sandbox.config.fhir_base}/{results.type}"
    links = [{"relation": "self", "url": results.self_link}]
    end = offset + results.count
    if results.count and end < len(results.rids):
        name = name or sandbox.results.keep(results)
        links.append({"relation": "next", "url": _next_link(f"{address}?_page={name}", offset, end)})
    head = {
        "resourceType": "Bundle",
        "type": "searchset",
        "timestamp": instant(int(sandbox.config.clock() * 1000)),
        "total": len(results.rids),
        "link": links,
    }
    entries = [
        f'{{"fullUrl":"{address}/{id_}","resource":{_subset(results, body)},"search":{{"mode":"match"}}}}'
        for id_, body in sandbox.store.bodies(list(results.rids[offset:end]))
    ]
    if sandbox.quirks.incomplete_searches:
        entries.append(_INCOMPLETE)
    text = json.dumps(head)
    if entries:
        text = f'{text[:-1]},"entry":[{",".join(entries)}]}}'
    if sandbox.quirks.absolute_references:
        text = _REFERENCE.sub(rf"\g<0>{sandbox.quirks.absolute_references}/", text)
    if sandbox.quirks.breaks_off():
        text = text[: len(text) * 2 // 3]
    return Response(text, content_type=FHIR_JSON)


def _next_link(page: str, offset: int, end: int) -> str:
    """Where the next page is; a quirk leads astray."""
    quirks = _sandbox().quirks
    if quirks.foreign_next:
        return f"https://elsewhere.example/fhir?{page.partition('?')[2]}.{end}"
    if quirks.broken_next:
        return "http://[not an address"
    return f"{page}.{offset if quirks.looping_next else end}"


_REFERENCE = re.compile(r'"reference": ?"(?=[A-Z][A-Za-z]+/)')
_INCOMPLETE = json.dumps(
    {
        "resource": {
            "resourceType": "OperationOutcome",
            "issue": [
                {
                    "severity": "warning",
                    "code": "incomplete",
                    "diagnostics": "a source of this server could not be reached",
                }
            ],
        },
        "search": {"mode": "outcome"},
    }
)


_SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}


def _subset(results: ResultSet, body: str) -> str:
    if not results.elements:
        return body
    resource = json.loads(body)
    names = {"resourceType", "id", "meta", *MANDATORY.get(results.type, ()), *results.elements}
    kept = {name: value for name, value in resource.items() if name.lstrip("_") in names}
    kept["meta"] = {**kept["meta"], "tag": [*kept["meta"].get("tag", ()), _SUBSETTED]}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


# --- several at once -------------------------------------------------------------------------------------


@fhir.post("/", strict_slashes=False)
def batch() -> Response:
    """A batch of reads and searches; each is answered as it would be by itself."""
    try:
        bundle = json.loads(request.get_data())
        asked = [(entry["request"]["method"], entry["request"]["url"]) for entry in bundle["entry"]]
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "structure", "a batch is a Bundle of requests") from None
    if _sandbox().quirks.no_batch or bundle.get("type") != "batch" or len(asked) > _MOST_IN_A_BATCH:
        raise Refused(400, "not-supported", f"a batch of {_MOST_IN_A_BATCH} requests at most")
    headers = {name: request.headers[name] for name in ("Authorization", "Prefer") if name in request.headers}
    entries = []
    for method, url in asked:
        if method != "GET" or not isinstance(url, str):
            raise Refused(400, "not-supported", "a batch holds GETs here")
        with current_app.test_client() as client:
            answer = client.get(f"/fhir/r4/{url}", base_url=request.host_url, headers=headers)
        entry: dict[str, Any] = {"response": {"status": str(answer.status_code)}}
        entry["resource" if answer.status_code == 200 else "outcome"] = answer.get_json(force=True)
        entries.append(entry)
    return _json({"resourceType": "Bundle", "type": "batch-response", "entry": entries})


# --- create and update -----------------------------------------------------------------------------------


@fhir.post("/<type_>")
def create(type_: str) -> Response:
    """Create, conditionally where If-None-Exist says so."""
    _known(type_)
    sandbox = _sandbox()
    if type_ == "ChargeItem" and (
        sandbox.quirks.no_charge_item_create or sandbox.quirks.own_charge_operation
    ):
        raise Refused(405, "not-supported", "ChargeItem can't be created here", {"Allow": "GET"})
    patient = _confined_to(type_, Interaction.CREATE)
    resource = _resource(type_, patient)
    finder = None
    criteria = request.headers.get("If-None-Exist")
    if criteria is not None and not sandbox.quirks.no_conditional_create:
        finder = _existing(type_, criteria, patient).rids
    try:
        stored, created = sandbox.store.create(resource, finder)
    except Conflict:
        raise Refused(412, "duplicate", "several resources match If-None-Exist") from None
    if created and sandbox.quirks.answer_is_lost():
        return Response(
            "<html><body><h1>504 Gateway Time-out</h1></body></html>", 504, content_type="text/html"
        )
    return _written(stored, 201 if created else 200)


@fhir.put("/<type_>/<id_>")
def update(type_: str, id_: str) -> Response:
    """Update; If-Match guards against a version somebody else made."""
    _known(type_)
    sandbox = _sandbox()
    patient = _confined_to(type_, Interaction.UPDATE)
    current = sandbox.store.read(type_, id_)
    if current and patient is not None and current.patient != patient:
        raise Refused(403, "forbidden", "the resource is not one of the launch patient's")
    resource = _resource(type_, patient)
    if resource.get("id") != id_ or not _ID.fullmatch(id_):
        raise Refused(400, "invalid", "the id in the body is not the id in the address", expression="id")
    try:
        stored, created = sandbox.store.update(resource, _if_match(), sandbox.quirks.update_create)
    except Conflict as conflict:
        if conflict.reason == Conflict.VERSION:
            raise Refused(412, "conflict", "the resource has another version") from None
        allow = {"Allow": "GET, POST"}
        raise Refused(405, "not-supported", "a client can't choose ids here", allow) from None
    return _written(stored, 201 if created else 200)


def _resource(type_: str, patient: str | None, body: Any = None) -> dict[str, Any]:
    """The validated body; it must belong to ``patient``, where the token is confined to one."""
    sandbox = _sandbox()
    if request.mimetype not in _JSON_TYPES:
        raise Refused(415, "not-supported", "the body must be application/fhir+json")
    try:
        body = parse_json(request.get_data()) if body is None else body
        resource = validate(body, type_, sandbox.store.base, sandbox.store.exists)
    except Invalid as error:
        status = 400 if error.code == "structure" else 422
        raise Refused(status, error.code, str(error), expression=error.expression) from None

    def owner(target: Any) -> str | None:
        found = sandbox.store.read(target.type, target.id)
        return found.patient if found else None

    if patient is not None and patient_of(resource, sandbox.store.base, owner) != patient:
        raise Refused(403, "forbidden", "the resource is not one of the launch patient's")
    return resource


def _existing(type_: str, criteria: str, patient: str | None) -> Query:
    pairs = parse_qsl(criteria.partition("?")[2] or criteria, keep_blank_values=True)
    query = _query(type_, pairs, patient)
    if query.unknown or not query.conditions:
        raise Refused(412, "processing", "If-None-Exist must be a search this server understands")
    return query


def _if_match() -> int | None:
    value = request.headers.get("If-Match")
    if value is None:
        return None
    match = re.fullmatch(r'W/"(\d{1,9})"', value.strip())
    if not match:
        raise Refused(400, "value", 'If-Match is an ETag of this server: W/"1"')
    return int(match[1])


def _written(stored: Stored, status: int) -> Response:
    location = f"{_sandbox().config.fhir_base}/{stored.type}/{stored.id}/_history/{stored.version}"
    headers = {**_version_headers(stored), "Location": location}
    prefer = request.headers.get("Prefer", "").replace(" ", "")
    if "return=minimal" in prefer:
        return Response("", status, headers, content_type=FHIR_JSON)
    if "return=OperationOutcome" in prefer:
        issue = {"severity": "information", "code": "informational", "diagnostics": "stored"}
        return _json({"resourceType": "OperationOutcome", "issue": [issue]}, status, headers)
    return Response(stored.body, status, headers, content_type=FHIR_JSON)


@fhir.post("/ChargeItem/$create")
def create_charge() -> Response:
    """A charge by an operation of this server's own: no id in the answer."""
    sandbox = _sandbox()
    if not sandbox.quirks.own_charge_operation:
        raise Refused(404, "not-supported", "there is no such operation here")
    patient = _confined_to("ChargeItem", Interaction.CREATE)
    sandbox.store.create(_resource("ChargeItem", patient, own_charge(request.get_data())))
    if sandbox.quirks.answer_is_lost():
        return Response("", 504)
    return Response("", 200, {"Location": f"{sandbox.config.fhir_base}/ChargeItem/$create"})


# --- errors ----------------------------------------------------------------------------------------------


@fhir.errorhandler(Refused)
def _refused(error: Refused) -> Response:
    return outcome(error.status, error.code, str(error), error.headers, error.expression)


@fhir.errorhandler(Invalid)
def _invalid(error: Invalid) -> Response:
    return outcome(400 if error.code == "required" else 422, error.code, str(error), at=error.expression)


@fhir.errorhandler(HTTPException)
def _http_error(error: HTTPException) -> Response:
    codes = {404: "not-found", 405: "not-supported", 413: "too-long"}
    return outcome(error.code or 500, codes.get(error.code or 500, "invalid"), error.name)
