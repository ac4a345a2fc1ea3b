"""A packet in words, and as PDF: what an auditor reads of one charge and of a month, without the app."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert

from smartapp.commands.packet import run
from smartapp.ehr.charges.digests import with_digests
from smartapp.store import Store
from smartapp.store.packets import Kept
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_PACKETS
from smartapp.store.vault import place
from smartapp.web.packet_pdf import packet_pdf
from smartapp.web.packet_view import PacketView, packet_view
from tests.smartapp.conftest import make_tables
from tests.smartapp.test_packet_check import ANCHOR, AS_OF, DEVICE, GIVEN, MINUTES, STATED
from tests.support.packets import packet_of, site_of, told

WRITTEN = datetime(2026, 5, 1, 16, tzinfo=UTC)
KEY = Fernet.generate_key()
LATER = [{"days": {"of": "HEP", "from": "2026-03-31", "count": 3}}]
NAMED = [
    {"patient": {"raw": {"name": [{"text": "Patient Synthetic-Ångström"}], "birthDate": "1970-01-02"}}},
    *GIVEN[1:],
    *LATER,
]


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    site = site_of(tmp_path_factory.mktemp("site"))
    keys = (DEVICE, MINUTES, "98985-2026-03-31")
    return {
        key: packet_of(NAMED, key, site, AS_OF, stated=STATED, anchor=None if key == MINUTES else ANCHOR)
        for key in keys
    }


def kept(content: bytes, name: str = "charge-1") -> Kept:
    digest = hashlib.sha256(content).hexdigest()
    return Kept(name, "urn:x|1", "ehr", "p1", "c1", digest, WRITTEN, date(2036, 5, 1), b"", "")


def viewed(content: bytes) -> PacketView:
    return packet_view(kept(content), content, ZoneInfo("UTC"))


def section(content: bytes, key: str) -> Any:
    return next(one for one in viewed(content).sections if one.key == key)


def with_evidence(packet: bytes, **more: Any) -> bytes:
    found = told(packet)
    found["evidence"].update(more)
    return with_digests(found)


def text_of(pdf: bytes) -> str:
    """What a PDF of ours says, as far as its streams hold it as text."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    shown = []
    for stream in streams:
        try:
            shown.append(zlib.decompress(stream))
        except zlib.error:
            continue
    pieces = re.findall(rb"\(((?:[^()\\]|\\.)*)\) ?T[jJ]", b"\n".join(shown))
    return b" ".join(pieces).replace(b"\\(", b"(").replace(b"\\)", b")").decode("latin-1")


def test_it_says_who_what_when_and_by_whom(packets):
    assert viewed(packets[DEVICE]).patient == "Patient Synthetic-Ångström, born 1970-01-02, MRN not given"
    facts = dict(section(packets[DEVICE], "what").facts)
    assert facts["Period"] == "1 Mar 2026 to 30 Mar 2026"
    assert facts["Days with monitoring data"] == "4 days found, 2 days needed"
    assert facts["Confirmed by"] == "Practitioner/biller"
    assert section(packets[DEVICE], "said").items == (
        "Remote monitoring was ordered for this patient. (Practitioner/biller, 1 Dec 2026); 98985; until it "
        "is taken back.",
    )


def test_the_table_of_days_has_each_reading_with_its_record_and_what_did_not_count_with_why(packets):
    days = section(packets[DEVICE], "days")
    assert [(row[0], row[5]) for row in days.rows] == [
        *((f"{day} Mar 2026", "yes") for day in (1, 2, 3, 4)),
        ("20 Mar 2026", "no: entered in error"),
    ]
    assert days.rows[0][-1].startswith("Observation/o1 ")
    assert len(days.plots) == 1
    (left_out,) = section(packets[DEVICE], "left-out").rows
    assert left_out[:2] == ("Entered in error", "20 Mar 2026")


def test_the_table_of_time_has_minutes_people_and_where_they_were_recorded(packets):
    logged = {
        "resource": "Encounter/look",
        "measured": "typed",
        "signed_by": "Practitioner/one",
        "signed_at": "2026-03-25T12:00:00+00:00",
        "days_late": 13,
        "talk": {"with_whom": "the patient", "data": "exercise", "decided": ""},
    }
    time = section(with_evidence(packets[MINUTES], time_log=[logged]), "time")
    assert [row[:4] for row in time.rows] == [
        ("10 Mar 2026", "10:00 to 10:12", "12 minutes", "phone call, live"),
        ("12 Mar 2026", "10:00 to 10:09", "9 minutes", "review of data"),
    ]
    assert time.rows[0][4:6] == ("physician", "in the EHR")
    assert time.rows[1][5] == (
        "logged here, typed; signed by Practitioner/one, 25 Mar 2026; typed 13 days later"
    )
    assert time.items == ("12 Mar 2026: with the patient; about exercise; decided: not said.",)


def test_where_the_periods_begin_is_told_with_every_change_by_hand(packets):
    change = {"program": "rtm", "day": "2026-03-01", "before": "2026-02-20", "source": "set-up"}
    change |= {"by": "Practitioner/one", "at": "2026-04-02T12:00:00+00:00"}
    anchor = section(with_evidence(packets[DEVICE], anchors=[change, {**change, "program": "rpm"}]), "anchor")
    assert anchor.sentences[0].startswith("They begin on 1 Mar 2026.")
    (said,) = anchor.items
    assert said.startswith(
        "2 Apr 2026, Practitioner/one had them begin on 1 Mar 2026, until then 20 Feb 2026."
    )
    assert anchor.sentences[-1] == "Set by hand once:"
    assert "Nobody set a day by hand." in section(packets[DEVICE], "anchor").sentences
    assert not any(one.key == "anchor" for one in viewed(packets[MINUTES]).sections)


def test_a_day_that_rests_on_a_charge_elsewhere_says_which_and_what_was_confirmed(packets):
    change = {"program": "rtm", "day": "2026-03-01", "before": None, "source": "charged-elsewhere"}
    change |= {"by": "Practitioner/one", "at": "2026-04-02T12:00:00+00:00", "instead_of": "2026-02-22"}
    told = change | {"charged_on": "2026-03-30", "says": "A sentence."}
    anchor = section(with_evidence(packets[DEVICE], anchors=[told, change]), "anchor")
    first, second = anchor.items
    assert "begin on 1 Mar 2026, until then 22 Feb 2026. Device periods were charged in another" in first
    assert first.endswith("Date of service of that charge: 30 Mar 2026. Confirmed: “A sentence.”")
    assert second.endswith("another system."), "of an earlier version, which asked for none"
    assert anchor.sentences[-1] == "Set by hand twice:"


def test_the_rule_stands_as_it_was_with_its_sources(packets):
    rule = section(packets[DEVICE], "rule")
    assert rule.sentences[0].startswith("98985 needs 2 days with data in a period of 30 days")
    assert rule.sources
    assert all(one.address is None or one.address.startswith("https://") for one in rule.sources)
    assert section(packets[DEVICE], "sent").code.startswith("{")


def test_what_was_late_or_unusual_stands_on_its_own(packets):
    packet = with_evidence(packets[MINUTES], notes=["The minutes of this month are exactly 20:00."])
    assert section(packet, "unusual").items == ("The minutes of this month are exactly 20:00.",)
    assert not any(one.key == "unusual" for one in viewed(packets[MINUTES]).sections)


def test_a_packet_of_an_earlier_version_has_fewer_sections_and_is_readable(packets):
    for key in (DEVICE, MINUTES):
        packet = told(packets[key])
        for name in (
            "basis",
            "others",
            "left_out",
            "not_held",
            "spans",
            "rule",
            "notes",
            "found_anchor",
            "patient",
        ):
            del packet["evidence"][name]
        del packet["digests"]
        old = json.dumps(packet).encode()
        view = viewed(old)
        assert {"what", "said", "sent"} <= {one.key for one in view.sections}
        assert packet_pdf("old", [view]).startswith(b"%PDF")
    withdrawn = json.dumps(
        {"kind": "withdraw", "said": "Of another month.", "written": {}, "evidence": {}}
    ).encode()
    assert ("Change", "Of another month.") in section(withdrawn, "what").facts


def test_the_same_packets_are_the_same_bytes_of_pdf_whenever_they_are_made(packets, monkeypatch):
    views = [viewed(packets[DEVICE]), viewed(packets[MINUTES])]
    first = packet_pdf("March 2026", views)
    assert packet_pdf("March 2026", views) == first
    assert re.findall(rb"/CreationDate \(D:(\d{8})", first) == [b"20260501"]
    assert b"/ModDate" not in first


def test_the_pdf_says_what_the_page_says_and_numbers_its_pages(packets):
    text = text_of(packet_pdf("March 2026", [viewed(packets[DEVICE]), viewed(packets[MINUTES])]))
    assert "Patient Synthetic-Ångström" in text
    assert "4 days found, 2 days needed" in text
    assert "21 minutes found, 20 minutes needed" in text
    assert re.search(r"Page 1 of\s+[2-9]", text)


def test_no_text_of_a_chart_stands_for_the_number_of_pages(packets):
    found = packets[DEVICE].replace("Ångström".encode(), b"{nb} \\u001f")
    assert "Patient Synthetic-{nb}" in text_of(packet_pdf("x", [viewed(found)]))


def test_what_a_pdf_cannot_show_it_says(packets):
    found = packets[DEVICE].replace("Ångström".encode(), "Łukasz".encode())
    assert "question mark stands for each" in text_of(packet_pdf("x", [viewed(found)]))
    assert "question mark" not in text_of(packet_pdf("x", [viewed(packets[DEVICE])]))


# The month


@pytest.fixture
def month(packets, database_url, monkeypatch):
    """A store with three charges of one patient, of March and April, and a change of one of them."""
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())
    make_tables(database_url)
    with closing(Store(database_url, [KEY])) as store:
        rows = [
            (CHARGE_PACKETS, {"identifier": f"urn:x|{key}"}, name, packets[key])
            for name, key in (("c1", DEVICE), ("c2", MINUTES), ("c3", "98985-2026-03-31"))
        ]
        change = json.dumps({"kind": "withdraw", "said": "Of another month.", "written": {}, "evidence": {}})
        rows.append((CHANGE_PACKETS, {"change_id": "abc"}, "c2", change.encode()))
        with store.database.write() as connection:
            for number, (table, named, charge_item, content) in enumerate(rows):
                row = {**named, "issuer_id": "ehr", "patient": "p1", "charge_item": charge_item}
                connection.execute(
                    insert(table).values(
                        **row,
                        sha256=hashlib.sha256(content).hexdigest(),
                        sealed=store.vault.seal(content, place(table.c.sealed, row)),
                        created_at=WRITTEN + timedelta(minutes=number),
                        keep_until=date(2036, 5, 1),
                    )
                )
        yield store


MARCH = ("--month", "2026-03", "--patient", "p1", "--reason", "payer review 12")


def test_a_month_has_every_charge_of_it_with_its_changes_byte_for_byte(month, packets, tmp_path, capsys):
    file = tmp_path / "march.json"
    assert run(["export", str(file), *MARCH]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    answer = json.loads(file.read_bytes())
    assert [one["name"] for one in answer["packets"]] == ["charge-1", "charge-2", "change-abc"]
    assert packets[DEVICE] in file.read_bytes()
    again = tmp_path / "again.json"
    assert run(["export", str(again), *MARCH]) == 0
    assert again.read_bytes() == file.read_bytes()
    entries = [one for one in month.audit.entries() if one["event"] == "packet-exported"]
    assert [(one["packet"], one["month"]) for one in entries[:3]] == [
        (name, "2026-03") for name in ("charge-1", "charge-2", "change-abc")
    ]
    assert month.audit.words(entries[0]["position"]) == {"reason": "payer review 12"}


def test_a_month_is_checked_packet_by_packet(month, tmp_path, capsys):
    file = tmp_path / "march.json"
    assert run(["export", str(file), *MARCH]) == 0
    capsys.readouterr()
    assert run(["check", str(file)]) == 3, "the withdrawal is of an earlier version"
    said = capsys.readouterr().out
    assert "PACKET-DECISION charge-1: Decided again from it alone: the same." in said
    assert "PACKET-DECISION charge-2: Decided again from it alone: the same." in said
    file.write_bytes(
        file.read_bytes().replace(
            b'"system":"urn:clinic:flowsheet","code":"HEP"', b'"system":"x","code":"y"', 1
        )
    )
    assert run(["check", str(file)]) == 1
    said = capsys.readouterr().out
    assert "PACKET-FILE charge-1: Its digest is" in said
    assert "PACKET-FILE charge-2: It is what was written, byte for byte." in said


def test_a_month_as_pdf_has_each_charge(month, tmp_path, capsys):
    file = tmp_path / "march.pdf"
    assert run(["export", str(file), *MARCH]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    text = text_of(file.read_bytes())
    assert "Audit record of March 2026" in text
    assert "Charge: 98985" in text
    assert "Charge: 98980" in text
    assert "Of another month." in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["FILE", "--month", "2026-03", "--reason", "x"], "--patient"),
        (["FILE", "--month", "2026-13", "--patient", "p1", "--reason", "x"], "a month such as 2026-11"),
        (["FILE", "--month", "2025-01", "--patient", "p1", "--reason", "x"], "no packet of 2025-01 is kept"),
        (["FILE", "--month", "2026-03", "--patient", "p2", "--reason", "x"], "no packet of 2026-03 is kept"),
        (["charge-1", "FILE", *MARCH], "name one packet, or give --month"),
        (["FILE", "--reason", "x"], "name one packet, or give --month"),
        (
            ["FILE", "--month", "2026-03", "--patient", "p1", "--issuer", "other", "--reason", "x"],
            "no packet of",
        ),
    ],
)
def test_what_is_no_month_is_one_line_and_writes_nothing(month, tmp_path, capsys, arguments, said):
    file = tmp_path / "out.json"
    assert run(["export", *(str(file) if one == "FILE" else one for one in arguments)]) == 2
    told_ = capsys.readouterr().err
    assert said in told_
    assert told_.count("\n") == 1
    assert not file.exists()
    assert list(month.audit.entries()) == []
