"""DFT messages: what an independent reader finds in them, and what is true after each answer of an engine."""

from __future__ import annotations

import socket
import stat
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import get_type_hints

import pytest
from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.parser import parse_message

from launch.http import Limits
from smartapp.configuration.handover import DftWay, HandoverEntry, HandoverSettings, Mllp
from smartapp.ehr.charges.workflow import Holds
from smartapp.ehr.handover.dft import DftHandover, put_in_place
from smartapp.ehr.handover.hl7 import CHARGE, CREDIT, acknowledgement, control_id, dft
from smartapp.ehr.handover.line import ChargeLine, Diagnosed, PersonId
from smartapp.ehr.handover.mllp import send_message
from smartapp.ehr.wire.sending import Fate
from smartapp.store.claims import ChargeState
from tests.smartapp.test_handover import NO_CHARGE_ITEM, PATIENT, accepted, decisions, line, outcome_of, rows
from tests.support.mllp import listening

KEY = "0123456789abcdef0123456789abcdef01234567"
AT = datetime(2026, 4, 1, 9, 30, tzinfo=UTC)
WAY = DftWay(folder="/", receiving_application="BILLING", assigning_authority="HOSP")
HOSTILE = "O'Neil|^~\\&\r\nFT1|2||x"
LIMITS = Limits(connect=5, read=5, total=5)


def message_of(kind=CHARGE, **more):
    told = {
        "key": KEY,
        "performing_id": PersonId("1234567893", "syn-therapist"),
        "ordering": "Synthetic Physician",
        "ordering_id": PersonId("", "syn-physician"),
        "visit": "enc-7",
        "modifiers": ("GP", "KX"),
    }
    return dft(line(**(told | more)), WAY, kind, AT)


def read(message):
    """By the independent reader, as strictly as it can."""
    parsed = parse_message(
        message.decode(), validation_level=VALIDATION_LEVEL.STRICT, find_groups=True, force_validation=True
    )
    assert parsed.validate()
    return parsed


def test_an_independent_reader_finds_every_field_where_the_standard_has_it():
    parsed = read(message_of())
    assert parsed.msh.msh_9.to_er7() == "DFT^P03^DFT_P03"
    assert parsed.msh.msh_10.to_er7() == control_id(KEY, CHARGE)
    assert len(control_id(KEY, CHARGE)) <= 20
    assert parsed.msh.msh_12.to_er7() == "2.5.1"
    assert parsed.pid.pid_3.to_er7() == "MRN-1^^^HOSP^MR"
    assert parsed.pid.pid_7.to_er7() == "19500101"
    ft1 = parsed.dft_p03_financial.ft1
    told = {name: getattr(ft1, f"ft1_{name}").to_er7() for name in (2, 4, 6, 7, 10, 19, 20, 21, 25)}
    assert told == {
        2: KEY[:12],
        4: "20260301",
        6: "CG",
        7: "98977^^C4",
        10: "1",
        19: "M17.11^^I10",
        20: "1234567893^Synthetic Therapist^^^^^^^NPI^^^^NPI",
        21: "syn-physician^Synthetic Physician",
        25: "98977^^C4",
    }
    assert [one.to_er7() for one in ft1.ft1_26] == ["GP", "KX"]


def test_a_credit_bears_the_number_of_its_charge_and_another_of_its_own_as_message():
    charge, credit = read(message_of()), read(message_of(CREDIT))
    ft1 = [one.dft_p03_financial.ft1 for one in (charge, credit)]
    assert ft1[0].ft1_2.to_er7() == ft1[1].ft1_2.to_er7()
    assert [one.ft1_6.to_er7() for one in ft1] == ["CG", "CR"]
    assert charge.msh.msh_10.to_er7() != credit.msh.msh_10.to_er7()


HOSTILE_LINES = {
    **{name: HOSTILE for name, type_ in get_type_hints(ChargeLine).items() if type_ is str and name != "key"},
    "modifiers": (HOSTILE,),
    "diagnoses": (Diagnosed("http://hl7.org/fhir/sid/icd-10-cm", HOSTILE),),
    "performing_id": PersonId(HOSTILE, HOSTILE),
    "ordering_id": PersonId("", HOSTILE),
}
"""Everything in a charge that is a text, but for its key, which is our own."""


@pytest.mark.parametrize("field", HOSTILE_LINES)
def test_no_text_of_a_chart_begins_a_field_or_a_segment(field):
    message = message_of(**{field: HOSTILE_LINES[field]})
    assert [one.split("|")[0] for one in message.decode().split("\r")] == [
        "MSH",
        "EVN",
        "PID",
        "PV1",
        "FT1",
        "",
    ]
    assert message.count(b"FT1|") == 1
    # Hostile numbers are longer than the standard lets a number be; it is the structure that is held here.
    parse_message(message.decode(), find_groups=True)


@pytest.mark.parametrize(
    ("born", "told"),
    [
        ("1950-01-31", "19500131"),
        ("1950-01", "195001"),
        ("1950", "1950"),
        ("about 1950", ""),
        ("", ""),
        ("1950-01-01\rFT1|2|x", ""),
    ],
)
def test_a_day_of_birth_is_a_date_or_nothing(born, told):
    assert read(message_of(birth_date=born)).pid.pid_7.to_er7() == told


def test_several_diagnoses_repeat_and_other_systems_than_icd_10_cm_stay_out():
    icd = "http://hl7.org/fhir/sid/icd-10-cm"
    found = (Diagnosed(icd, "M17.11"), Diagnosed("http://snomed.info/sct", "1"), Diagnosed(icd, "Z96.651"))
    ft1 = read(message_of(diagnoses=found)).dft_p03_financial.ft1
    assert [one.to_er7() for one in ft1.ft1_19] == ["M17.11^^I10", "Z96.651^^I10"]


# The wire


@pytest.mark.parametrize(
    ("behaves", "fate", "arrived"),
    [
        ("accept", Fate.TAKEN, 1),
        ("reject", Fate.REFUSED, 1),
        ("error", Fate.REFUSED, 1),
        ("stranger", Fate.IN_DOUBT, 1),
        ("garbage", Fate.IN_DOUBT, 1),
        ("drop", Fate.IN_DOUBT, 1),
        ("deaf", Fate.IN_DOUBT, 0),
    ],
)
def test_what_an_acknowledgement_means_and_that_no_message_goes_twice(behaves, fate, arrived):
    with listening(behaves) as engine:
        way = Mllp("127.0.0.1", engine.port, tls=False)
        sent = send_message(way, message_of(), control_id(KEY, CHARGE), LIMITS)
        assert sent.fate is fate
        assert len(engine.received) == arrived
        assert (sent.problem == "") is (fate is Fate.TAKEN)
        assert "Synthetic" not in sent.problem, "no name in what is told"


def test_an_engine_that_hangs_is_in_doubt_when_the_time_is_up():
    with listening("hang") as engine:
        way = Mllp("127.0.0.1", engine.port, tls=False)
        limits = Limits(connect=5, read=0.2, total=0.2)
        assert send_message(way, message_of(), control_id(KEY, CHARGE), limits).fate is Fate.IN_DOUBT


def test_where_nobody_listens_nothing_left():
    with listening() as engine:
        port = engine.port
    sent = send_message(Mllp("127.0.0.1", port, tls=False), message_of(), "x", LIMITS)
    assert sent.fate is Fate.REFUSED


@pytest.mark.parametrize(("refusals", "fate"), [(2, Fate.TAKEN), (3, Fate.REFUSED)])
def test_a_connection_is_tried_again_since_nothing_has_left_yet_and_the_message_goes_once(
    monkeypatch, refusals, fate
):
    usual, left = socket.create_connection, [ConnectionRefusedError()] * refusals

    def connect(*arguments, **more):
        if left:
            raise left.pop()
        return usual(*arguments, **more)

    monkeypatch.setattr("smartapp.ehr.handover.mllp.PAUSES", (0, 0))
    monkeypatch.setattr("smartapp.ehr.handover.mllp.socket.create_connection", connect)
    with listening() as engine:
        sent = send_message(
            Mllp("127.0.0.1", engine.port, tls=False), message_of(), control_id(KEY, CHARGE), LIMITS
        )
        assert sent.fate is fate
        assert len(engine.received) == (fate is Fate.TAKEN)


def test_an_engine_that_speaks_no_tls_gets_no_byte_of_the_message():
    with listening() as engine:
        sent = send_message(
            Mllp("127.0.0.1", engine.port), message_of(), "x", Limits(connect=1, read=1, total=1)
        )
        assert sent.fate is Fate.REFUSED
        assert engine.received == []


@pytest.mark.parametrize(
    "host",
    [
        "engine.example",
        "8.8.8.8",
        "::ffff:8.8.8.8",
        "169.254.169.254",
        "fd00:ec2::254",
        "100.64.0.1",
        "0.0.0.0",
        "fe80::1",
    ],
)
def test_without_tls_only_a_private_address_is_taken(host):
    with pytest.raises(ValueError, match="TLS"):
        Mllp(host, 2575, tls=False)
    assert Mllp("10.1.2.3", 2575, tls=False)
    assert Mllp(host, 2575)


@pytest.mark.parametrize("more", [{}, {"folder": "/x", "mllp": Mllp("10.0.0.1", 1)}])
def test_messages_go_one_way_or_the_other(more):
    with pytest.raises(ValueError, match="not both"):
        DftWay(**more)


@pytest.mark.parametrize("answer", [b"", b"MSA", b"MSA|AA", b"\xff\xfe", b"MSH|\rMSA|XX|n", b"MSA|AA|other"])
def test_an_answer_that_does_not_speak_of_the_message_says_nothing(answer):
    assert acknowledgement(answer, "n").taken is None


# The folder


def handed(way):
    settings = HandoverSettings((HandoverEntry(dft=way),))
    clock = SimpleNamespace(now=lambda: AT)
    return DftHandover(settings, LIMITS, clock)


def row_of(message=b"MSH|x"):
    return SimpleNamespace(
        identifier=f"urn:smart-remote-monitoring:charge|{KEY}",
        issuer_id="sandbox",
        content=SimpleNamespace(leaving=SimpleNamespace(body=message)),
    )


def test_a_file_is_whole_its_owners_alone_and_renamed_in_place(tmp_path):
    put_in_place(tmp_path, "c1", b"whole")
    (file,) = tmp_path.iterdir()
    assert file.name == "c1.hl7"
    assert file.read_bytes() == b"whole"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("laid", ["a link", "a file that all may read"])
def test_a_message_is_not_written_into_what_somebody_else_laid_in_its_place(tmp_path, laid):
    theirs, place = tmp_path / "theirs", tmp_path / "messages" / ".c1.part"
    theirs.write_bytes(b"theirs")
    place.parent.mkdir()
    if laid == "a link":
        place.symlink_to(theirs)
    else:
        place.hardlink_to(theirs)
        place.chmod(0o666)
    put_in_place(place.parent, "c1", b"whole")
    assert theirs.read_bytes() == b"theirs"
    (file,) = place.parent.iterdir()
    assert (file.name, file.read_bytes()) == ("c1.hl7", b"whole")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_became_of_a_file_is_told_by_the_folder_or_not_at_all(tmp_path):
    way, row = handed(DftWay(folder=str(tmp_path))), row_of()
    assert way.find(None, row).holds is Holds.UNSURE, "an engine may have taken it"
    (tmp_path / f".{control_id(KEY, CHARGE)}.part").write_bytes(b"half")
    assert way.find(None, row).holds is Holds.NOT_YET, "it never got its name"
    assert way.deliver(None, row).fate is Fate.TAKEN
    assert way.find(None, row).holds is Holds.OURS
    (tmp_path / f"{control_id(KEY, CHARGE)}.hl7").unlink()
    assert way.find(None, row).holds is Holds.UNSURE


def test_a_folder_that_is_full_or_gone_is_a_refusal_and_leaves_no_message(tmp_path):
    sent = handed(DftWay(folder=str(tmp_path / "gone"))).deliver(None, row_of())
    assert sent.fate is Fate.REFUSED
    assert list(tmp_path.iterdir()) == []


def test_over_mllp_nobody_can_be_asked():
    way = handed(DftWay(mllp=Mllp("127.0.0.1", 1, tls=False)))
    assert way.find(None, row_of()).holds is Holds.UNSURE
    assert way.is_taken_back(None, row_of()) is None


# The whole way


def test_a_message_without_an_acknowledgement_is_unknown_and_never_sent_again(make_world, browser):
    with listening("drop") as engine:
        more = f"handover: [{{dft: {{mllp: {{host: 127.0.0.1, port: {engine.port}, tls: false}}}}}}]\n"
        world = make_world(issuer_more=NO_CHARGE_ITEM, site_more=more)
        result, address = accepted(world, browser)
        assert "Unknown" in result.text
        (row,) = rows(world)
        assert row.state is ChargeState.UNKNOWN
        engine.behaves = "accept"
        again = browser.submit(result.form("/again"))
        assert "Unknown" in again.text
        assert len(engine.received) == 1
        assert outcome_of(decisions(world, browser, address), row.code, row.content.decision)
        assert rows(world)[0].state is ChargeState.UNKNOWN


def test_a_charge_leaves_as_a_file_and_is_taken_back_by_a_second_one(make_world, browser, tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    world = make_world(issuer_more=NO_CHARGE_ITEM, site_more=f"handover: [{{dft: {{folder: {folder}}}}}]\n")
    result, address = accepted(world, browser)
    assert "The charge was handed over" in result.text
    (row,) = rows(world)
    (file,) = folder.iterdir()
    assert row.content.leaving is not None
    assert file.read_bytes() == row.content.leaving.body
    sheet = browser.get(address + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "Take it back"))
    browser.submit(asked.form("/take-back"), reason="entered twice")
    assert rows(world)[0].state is ChargeState.WITHDRAWN
    kinds = sorted(read(one.read_bytes()).dft_p03_financial.ft1.ft1_6.to_er7() for one in folder.iterdir())
    assert kinds == ["CG", "CR"]
    assert PATIENT not in file.name
