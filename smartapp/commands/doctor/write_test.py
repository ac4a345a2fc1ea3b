"""`--write-test`: the same test charge created twice, conditionally, and taken back.

It is marked as test data, carries no billing code, and is set to entered-in-error right after. Where the
server does not let it be taken back, nothing is written in the first place.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import msgspec

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM, NAMESPACE
from fhir_mappings.identity import unversioned
from launch.errors import HttpError
from launch.http import Limits, Response
from smartapp.commands.doctor.examination import Examination, paused, status_words, trouble
from smartapp.commands.doctor.ids import CheckId
from smartapp.commands.doctor.metadata import Declared
from smartapp.commands.doctor.searches import LIMITS, headers_of
from smartapp.ehr.wire.bundles import NotAPage, read_target, search_page, search_target
from smartapp.ehr.wire.looks import look

ONCE = Limits(connect=5.0, read=30.0, total=30.0, tries=1)
_LOST = frozenset({408, 500, 502, 503, 504})
"""A gateway's word for its own trouble: what happened behind it is not known."""
_TEST_DATA = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}


def check_write(exam: Examination, declared: Declared, token: str, patient: str) -> None:
    """Create, create again, take back, and say whether it was one charge."""
    if "create" not in declared.interactions("ChargeItem") or "update" not in declared.interactions(
        "ChargeItem"
    ):
        exam.checks.warning(
            CheckId.WRITE_TEST,
            "not made: the server does not declare create and update of ChargeItem, so a test charge could "
            "not be taken back",
        )
        return
    value = f"write-test-{secrets.token_hex(8)}"
    resource = _test_charge(exam, patient, value)
    answers = [_create(exam, resource, value, token) for _ in range(2)]
    found = _searched(exam, value, token)
    made = {id_ for answer in answers if (id_ := _id_of(answer))} | (found or set())
    tried = [_take_back(exam, resource, logical_id, token) for logical_id in sorted(made)]
    taken_back = all(tried)
    one_at_most = bool(made) and declared.says("ChargeItem", "conditionalCreate")
    if found is None and any(map(_is_lost, answers)) and not one_at_most:
        _tell_unknown(exam, value, made, taken_back)
    else:
        _tell(exam, declared, answers, made, taken_back)


def _test_charge(exam: Examination, patient: str, value: str) -> dict[str, Any]:
    return {
        "resourceType": "ChargeItem",
        "meta": {"security": [_TEST_DATA]},
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": value}],
        "status": "planned",
        "code": {
            "coding": [{"system": f"{NAMESPACE}:test", "code": "write-test"}],
            "text": "Test of the interface, not a charge",
        },
        "subject": {"reference": f"Patient/{patient}"},
        "occurrenceDateTime": exam.now().date().isoformat(),
        "quantity": {"value": 1},
    }


def _create(exam: Examination, resource: dict[str, Any], value: str, token: str) -> Response | HttpError:
    return exam.fhir(
        "POST",
        "ChargeItem",
        token=token,
        body=msgspec.json.encode(resource),
        headers=headers_of({"If-None-Exist": f"identifier={IDENTIFIER_SYSTEM}|{value}"}),
        limits=ONCE,
    )


def _searched(exam: Examination, value: str, token: str) -> set[str] | None:
    """Ids of the test charges a search finds; None where it can't be searched for."""
    target = search_target("ChargeItem", (("identifier", f"{IDENTIFIER_SYSTEM}|{value}"),))
    answer = exam.fhir("GET", target, token=token, limits=LIMITS)
    if isinstance(answer, HttpError) or not answer.ok:
        return None
    try:
        entries = search_page(answer.body).entries
    except NotAPage:
        return None
    # Only what carries our identifier: the server may have ignored the parameter.
    ours = [look(entry.resource) for entry in entries if value.encode() in bytes(entry.resource)]
    return {item.id for item in ours if item.resourceType == "ChargeItem" and item.id}


def _is_lost(answer: Response | HttpError) -> bool:
    """Whether a create may have been carried out although its answer does not say so, or not which one."""
    if isinstance(answer, HttpError):
        return answer.maybe_acted
    return answer.status in _LOST or (answer.ok and _id_of(answer) is None)


def _id_of(answer: Response | HttpError) -> str | None:
    if isinstance(answer, HttpError) or not answer.ok:
        return None
    seen = look(answer.body)
    if seen.resourceType == "ChargeItem" and seen.id:
        return seen.id
    path = unversioned(answer.headers.get("location", "").split("?")[0])
    return path.rstrip("/").rsplit("/", 1)[-1] if "/ChargeItem/" in path else None


def _take_back(exam: Examination, resource: dict[str, Any], logical_id: str, token: str) -> bool:
    answer = exam.fhir(
        "PUT",
        read_target(f"ChargeItem/{logical_id}"),
        token=token,
        body=json.dumps({**resource, "id": logical_id, "status": "entered-in-error"}).encode(),
        headers=headers_of({}),
        limits=ONCE,
    )
    return isinstance(answer, Response) and answer.ok


def _tell_unknown(exam: Examination, value: str, made: set[str], taken_back: bool) -> None:
    """An answer was lost and nothing can be searched for: what a person has to look for."""
    known = f" ({_names(made)} {'is' if taken_back else 'is not'} so already)" if made else ""
    exam.checks.failure(
        CheckId.WRITE_TEST,
        "an answer to a create was lost, and ChargeItem can't be searched: look in the EHR for a test charge "
        f"with the identifier {value}, and set it to entered-in-error{known}",
    )


def _names(made: set[str]) -> str:
    return ", ".join(f"ChargeItem/{logical_id}" for logical_id in sorted(made))


def _tell(
    exam: Examination,
    declared: Declared,
    answers: list[Response | HttpError],
    made: set[str],
    taken_back: bool,
) -> None:
    names = _names(made)
    if made and not taken_back:
        exam.checks.failure(
            CheckId.WRITE_TEST,
            f"the test charge can't be set to entered-in-error: do so in the EHR ({names})",
        )
    elif not made and any(map(paused, answers)):
        exam.checks.failure(
            CheckId.WRITE_TEST,
            f"not made: no request was free ({CheckId.RATE_LIMIT.value}); run again in a minute",
        )
    elif not made:
        last = answers[-1]
        why = trouble(last, exam.issuer) if isinstance(last, HttpError) else status_words(last.status)
        exam.checks.failure(
            CheckId.WRITE_TEST, f"no charge was created: {why}; see what the server wants of a ChargeItem"
        )
    elif len(made) > 1 and declared.says("ChargeItem", "conditionalCreate"):
        exam.checks.failure(
            CheckId.WRITE_TEST,
            "the same charge was created twice although conditional create is declared: a lost answer could "
            f"charge twice; tell the EHR's team. Both are entered-in-error now ({names})",
        )
    elif len(made) > 1:
        exam.checks.warning(
            CheckId.WRITE_TEST,
            "the same charge was created twice, as a server without conditional create does "
            f"({CheckId.CHARGE_CONDITIONAL.value}). Both are entered-in-error now ({names})",
        )
    elif any(map(_is_lost, answers)):
        exam.checks.warning(
            CheckId.WRITE_TEST,
            "the charge was created, but an answer was lost or did not name it: ask the EHR's team about the "
            "gateway in between. The app never sends such a charge again before it was looked up. It is "
            f"entered-in-error now ({names})",
        )
    else:
        exam.checks.ok(CheckId.WRITE_TEST, f"created twice, one charge, entered-in-error now ({names})")
