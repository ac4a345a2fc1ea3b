"""`smartapp packet`: the kept evidence of what was written is listed, and handed out as it was written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, update

from smartapp.commands.packet import run
from smartapp.store import Store
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_PACKETS
from smartapp.store.vault import place
from tests.smartapp.conftest import Owner

KEY = Fernet.generate_key()
WRITTEN = datetime(2026, 4, 15, 16, tzinfo=UTC)
KEEP = date(2036, 4, 14)
PACKET = b'{"written":{"resourceType":"ChargeItem"},"confirmed_by":"Practitioner/7"}'


@pytest.fixture
def store(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with two packets of one patient and one of another, whose key the command has too."""
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())
    with closing(Store(database_url, [KEY])) as opened:
        opened.database.migrate()
        told = {
            "issuer_id": "hospital",
            "charge_item": "c1",
            "sha256": hashlib.sha256(PACKET).hexdigest(),
            "created_at": WRITTEN,
            "keep_until": KEEP,
        }
        with opened.database.write() as connection:
            for table, named in (
                (CHARGE_PACKETS, {"identifier": "urn:x|one", "patient": "one"}),
                (CHARGE_PACKETS, {"identifier": "urn:x|other", "patient": "other"}),
                (CHANGE_PACKETS, {"change_id": "abc", "patient": "one"}),
            ):
                row = told | named
                sealed = opened.vault.seal(PACKET, place(table.c.sealed, row))
                connection.execute(insert(table).values(**row, sealed=sealed))
        yield opened


def names(store: Store, patient: str | None = None) -> list[str]:
    return [one.name for one in store.packets.all(patient)]


def test_every_packet_is_listed_with_whose_it_is_and_until_when(store, capsys):
    assert run(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names(store)
    assert "charge-1  2026-04-15  2036-04-14  Patient/one  ChargeItem/c1" in lines


def test_one_patients_packets_are_listed_alone_and_as_json(store, capsys):
    assert run(["list", "--patient", "one", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in told} == {"charge-1", "change-abc"}
    assert run(["list", "--patient", "nobody"]) == 0
    assert "No packet is kept." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["charge-1", "change-abc"])
def test_a_packet_is_written_byte_for_byte_for_its_owner_alone_and_the_trail_says_why(
    store, tmp_path, capsys, name
):
    file = tmp_path / "packet.json"
    assert run(["export", name, str(file), "--reason", "payer review 12"]) == 0
    assert hashlib.sha256(PACKET).hexdigest() in capsys.readouterr().out
    assert file.read_bytes() == PACKET
    assert file.stat().st_mode & 0o777 == 0o600
    (entry,) = store.audit.entries()
    assert (entry["event"], entry["packet"], entry["patient"]) == ("packet-exported", name, "one")
    assert store.audit.words(1) == {"reason": "payer review 12"}


def test_nothing_is_overwritten_and_then_nothing_is_audited(store, tmp_path, capsys):
    file = tmp_path / "packet.json"
    file.write_text("mine")
    assert run(["export", "charge-1", str(file), "--reason", "review"]) == 2
    assert file.read_text() == "mine"
    assert list(store.audit.entries()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export", "charge-1", "FILE"], "--reason"),
        (["export", "charge-1", "FILE", "--reason", "  "], "say why"),
        (["export", "charge-9", "FILE", "--reason", "review"], "no packet 'charge-9' is kept"),
    ],
)
def test_what_cannot_be_done_is_one_line(store, tmp_path, capsys, arguments, said):
    file = tmp_path / "packet.json"
    assert run([str(file) if one == "FILE" else one for one in arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not file.exists()


def test_a_packet_that_is_not_what_was_written_is_not_handed_out(store, tmp_path, owner: Owner, capsys):
    owner.drop_guards("charge_packets")
    altered = store.vault.seal(PACKET.replace(b"/7", b"/8"), store.packets.named("charge-1").bound_to)
    with store.database.write() as connection:
        connection.execute(update(CHARGE_PACKETS).where(CHARGE_PACKETS.c.id == 1).values(sealed=altered))
    file: Path = tmp_path / "packet.json"
    assert run(["export", "charge-1", str(file), "--reason", "review"]) == 1
    assert "is not what was written" in capsys.readouterr().err
    assert not file.exists()


def test_a_packet_with_the_seal_of_another_one_is_not_handed_out(store, tmp_path, owner: Owner, capsys):
    owner.drop_guards("charge_packets")
    owner.run("UPDATE charge_packets SET sealed = (SELECT sealed FROM charge_packets WHERE id = 2)")
    file: Path = tmp_path / "packet.json"
    assert run(["export", "charge-1", str(file), "--reason", "review"]) == 1
    assert "sealed for another row, or changed" in capsys.readouterr().err
    assert not file.exists()


def test_without_its_key_a_packet_is_not_opened(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SMARTAPP_KEYS", Fernet.generate_key().decode())
    assert run(["list"]) == 0
    assert run(["export", "charge-1", str(tmp_path / "packet.json"), "--reason", "review"]) == 1
    assert "no key of SMARTAPP_KEYS opens it" in capsys.readouterr().err
