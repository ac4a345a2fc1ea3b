"""Real searches of one patient, with a token: what the server does, not what it says it does.

Only whether something came is looked at, and whether it is the patient's; nothing of it is printed or kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

from launch.discovery import SmartConfiguration
from launch.errors import HttpError, LaunchError, LaunchReason
from launch.http import Limits, Response
from launch.issuers import ClientAuth
from launch.tokens import request_token
from smartapp.commands.checks import Fault, listed
from smartapp.commands.doctor.discovery import Found
from smartapp.commands.doctor.examination import Examination, paused, status_words, trouble
from smartapp.commands.doctor.ids import CheckId
from smartapp.commands.doctor.metadata import Declared
from smartapp.commands.registration import ResourceLine, without
from smartapp.ehr.wire.bundles import NotAPage, search_page, search_target
from smartapp.ehr.wire.looks import look, names_another_patient
from smartapp.ehr.wire.patient_scope import other_base

_Parameters = tuple[tuple[str, str], ...]
LIMITS = Limits(connect=5.0, read=15.0, total=15.0)
"""Shorter than the reader's: a server that asks for a pause is told about, not waited for."""
_REFUSED = frozenset({400, 413, 422})
_NEVER = "ge2999-01-01"
"""A day nothing can be dated after: whoever finds something did not look at the date."""
_NOBODYS = "urn:smart-remote-monitoring:charge|a-charge-that-never-was"
_WITHIN = timedelta(days=30)
_REFUSALS = frozenset(
    {"invalid_client", "invalid_grant", "invalid_request", "invalid_scope", "unauthorized_client"}
)


def token_of(exam: Examination, found: Found, variable: str | None, *, write: bool) -> str | None:
    """An access token: from the environment, else as a backend client. None, and said why, without one.

    Raises Fault for a variable that is not set.
    """
    if variable is not None:
        token = os.environ.get(variable, "").strip()
        if not token:
            raise Fault(f"--token names the environment variable {variable}, which is not set")
        exam.checks.ok(CheckId.ACCESS, "with the token that was given")
        return token
    if exam.issuer.client_auth is not ClientAuth.PRIVATE_KEY_JWT:
        exam.checks.warning(
            CheckId.ACCESS,
            "no token: real searches were not tried; give one with --token, or register a backend client "
            "(private-key-jwt)",
        )
        return None
    if found.configuration is None:
        return None
    return _backend_token(exam, found.configuration, write=write)


def _backend_token(exam: Examination, configuration: SmartConfiguration, *, write: bool) -> str | None:
    scope = _system_scope(exam, v2=configuration.speaks_v2(exam.issuer), write=write)
    form = (("grant_type", "client_credentials"), ("scope", scope))
    try:
        answer = request_token(exam.client, configuration.token_endpoint, form, exam.now())
    except HttpError as error:
        exam.checks.failure(
            CheckId.ACCESS, f"the token endpoint gives no usable answer: {trouble(error, exam.issuer)}"
        )
        return None
    except LaunchError as error:
        refused = error.ehr_code if error.ehr_code in _REFUSALS else "without a reason it should give"
        if error.ehr_code == "invalid_client":
            exam.checks.failure(
                CheckId.ACCESS,
                "the server does not accept our assertion (invalid_client): check client_id, that it reads "
                "our key set, and the clocks",
            )
        elif error.reason is LaunchReason.TOKEN_REFUSED:
            exam.checks.warning(
                CheckId.ACCESS,
                f"no token for the app itself ({refused}): it is not registered as a backend client, so real "
                "searches were not tried; give a token with --token",
            )
        else:
            exam.checks.failure(CheckId.ACCESS, "the token endpoint's answer can't be used")
        return None
    exam.checks.ok(CheckId.ACCESS, "as a backend client, with a signed assertion")
    return answer.access_token


def _system_scope(exam: Examination, *, v2: bool, write: bool) -> str:
    types = [line.type for line in exam.sheet.resources if "search" in line.interactions]
    words = [f"system/{type_}.{'rs' if v2 else 'read'}" for type_ in types if type_ != "PractitionerRole"]
    if write:
        words.append("system/ChargeItem.cu" if v2 else "system/ChargeItem.write")
    return " ".join(words)


def check_searches(exam: Examination, declared: Declared, token: str, patient: str) -> None:
    """Each search of the reader once, and two that must find nothing, one of them with a page as large as the
    reader asks for."""
    for line in exam.sheet.resources:
        searched = "search" in line.interactions and "patient" in line.search_parameters
        undeclared = declared and "search-type" not in declared.interactions(line.type)
        if searched and not undeclared:
            _search(exam, line, token, patient)
    _ignored_date(exam, token, patient)
    if not declared or "search-type" in declared.interactions("ChargeItem"):
        _ignored_identifier(exam, token, patient)


def _ways(exam: Examination, line: ResourceLine, patient: str) -> tuple[_Parameters, ...]:
    """As the reader asks, with its second way."""
    more: list[tuple[str, str]] = []
    if "category" in line.search_parameters:
        more.append(("category", exam.issuer.profile.observation_categories[0]))
    if "date" in line.search_parameters:
        more.append(("date", f"ge{(exam.now() - _WITHIN).date().isoformat()}"))
    return (
        (("patient", patient), *more, ("_count", "5")),
        (("subject", f"Patient/{patient}"), *more, ("_count", "5")),
    )


def _search(exam: Examination, line: ResourceLine, token: str, patient: str) -> None:
    lost, required = without(line.type)
    tell = exam.checks.failure if required else exam.checks.warning
    answer: Response | HttpError | None = None
    strict = exam.issuer.profile.strict_handling
    for way in _ways(exam, line, patient):
        for headers in [{"Prefer": "handling=strict"}, {}] if strict else [{}]:
            answer = exam.fhir(
                "GET", search_target(line.type, way), token=token, headers=headers, limits=LIMITS
            )
            if isinstance(answer, HttpError) or answer.status not in {400, 422}:
                break
        else:
            continue
        break
    assert answer is not None
    if paused(answer):
        tell(
            CheckId.SEARCH,
            f"not tried: no request was free ({CheckId.RATE_LIMIT.value}); run again in a minute",
            line.type,
        )
    elif isinstance(answer, HttpError):
        tell(CheckId.SEARCH, f"{trouble(answer, exam.issuer)}; {lost}", line.type)
    elif answer.status in {400, 422} and line.type == "Observation":
        _needs_category(exam, token, patient)
    elif not answer.ok:
        tell(CheckId.SEARCH, f"{status_words(answer.status)}; {lost}", line.type)
    else:
        _found(exam, line.type, answer, patient)


def _needs_category(exam: Examination, token: str, patient: str) -> None:
    """The search was refused: perhaps it wants a category, as many do."""
    target = search_target(
        "Observation",
        (("patient", patient), ("category", "vital-signs"), ("date", "ge2000-01-01"), ("_count", "1")),
    )
    answer = exam.fhir("GET", target, token=token, limits=LIMITS)
    if isinstance(answer, Response) and answer.ok:
        exam.checks.warning(
            CheckId.SEARCH,
            "the server wants a category or a code with every search of readings: the app asks by the code "
            "of what tables and site declare; observation_needs_category = true spares it the first refusal",
            "Observation",
        )
    else:
        exam.checks.failure(
            CheckId.SEARCH,
            "the server refuses a search by patient and date, with and without category: no reading is found",
            "Observation",
        )


def _found(exam: Examination, type_: str, answer: Response, patient: str) -> None:
    try:
        page = search_page(answer.body)
    except NotAPage:
        exam.checks.failure(CheckId.SEARCH, "the answer is no searchset Bundle", type_)
        return
    seen = [look(entry.resource) for entry in page.entries if bytes(entry.resource)]
    named = {other_base(item.about, patient) for item in seen}
    others = {base for base in named if base is not None} - set(exam.issuer.bases)
    if others:
        exam.checks.failure(
            CheckId.SEARCH,
            f"references name the server by another address: {listed(sorted(others))}. If it is "
            "this server's own, list it under fhir_base_aliases; else everything that names it is dropped",
            type_,
        )
    elif any(names_another_patient(item, patient, exam.issuer.bases) for item in seen):
        exam.checks.failure(
            CheckId.SEARCH,
            "the server gave another patient's data: it does not look at `patient`; tell the EHR's team. The "
            "app drops such data, but should not have been given it",
            type_,
        )
    else:
        exam.checks.ok(CheckId.SEARCH, "answered", type_)


def _ignored_date(exam: Examination, token: str, patient: str) -> None:
    """A search after the end of time, for a page as large as the reader asks for."""
    category = (
        exam.issuer.profile.observation_categories if exam.issuer.profile.observation_needs_category else ()
    )
    more = [("category", name) for name in category[:1]]
    size = exam.issuer.profile.page_size

    def asked(count: int) -> Response | HttpError:
        never = (("patient", patient), *more, ("date", _NEVER), ("_count", str(count)))
        return exam.fhir("GET", search_target("Observation", never), token=token, limits=LIMITS)

    answer = asked(size)
    if isinstance(answer, Response) and answer.status in _REFUSED:
        answer = asked(1)
        if isinstance(answer, Response) and answer.ok:
            exam.checks.failure(
                CheckId.PAGE_SIZE,
                f"the server refuses to be asked for a page of {size}, and gives one of 1: no search of the "
                "app's is answered; set page_size to what it takes (`search` in the issuers file)",
            )
    elif isinstance(answer, Response) and answer.ok:
        exam.checks.ok(CheckId.PAGE_SIZE, f"a page of {size} can be asked for")
    found = _matches(answer)
    if found is None:
        return
    if found:
        exam.checks.warning(
            CheckId.IGNORED_DATE,
            "the server does not look at `date`: every reading of a patient is read each time, which takes "
            "longer",
        )
    else:
        exam.checks.ok(CheckId.IGNORED_DATE, "a search after the end of time finds nothing")


def _ignored_identifier(exam: Examination, token: str, patient: str) -> None:
    nobodys = (("patient", patient), ("identifier", _NOBODYS), ("_count", "1"))
    found = _matches(exam.fhir("GET", search_target("ChargeItem", nobodys), token=token, limits=LIMITS))
    if found is None:
        return
    if found:
        exam.checks.failure(
            CheckId.IGNORED_IDENTIFIER,
            "the server does not look at `identifier`: a conditional create could take another charge for "
            "ours; don't grant ChargeItem create before the EHR's team has mended it",
        )
    else:
        exam.checks.ok(CheckId.IGNORED_IDENTIFIER, "a charge that never was is not found")


def _matches(answer: Response | HttpError) -> bool | None:
    """Whether a search brought matches; None where it is refused, which is as good as nothing here."""
    if isinstance(answer, HttpError) or not answer.ok:
        return None
    try:
        page = search_page(answer.body)
    except NotAPage:
        return None
    return any(
        bytes(entry.resource) and (entry.search is None or entry.search.mode == "match")
        for entry in page.entries
    )


def headers_of(extra: Mapping[str, str]) -> dict[str, str]:
    """Headers of a write: the resource is wanted back."""
    return {"Prefer": "return=representation", **extra}
