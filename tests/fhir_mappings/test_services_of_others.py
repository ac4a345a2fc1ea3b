"""Services of others, however an EHR or a payer writes their numbers (D11, D12, D36)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from fhir_mappings.record import PatientRecord

Resource = dict[str, Any]
Read = Callable[..., PatientRecord]

CPT = "http://www.ama-assn.org/go/cpt"
HCPCS = "http://www.cms.gov/Medicare/Coding/HCPCSReleaseCodeSets"
DAY = date(2026, 3, 10)


def coded(system: str | None, code: str) -> Resource:
    return {"coding": [{"code": code} if system is None else {"system": system, "code": code}]}


def charged(code: Resource, **more: Any) -> Resource:
    return {
        "resourceType": "ChargeItem",
        "id": "c1",
        "status": "billed",
        "code": code,
        "subject": {"reference": "Patient/p1"},
        "occurrenceDateTime": "2026-03-10",
        "performer": [{"actor": {"reference": "Practitioner/md"}}],
        **more,
    }


def claimed(code: Resource) -> Resource:
    return {
        "resourceType": "Claim",
        "id": "c1",
        "status": "active",
        "use": "claim",
        "patient": {"reference": "Patient/p1"},
        "provider": {"reference": "Practitioner/md"},
        "item": [{"sequence": 1, "productOrService": code, "servicedDate": "2026-03-10"}],
    }


def encounter(code: Resource) -> Resource:
    return {
        "resourceType": "Encounter",
        "id": "e1",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "type": [code],
        "subject": {"reference": "Patient/p1"},
        "participant": [{"individual": {"reference": "Practitioner/md"}}],
        "period": {"start": "2026-03-10T15:00:00-04:00", "end": "2026-03-10T15:20:00-04:00"},
    }


WRITTEN = [
    (CPT, "99213"),
    (CPT, "99213-25"),
    (CPT, "99213 25"),
    (CPT, "CPT-99213"),
    (HCPCS, "99213"),
    (HCPCS, "99213:95"),
    (None, "99213"),
    (HCPCS, "G0463"),
    (CPT, "99284"),
    (CPT, "99308"),
]


@pytest.mark.parametrize(("system", "code"), [*WRITTEN, ("urn:clinic:charge-master", "99213-25")])
@pytest.mark.parametrize("paper", [charged, claimed])
def test_a_visit_that_was_charged_is_one_however_its_number_is_written(
    paper: Callable[[Resource], Resource], system: str | None, code: str, read: Read
) -> None:
    (visit,) = read(paper(coded(system, code))).visits
    assert (visit.days, visit.people) == ((DAY,), {"Practitioner/md"})


@pytest.mark.parametrize(
    "code",
    [
        {"text": "Office visit 99213"},
        {"coding": [{"system": "urn:clinic:charge-master", "code": "VIS3", "display": "99213-25"}]},
    ],
)
def test_a_charge_may_say_in_words_that_it_is_for_a_visit(code: Resource, read: Read) -> None:
    (visit,) = read(charged(code)).visits
    assert visit.days == (DAY,)


def test_a_charge_may_say_it_in_an_extension(read: Read) -> None:
    extension = [{"url": "urn:ehr:procedure-code", "valueCodeableConcept": coded(CPT, "99213")}]
    code = coded("urn:clinic:charge-master", "64897")
    assert [visit.days for visit in read(charged(code, extension=extension)).visits] == [(DAY,)]


@pytest.mark.parametrize(
    "code",
    [
        {"coding": [{"system": CPT, "code": "98980", "display": "after the visit 99213"}]},
        coded(CPT, "9921325"),
        coded("http://snomed.info/sct", "992132009"),
        {"text": "order 10-99213-1.5"},
    ],
)
def test_our_own_charge_and_a_number_within_something_else_are_no_visit(code: Resource, read: Read) -> None:
    assert read(charged(code)).visits == ()


@pytest.mark.parametrize(("system", "code"), WRITTEN)
def test_an_encounter_that_is_a_visit_gives_no_minutes_however_its_number_is_written(
    system: str | None, code: str, read: Read
) -> None:
    record = read(encounter(coded(system, code)))
    assert [visit.days for visit in record.visits] == [(DAY,)]
    assert (record.management, record.contacts) == ((), ())
    assert [entry.reason for entry in record.excluded] == ["billed-elsewhere"]


@pytest.mark.parametrize(("system", "code"), [(CPT, "99490"), (HCPCS, "99490"), (CPT, "99490-25")])
def test_minutes_of_care_management_are_used_up_however_its_number_is_written(
    system: str, code: str, read: Read
) -> None:
    record = read(encounter(coded(system, code)))
    assert (record.management, len(record.used_time)) == ((), 1)


@pytest.mark.parametrize("code", ["97110", "97110-GP", "97530", "90837"])
def test_a_therapists_session_over_video_is_its_own_service_and_no_talk_about_monitoring(
    code: str, read: Read
) -> None:
    record = read(encounter(coded(CPT, code)))
    assert (record.management, record.contacts, len(record.used_time)) == ((), (), 1)


@pytest.mark.parametrize("system", [CPT, HCPCS, None])
@pytest.mark.parametrize("code", ["27447", "27447-RT"])
@pytest.mark.parametrize("paper", [charged, claimed])
def test_a_surgery_that_was_charged_is_one_under_either_address(
    paper: Callable[[Resource], Resource], code: str, system: str | None, read: Read
) -> None:
    (surgery,) = read(paper(coded(system, code))).surgeries
    assert surgery.days is not None
    assert surgery.days.start == DAY


def test_a_surgery_may_stand_in_the_extension_of_a_charge(read: Read) -> None:
    extension = [{"url": "urn:ehr:procedure-code", "valueCodeableConcept": coded(CPT, "27447")}]
    number_of_the_clinic = coded("urn:clinic:charge-master", "64897")
    assert len(read(charged(number_of_the_clinic, extension=extension)).surgeries) == 1
    assert read(charged(number_of_the_clinic)).surgeries == ()


@pytest.mark.parametrize(("system", "expected"), [(CPT, 1), (HCPCS, 1)])
def test_a_procedure_under_either_address_is_judged_by_its_number(
    system: str, expected: int, read: Read
) -> None:
    def done(code: str) -> Resource:
        return {
            "resourceType": "Procedure",
            "id": "p",
            "status": "completed",
            "subject": {"reference": "Patient/p1"},
            "code": coded(system, code),
            "performedDateTime": "2026-03-10",
        }

    assert len(read(done("27447")).surgeries) == expected
    assert read(done("97110")).surgeries == ()


def named_as(role: Resource, who: str) -> tuple[Resource, Resource]:
    """As a performer of a charge, and as a member of a claim's care team."""
    reference = {"reference": f"Practitioner/{who}"}
    return {"function": role, "actor": reference}, {"role": role, "provider": reference}


CARE_TEAM = "http://hl7.org/fhir/us/carin-bb/CodeSystem/C4BBClaimCareTeamRole"


@pytest.mark.parametrize(
    "sent",
    [
        coded(CARE_TEAM, "referring"),
        coded(CARE_TEAM, "pcp"),
        coded("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "REF"),
    ],
)
def test_a_visit_that_is_charged_is_not_of_whoever_sent_the_patient_there(sent: Resource, read: Read) -> None:
    seen = coded(CARE_TEAM, "rendering")
    performers, team = zip(named_as(sent, "ours"), named_as(seen, "theirs"), strict=True)
    (visit,) = read(charged(coded(CPT, "99213"), performer=list(performers))).visits
    assert visit.people == {"Practitioner/theirs"}
    (visit,) = read({**claimed(coded(CPT, "99213")), "provider": None, "careTeam": list(team)}).visits
    assert visit.people == {"Practitioner/theirs"}
    (visit,) = read(charged(coded(CPT, "99213"), performer=[performers[0]])).visits
    assert (visit.people, visit.unnamed) == (frozenset(), True)
