"""Which resource types the sandbox holds, and by which parameters they are searched (R4's definitions).

A parameter is a kind and the element paths it reads; a path walks through lists. The CapabilityStatement, the
index and the search all come from this one table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """The search parameter types this server knows."""

    DATE = "date"
    TOKEN = "token"  # noqa: S105 - FHIR's word for a coded value
    REFERENCE = "reference"
    STRING = "string"


@dataclass(frozen=True)
class Parameter:
    """One search parameter: element paths, and for a reference the types a bare id may mean."""

    kind: Kind
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()


def _date(*paths: str) -> Parameter:
    return Parameter(Kind.DATE, paths)


def _token(*paths: str) -> Parameter:
    return Parameter(Kind.TOKEN, paths)


def _string(*paths: str) -> Parameter:
    return Parameter(Kind.STRING, paths)


def _reference(path: str, *targets: str) -> Parameter:
    return Parameter(Kind.REFERENCE, (path,), targets)


def _patient(path: str) -> Parameter:
    return _reference(path, "Patient")


_EFFECTIVE = _date("effectiveDateTime", "effectivePeriod", "effectiveInstant", "effectiveTiming")
_OCCURRENCE = _date("occurrenceDateTime", "occurrencePeriod", "occurrenceTiming")
_IDENTIFIER = _token("identifier")
_STATUS = _token("status")
_CODE = _token("code")
_CATEGORY = _token("category")
_ENCOUNTER = _reference("encounter", "Encounter")
_SUBJECT = _patient("subject")

PARAMETERS: dict[str, dict[str, Parameter]] = {
    "Patient": {
        "identifier": _IDENTIFIER,
        "name": _string("name.text", "name.family", "name.given"),
        "family": _string("name.family"),
        "given": _string("name.given"),
        "birthdate": _date("birthDate"),
        "gender": _token("gender"),
    },
    "Observation": {
        "patient": _SUBJECT,
        "subject": _reference("subject", "Patient", "Device", "Group", "Location"),
        "category": _CATEGORY,
        "code": _CODE,
        "combo-code": _token("code", "component.code"),
        "component-code": _token("component.code"),
        "date": _EFFECTIVE,
        "device": _reference("device", "Device", "DeviceMetric"),
        "status": _STATUS,
        "encounter": _ENCOUNTER,
        "performer": _reference("performer", "Practitioner", "PractitionerRole", "Organization", "Patient"),
        "based-on": _reference("basedOn", "ServiceRequest", "CarePlan"),
        "has-member": _reference("hasMember", "Observation"),
        "derived-from": _reference("derivedFrom", "Observation"),
        "identifier": _IDENTIFIER,
        "method": _token("method"),
    },
    "Device": {
        "patient": _patient("patient"),
        "identifier": _IDENTIFIER,
        "type": _token("type"),
        "status": _STATUS,
        "manufacturer": _string("manufacturer"),
        "model": _string("modelNumber"),
        "device-name": _string("deviceName.name", "type.text", "type.coding.display"),
        "organization": _reference("owner", "Organization"),
        "udi-di": _string("udiCarrier.deviceIdentifier"),
    },
    "DeviceMetric": {
        "identifier": _IDENTIFIER,
        "type": _token("type"),
        "source": _reference("source", "Device"),
        "parent": _reference("parent", "Device"),
        "category": _CATEGORY,
    },
    "DeviceUseStatement": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "device": _reference("device", "Device"),
        "identifier": _IDENTIFIER,
    },
    "Encounter": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "date": _date("period"),
        "class": _token("class"),
        "type": _token("type"),
        "status": _STATUS,
        "participant": _reference("participant.individual", "Practitioner", "PractitionerRole"),
        "practitioner": _reference("participant.individual", "Practitioner"),
        "participant-type": _token("participant.type"),
        "service-provider": _reference("serviceProvider", "Organization"),
        "reason-code": _token("reasonCode"),
        "episode-of-care": _reference("episodeOfCare", "EpisodeOfCare"),
        "based-on": _reference("basedOn", "ServiceRequest"),
        "account": _reference("account", "Account"),
        "identifier": _IDENTIFIER,
    },
    "EpisodeOfCare": {
        "patient": _patient("patient"),
        "status": _STATUS,
        "type": _token("type"),
        "date": _date("period"),
        "care-manager": _reference("careManager", "Practitioner", "PractitionerRole"),
        "condition": _reference("diagnosis.condition", "Condition"),
        "organization": _reference("managingOrganization", "Organization"),
        "identifier": _IDENTIFIER,
    },
    "ChargeItem": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "context": _reference("context", "Encounter", "EpisodeOfCare"),
        "code": _CODE,
        "identifier": _IDENTIFIER,
        "occurrence": _OCCURRENCE,
        "entered-date": _date("enteredDate"),
        "account": _reference("account", "Account"),
        "enterer": _reference("enterer", "Practitioner", "PractitionerRole"),
        "performer-actor": _reference("performer.actor", "Practitioner", "PractitionerRole"),
        "service": _reference("service", "Observation"),
    },
    "Practitioner": {
        "identifier": _IDENTIFIER,
        "name": _string("name.text", "name.family", "name.given"),
        "family": _string("name.family"),
        "active": _token("active"),
    },
    "PractitionerRole": {
        "practitioner": _reference("practitioner", "Practitioner"),
        "organization": _reference("organization", "Organization"),
        "role": _CODE,
        "specialty": _token("specialty"),
        "active": _token("active"),
        "identifier": _IDENTIFIER,
    },
    "Organization": {"identifier": _IDENTIFIER, "name": _string("name"), "active": _token("active")},
    "Consent": {
        "patient": _patient("patient"),
        "status": _STATUS,
        "scope": _token("scope"),
        "category": _CATEGORY,
        "date": _date("dateTime"),
        "period": _date("provision.period"),
        "actor": _reference("provision.actor.reference", "Practitioner", "PractitionerRole", "Organization"),
        "identifier": _IDENTIFIER,
    },
    "ServiceRequest": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "code": _CODE,
        "category": _CATEGORY,
        "status": _STATUS,
        "intent": _token("intent"),
        "authored": _date("authoredOn"),
        "occurrence": _OCCURRENCE,
        "requester": _reference("requester", "Practitioner", "PractitionerRole"),
        "encounter": _ENCOUNTER,
        "identifier": _IDENTIFIER,
    },
    "CarePlan": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "category": _CATEGORY,
        "status": _STATUS,
        "intent": _token("intent"),
        "date": _date("period"),
        "encounter": _ENCOUNTER,
        "identifier": _IDENTIFIER,
    },
    "Condition": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "code": _CODE,
        "category": _CATEGORY,
        "clinical-status": _token("clinicalStatus"),
        "verification-status": _token("verificationStatus"),
        "onset-date": _date("onsetDateTime", "onsetPeriod"),
        "recorded-date": _date("recordedDate"),
        "encounter": _ENCOUNTER,
        "identifier": _IDENTIFIER,
    },
    "Procedure": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "status": _STATUS,
        "code": _CODE,
        "date": _date("performedDateTime", "performedPeriod"),
        "encounter": _ENCOUNTER,
        "identifier": _IDENTIFIER,
    },
    "Coverage": {
        "patient": _patient("beneficiary"),
        "beneficiary": _patient("beneficiary"),
        "status": _STATUS,
        "payor": _reference("payor", "Organization", "Patient"),
        "type": _token("type"),
        "identifier": _IDENTIFIER,
    },
    "Account": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "status": _STATUS,
        "type": _token("type"),
        "identifier": _IDENTIFIER,
        "owner": _reference("owner", "Organization"),
        "period": _date("servicePeriod"),
    },
    "Task": {
        "patient": _patient("for"),
        "subject": _reference("for", "Patient"),
        "code": _CODE,
        "status": _STATUS,
        "intent": _token("intent"),
        "owner": _reference("owner", "Organization", "Practitioner", "PractitionerRole"),
        "requester": _reference("requester", "Practitioner", "PractitionerRole", "Organization"),
        "focus": _reference("focus", "Encounter", "Account", "Patient", "ChargeItem"),
        "authored-on": _date("authoredOn"),
        "identifier": _IDENTIFIER,
    },
    "DocumentReference": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "type": _token("type"),
        "category": _CATEGORY,
        "status": _STATUS,
        "date": _date("date"),
        "author": _reference("author", "Practitioner", "PractitionerRole", "Organization"),
        "encounter": _reference("context.encounter", "Encounter"),
        "identifier": _token("masterIdentifier", "identifier"),
    },
    "Provenance": {
        "target": _reference(
            "target", *("ChargeItem", "Observation", "Encounter", "Task", "DocumentReference")
        ),
        "patient": _patient("target"),
        "agent": _reference("agent.who", "Practitioner", "PractitionerRole", "Device", "Organization"),
        "recorded": _date("recorded"),
        "entity": _reference("entity.what", "Observation", "Encounter"),
    },
    "Communication": {
        "patient": _SUBJECT,
        "subject": _SUBJECT,
        "status": _STATUS,
        "category": _CATEGORY,
        "medium": _token("medium"),
        "sent": _date("sent"),
        "received": _date("received"),
        "sender": _reference("sender", "Practitioner", "PractitionerRole", "Patient"),
        "recipient": _reference("recipient", "Practitioner", "PractitionerRole", "Patient"),
        "encounter": _ENCOUNTER,
        "identifier": _IDENTIFIER,
    },
    "Appointment": {
        "patient": _patient("participant.actor"),
        "status": _STATUS,
        "date": _date("start"),
        "service-type": _token("serviceType"),
        "identifier": _IDENTIFIER,
    },
}

#: Where a resource says whose it is; a type that is missing here belongs to no patient.
PATIENT_PATH = {
    "Observation": "subject",
    "Device": "patient",
    "DeviceUseStatement": "subject",
    "Encounter": "subject",
    "EpisodeOfCare": "patient",
    "ChargeItem": "subject",
    "Consent": "patient",
    "ServiceRequest": "subject",
    "CarePlan": "subject",
    "Condition": "subject",
    "Procedure": "subject",
    "Coverage": "beneficiary",
    "Account": "subject",
    "Communication": "subject",
    "Task": "for",
    "DocumentReference": "subject",
    "Appointment": "participant.actor",
}

#: Where a resource without a patient of its own points to one that has: its patient is theirs.
PATIENT_THROUGH = {"DeviceMetric": "source", "Provenance": "target"}

#: Types about no patient; a patient-level scope reads them like a user-level one.
SHARED_TYPES = frozenset({"Practitioner", "PractitionerRole", "Organization"})


def elements(resource: Any, path: str) -> list[Any]:
    """Every value at a dotted path of a resource; lists are walked, what isn't there is left out."""
    head, _, rest = path.partition(".")
    found = resource.get(head) if isinstance(resource, dict) else None
    if found is None:
        return []
    values = found if isinstance(found, list) else [found]
    return [value for item in values for value in elements(item, rest)] if rest else values
