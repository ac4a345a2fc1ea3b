"""The CapabilityStatement: FHIR version, the searches we need, and what can be done with ChargeItem."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from launch.errors import HttpError
from launch.http import MEGABYTE, Limits
from launch.profiles import ChargeItemWrite
from smartapp.commands.checks import listed
from smartapp.commands.doctor.examination import UNREACHED, Examination, status_words, trouble
from smartapp.commands.doctor.ids import CheckId
from smartapp.commands.registration import ResourceLine, without

LIMITS = Limits(connect=5.0, read=20.0, total=30.0, max_bytes=16 * MEGABYTE)


def read_metadata(exam: Examination) -> Any:
    """The CapabilityStatement as a dict; None, and said why, where there is none."""
    answer = exam.fhir("GET", "metadata", limits=LIMITS)
    if isinstance(answer, HttpError):
        check = CheckId.CONNECTION if answer.problem in UNREACHED else CheckId.METADATA
        exam.checks.failure(check, trouble(answer, exam.issuer))
        return None
    if not answer.ok:
        exam.checks.failure(CheckId.METADATA, f"{status_words(answer.status)}: check fhir_base")
        return None
    try:
        statement = answer.json(LIMITS.max_bytes)
    except HttpError as error:
        exam.checks.failure(CheckId.METADATA, trouble(error, exam.issuer))
        return None
    if not isinstance(statement, dict) or statement.get("resourceType") != "CapabilityStatement":
        exam.checks.failure(CheckId.METADATA, "the answer is no CapabilityStatement: check fhir_base")
        return None
    return statement


class Declared:
    """What the statement says of the resource types."""

    def __init__(self, statement: Any) -> None:
        self._types: dict[str, Mapping[str, Any]] = {}
        for rest in _objects(statement, "rest"):
            for resource in _objects(rest, "resource"):
                self._types.setdefault(str(resource.get("type")), resource)

    def __bool__(self) -> bool:
        return bool(self._types)

    def interactions(self, type_: str) -> frozenset[str]:
        return frozenset(str(item.get("code")) for item in _objects(self._types.get(type_), "interaction"))

    def parameters(self, type_: str) -> frozenset[str]:
        return frozenset(str(item.get("name")) for item in _objects(self._types.get(type_), "searchParam"))

    def operations(self, type_: str) -> frozenset[str]:
        return frozenset(str(item.get("name")) for item in _objects(self._types.get(type_), "operation"))

    def says(self, type_: str, member: str) -> bool:
        """Whether a flag of that type is set."""
        return self._types.get(type_, {}).get(member) is True


def check_metadata(exam: Examination, statement: Any) -> Declared:
    """Everything the statement should say. It is a hint: the first real answer wins."""
    declared = Declared(statement)
    if statement is None:
        return declared
    exam.checks.ok(CheckId.METADATA, "the CapabilityStatement is there")
    _version(exam, statement)
    if not declared:
        exam.checks.failure(
            CheckId.METADATA_SEARCH, "no resource type is declared: is this the right address?"
        )
        return declared
    for line in exam.sheet.resources:
        if line.type == "ChargeItem":
            continue
        if "search" in line.interactions:
            _search(exam, declared, line)
        elif "read" in line.interactions:
            _read(exam, declared, line)
    _charge_item(exam, declared)
    return declared


def _version(exam: Examination, statement: Mapping[str, Any]) -> None:
    version = str(statement.get("fhirVersion", ""))
    if version.startswith("4.0"):
        exam.checks.ok(CheckId.FHIR_VERSION, "R4")
    elif version.startswith("4.3"):
        exam.checks.warning(CheckId.FHIR_VERSION, "R4B: the resources we use are as in R4; not tried with it")
    else:
        exam.checks.failure(
            CheckId.FHIR_VERSION,
            "this is no FHIR R4 base: take the R4 one (servers have one for each version)",
        )


def _search(exam: Examination, declared: Declared, line: ResourceLine) -> None:
    lost, required = without(line.type)
    tell = exam.checks.failure if required else exam.checks.warning
    if "search-type" not in declared.interactions(line.type):
        tell(CheckId.METADATA_SEARCH, f"no search is declared: {lost}", line.type)
        return
    names = declared.parameters(line.type)
    missing = [name for name in line.search_parameters if name not in names]
    if "patient" in missing and "subject" in names:
        missing.remove("patient")
    if "patient" in missing:
        tell(CheckId.METADATA_SEARCH, f"no search by patient is declared: {lost}", line.type)
    elif missing:
        exam.checks.warning(
            CheckId.METADATA_SEARCH,
            f"no search by {listed(missing)} is declared: the server may refuse it, or read more than is "
            "asked for",
            line.type,
        )
    else:
        exam.checks.ok(CheckId.METADATA_SEARCH, f"by {listed(line.search_parameters)}", line.type)


def _read(exam: Examination, declared: Declared, line: ResourceLine) -> None:
    lost, required = without(line.type)
    if "read" in declared.interactions(line.type):
        exam.checks.ok(CheckId.METADATA_READ, "can be read", line.type)
    else:
        tell = exam.checks.failure if required else exam.checks.warning
        tell(CheckId.METADATA_READ, f"no read is declared: {lost}", line.type)


def _charge_item(exam: Examination, declared: Declared) -> None:
    interactions = declared.interactions("ChargeItem")
    parameters = declared.parameters("ChargeItem")
    if "create" not in interactions:
        operation = exam.issuer.profile.charge_item is ChargeItemWrite.OWN_OPERATION or {
            "create",
            "$create",
        } & declared.operations("ChargeItem")
        how = " (only by an operation of its own)" if operation else ""
        exam.checks.warning(
            CheckId.CHARGE_CREATE,
            f"ChargeItem can't be created{how}: what is accepted leaves in another way that the site turned "
            "on, else it stands on the worksheet, from which a person enters it; ask the EHR's team whether "
            "create can be switched on",
        )
    else:
        exam.checks.ok(CheckId.CHARGE_CREATE, "ChargeItem can be created")
    if "search-type" not in interactions:
        exam.checks.warning(
            CheckId.CHARGE_SEARCH,
            "ChargeItem can't be searched: for every charge somebody must confirm that there is none yet, "
            "and a write without an answer is for a person to look up; ask the EHR's team for search by "
            "patient and identifier",
        )
    elif missing := [name for name in ("patient", "identifier") if name not in parameters]:
        exam.checks.warning(
            CheckId.CHARGE_SEARCH,
            f"no search by {listed(missing)} is declared: charges may not be found again; ask the EHR's "
            "team for it",
        )
    else:
        exam.checks.ok(CheckId.CHARGE_SEARCH, "by patient and identifier")
    if "create" in interactions:
        _once(exam, declared)
    if "update" in interactions:
        exam.checks.ok(CheckId.CHARGE_UPDATE, "ChargeItem can be updated")
    else:
        exam.checks.warning(
            CheckId.CHARGE_UPDATE,
            "ChargeItem can't be updated: a suggestion can't be corrected or taken back from here; ask the "
            "EHR's team for update, or do so in the EHR",
        )


def _once(exam: Examination, declared: Declared) -> None:
    """How a charge is written once."""
    if declared.says("ChargeItem", "conditionalCreate"):
        exam.checks.ok(CheckId.CHARGE_CONDITIONAL, "a create can be conditional")
    elif declared.says("ChargeItem", "updateCreate"):
        exam.checks.ok(CheckId.CHARGE_CONDITIONAL, "a charge is put under an id of ours instead")
    elif "search-type" in declared.interactions("ChargeItem"):
        exam.checks.warning(
            CheckId.CHARGE_CONDITIONAL,
            "a create can't be conditional: the app searches before it writes; if an answer is lost, the "
            "charge is looked up before it is ever sent again; ask the EHR's team for conditional create",
        )
    else:
        exam.checks.warning(
            CheckId.CHARGE_CONDITIONAL,
            "a create can't be conditional, and charges can't be looked up: only whoever confirms that there "
            "is none yet keeps a charge from being written twice; ask the EHR's team for conditional create",
        )


def _objects(parent: Any, key: str) -> Iterator[Mapping[str, Any]]:
    children = parent.get(key) if isinstance(parent, Mapping) else None
    yield from (
        child for child in (children if isinstance(children, list) else []) if isinstance(child, Mapping)
    )
