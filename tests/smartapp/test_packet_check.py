"""`smartapp packet check`: a packet decides itself again, and whatever was altered in it is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from smartapp.commands import packet_check
from smartapp.commands.packet import NOT_ALL, run
from smartapp.ehr.charges.digests import digest_of, digests_of
from smartapp.ehr.charges.evidence import evidence_document
from smartapp.store.charges import Charge, Enrolment
from smartapp.store.claims import ChargeState
from tests.support.chart import build_resources
from tests.support.evaluation import Case, read_cases
from tests.support.filled_store import content_of
from tests.support.packets import NEW_YORK, findings_of, own_of, packet_of, site_of, stored, told

CASES = Path(__file__).parent.parent / "cases"
AS_OF = date(2026, 5, 1)
DEVICE, MINUTES = "98985-2026-03-01", "98980-2026-03-01"
GIVEN: list[dict[str, Any]] = [
    {"patient": {}},
    {"days": {"of": "HEP", "from": "2026-03-01", "count": 4}},
    {
        "days": {
            "of": "HEP",
            "from": "2026-03-20",
            "count": 1,
            "id": "no",
            "raw": {"status": "entered-in-error"},
        }
    },
    {"call": {"at": "2026-03-10T10:00", "for": "12:00", "by": "physician", "program": "rtm", "id": "call"}},
    {"review": {"at": "2026-03-12T10:00", "for": "9:00", "by": "physician", "program": "rtm", "id": "look"}},
]
STATED = ({"statement": "order", "codes": ["98985"]},)
ANCHOR = {
    "issuer_id": "ehr",
    "patient": "p1",
    "program": "rtm",
    "anchor_day": "2026-03-01",
    "source": "accepted-charge",
    "confirmed_by": "Practitioner/biller",
    "confirmed_at": "2026-05-01T12:00:00Z",
    "frozen": True,
}


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The packets of a device charge and of a charge of minutes."""
    site = site_of(tmp_path_factory.mktemp("site"))
    enrolled = Enrolment(
        "ehr",
        "p1",
        "rtm",
        date(2026, 3, 1),
        "set-up",
        "Practitioner/biller",
        datetime(2026, 4, 1, tzinfo=UTC),
        False,
    )
    return {
        key: packet_of(GIVEN, key, site, AS_OF, stated=STATED, enrolments={"rtm": enrolled}, **more)
        for key, more in ((DEVICE, {"anchor": ANCHOR}), (MINUTES, {"anchor": None}))
    }


Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """The exit status and what is said of a packet."""

    def checked(packet: bytes | dict[str, Any], *options: str) -> tuple[int, str]:
        file = tmp_path / "packet.json"
        file.write_bytes(packet if isinstance(packet, bytes) else json.dumps(packet).encode())
        status = run(["check", str(file), *options])
        out = capsys.readouterr()
        assert "Traceback" not in out.err
        return status, out.out + out.err

    return checked


def record_in(packet: dict[str, Any], name: str) -> dict[str, Any]:
    evidence = packet["evidence"]
    return next(one for one in (*evidence["records"], *evidence["others"]) if one["reference"] == name)


def failures(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("failure")]


@pytest.mark.parametrize("key", [DEVICE, MINUTES])
def test_a_packet_as_it_was_written_decides_the_same_again(packets, check, key):
    status, said = check(packets[key], "--sha256", hashlib.sha256(packets[key]).hexdigest())
    assert (status, failures(said)) == (0, [])
    assert "byte for byte" in said
    assert "Decided again from it alone: the same." in said
    assert "The tables are those by which it was decided." in said


def test_it_is_the_same_packet_however_its_json_is_spaced(packets, check):
    assert check(json.dumps(told(packets[DEVICE]), indent=4, sort_keys=True).encode())[0] == 0


def test_a_record_that_was_left_out_is_in_it_with_why(packets):
    evidence = told(packets[DEVICE])["evidence"]
    (left_out,) = [one for one in evidence["left_out"] if one["reason"] == "entered-in-error"]
    assert record_in(told(packets[DEVICE]), left_out["resource"])["resource"]["status"] == "entered-in-error"


def test_an_altered_reading_is_named_with_what_it_changes(packets, check):
    packet = told(packets[DEVICE])
    name = packet["evidence"]["decision"]["requirements"][0]["evidence"][2]
    reading = record_in(packet, name)["resource"]
    reading["effectiveDateTime"] = reading["effectiveDateTime"].replace("2026-03-03", "2026-03-02")
    status, said = check(packet)
    assert status == 1
    assert f"PACKET-RECORD: Altered: {name}, version" in said
    assert "now of 2 Mar 2026" in said
    assert f"counted then and not now: {name}" in said
    assert "4 days found of 2 days needed then, 3 days of 2 days now" in said


def test_a_reading_whose_value_alone_was_altered_is_named_though_the_answer_is_the_same(packets, check):
    packet = told(packets[DEVICE])
    name = packet["evidence"]["decision"]["requirements"][0]["evidence"][0]
    record_in(packet, name)["resource"]["valueQuantity"] = {"value": 999}
    status, said = check(packet)
    assert status == 1
    assert [name in line and "PACKET-RECORD" in line for line in failures(said)] == [True]


def test_an_altered_span_is_named_with_the_minutes_it_changes(packets, check):
    packet = told(packets[MINUTES])
    call = record_in(packet, "Encounter/call")["resource"]
    shorter = json.dumps(call).replace("T10:12:00", "T10:11:00")
    call.clear()
    call.update(json.loads(shorter))
    status, said = check(packet)
    assert status == 1
    assert "Altered: Encounter/call, version" in said
    assert "21 minutes found of 20 minutes needed then, 20 minutes of 20 minutes now" in said


def test_an_altered_statement_is_named_with_what_has_to_be_confirmed_then(packets, check):
    packet = told(packets[DEVICE])
    packet["evidence"]["attestations"][0]["statement"] = "fda-device"
    status, said = check(packet)
    assert status == 1
    assert "Altered: what was stated for the patient (evidence.attestations)" in said
    assert "unverified was" in said


def test_an_altered_record_that_was_left_out_is_named_as_that(packets, check):
    packet = told(packets[DEVICE])
    (left_out,) = [one for one in packet["evidence"]["left_out"] if one["reason"] == "entered-in-error"]
    record_in(packet, left_out["resource"])["resource"]["status"] = "final"
    status, said = check(packet)
    assert status == 1
    assert f"Altered: {left_out['resource']}" in said
    assert "which was left out" in said
    assert "not left out now" in said
    assert "5 days of 2 days now" in said


def test_an_altered_anchor_is_named_and_its_periods_do_not_fit(packets, check):
    packet = told(packets[DEVICE])
    packet["anchor"]["anchor_day"] = "2026-02-27"
    status, said = check(packet)
    assert status == 1
    assert "Altered: where the 30-day periods begin (anchor)" in said
    assert "Periods that begin on 27 Feb 2026 hold none that begins on 1 Mar 2026." in said


def test_an_altered_anchor_of_what_was_decided_from_changes_the_answer(packets, check):
    packet = told(packets[DEVICE])
    packet["evidence"]["basis"]["anchors"]["rtm"] = "2026-02-20"
    status, said = check(packet)
    assert status == 1
    assert "(evidence.basis)" in said
    assert "is not decided at all any more" in said


@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (lambda p: p["snapshot"].update(sha256="1" * 64), "the digest of what was read (snapshot)"),
        (lambda p: p["digests"].update(written="1" * 64), "what was sent (written)"),
        (lambda p: p.update(confirmed_by="Practitioner/other"), "who confirmed it (confirmed_by)"),
        (lambda p: p["digests"].pop("anchor"), "where the 30-day periods begin (anchor)"),
        (lambda p: p["evidence"]["others"].pop(), "which records were held beside them (evidence.others)"),
    ],
)
def test_an_altered_digest_name_or_list_is_named(packets, check, alter, named):
    packet = told(packets[DEVICE])
    alter(packet)
    status, said = check(packet)
    assert status == 1
    assert named in said


def test_who_alters_a_record_with_all_its_digests_is_found_by_the_answer_and_by_the_trail(packets, check):
    packet = told(packets[DEVICE])
    name = packet["evidence"]["decision"]["requirements"][0]["evidence"][0]
    row = record_in(packet, name)
    row["resource"]["status"] = "entered-in-error"
    row["sha256"] = digest_of(json.dumps(row["resource"]).encode())
    packet["digests"] = digests_of(json.dumps(packet).encode())
    status, said = check(packet, "--sha256", hashlib.sha256(packets[DEVICE]).hexdigest())
    assert status == 1
    assert "Every part of it is what was written." in said
    assert "which is not that of what was written" in said
    assert f"counted then and not now: {name}" in said


def test_what_was_sent_must_say_what_was_decided(packets, check):
    packet = told(packets[DEVICE])
    packet["written"]["quantity"]["value"] = 2
    assert "What was sent says 98985, quantity 2; decided was 98985, quantity 1." in check(packet)[1]


def test_a_record_that_it_rests_on_and_does_not_hold_is_named(packets, check):
    packet = told(packets[DEVICE])
    gone = packet["evidence"]["records"].pop(0)
    assert f"It rests on what it does not hold: {gone['reference']}" in check(packet)[1]


def test_after_an_upgrade_it_names_the_table_that_changed(packets, check, monkeypatch):
    status, said = check(told(packets[DEVICE]))
    assert status == 0
    monkeypatch.setattr(packet_check, "changed_tables", lambda before: ("rules/codes/98985.yaml",))
    status, said = check(told(packets[DEVICE]))
    assert (status, failures(said)) == (0, [])
    assert "tables that have changed since: rules/codes/98985.yaml" in said
    packet = told(packets[DEVICE])
    record_in(packet, packet["evidence"]["decision"]["requirements"][0]["evidence"][0])["resource"][
        "status"
    ] = "preliminary"
    assert "The tables named above have changed since." in check(packet)[1]


def test_a_digest_of_another_table_is_a_table_that_changed(packets, check):
    packet = told(packets[DEVICE])
    packet["evidence"]["basis"]["tables"]["rules/codes/98977.yaml"] = "1" * 64
    packet["evidence"]["basis"]["tables"]["rules/codes/gone.yaml"] = "2" * 64
    said = check(packet)[1]
    assert "changed since: rules/codes/98977.yaml and rules/codes/gone.yaml." in said


def test_a_packet_from_before_stays_readable_and_says_what_cannot_be_checked(packets, check):
    packet = told(packets[DEVICE])
    del packet["digests"]
    for name in ("basis", "others", "left_out", "not_held", "decided_again", "patient"):
        del packet["evidence"][name]
    for one in packet["evidence"]["records"]:
        del one["sha256"]
    status, said = check(packet)
    assert (status, failures(said)) == (NOT_ALL, [])
    assert "cannot be checked" in said
    assert "Every record that it rests on is in it." in said
    assert "Its period follows from the anchor" in said


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"not json", b'{"evidence": []}', b"[" * 200_000, b"\xff"]
)
def test_a_file_that_is_no_packet_is_one_line(check, content):
    status, said = check(content)
    assert status == 2
    assert "no packet that `smartapp packet export` wrote" in said
    assert said.count("\n") == 1


def test_the_answer_as_json_has_the_same_checks(packets, check):
    status, said = check(packets[MINUTES], "--json")
    answer = json.loads(said)
    assert status == answer["counts"]["failure"] == 0
    assert {"PACKET-RECORD", "PACKET-DECISION"} <= {one["id"] for one in answer["checks"]}


def test_a_charge_that_was_handed_over_otherwise_is_decided_with_again(tmp_path):
    """Its base was entered in billing by hand: without that the add-on would not stand beside a charge."""
    site, more = site_of(tmp_path), {"at": "2026-03-15T10:00", "by": "physician", "program": "rtm"}
    resources = stored(build_resources([*GIVEN, {"review": {**more, "for": "30:00"}}], NEW_YORK))
    base = {
        "resourceType": "ChargeItem",
        "status": "planned",
        "subject": {"reference": "Patient/p1"},
        "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98980"}]},
        "occurrencePeriod": {"start": "2026-03-01", "end": "2026-03-31"},
        "quantity": {"value": 1},
    }
    own = replace(own_of("p1", site.zone, ()), handed=(handed(base),))
    findings = findings_of(resources, site, AS_OF, own=own)
    for key in ("98980-2026-03-01", "98981-2026-03-01"):
        decision = findings.decision(key)
        assert decision is not None
        document = told(evidence_document(decision, findings, resources, site))
        assert document["decided_again"] is True
        assert document["basis"]["handed"]
    assert findings.decision("98980-2026-03-01").outcome == "charged"


def handed(resource: dict[str, Any]) -> Charge:
    now = datetime(2026, 4, 2, tzinfo=UTC)
    content = content_of(
        "98980-2026-03-01",
        date(2036, 4, 1),
        resource=resource,
        confirmed_by="Practitioner/biller",
        session_id="s",
        snapshot_id="n",
    )
    return Charge("urn:x|key", "ehr", "p1", "98980", ChargeState.HANDED_OVER, None, None, now, content)


def decidable(case: Case) -> bool:
    patients = {str(event["patient"].get("id", "p1")) for event in case.given if event.get("patient")}
    return (
        not case.options
        and case.timezone is not None
        and patients <= {"p1"}
        and "suggest" in str(case.expect)
    )


@pytest.mark.parametrize("case", list(islice(filter(decidable, read_cases(CASES)), 0, None, 9)), ids=str)
def test_what_a_worked_case_suggests_decides_itself_again_from_its_packet(case, tmp_path):
    site, as_of = site_of(tmp_path, case), date.fromisoformat(case.as_of)
    resources = stored(build_resources(case.given, case.timezone or NEW_YORK))
    own = own_of("p1", site.zone, case.attestations)
    findings = findings_of(resources, site, as_of, own=own)
    suggested = [one for one in findings.assessment.decisions if one.outcome == "suggest"]
    for decision in suggested:
        assert told(evidence_document(decision, findings, resources, site))["decided_again"] is True
