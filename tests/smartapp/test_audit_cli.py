"""`smartapp audit` and `smartapp purge`: the chain holds or says where it breaks, and survives a purge."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, select
from sqlalchemy.exc import DBAPIError

from smartapp.commands.audit import run
from smartapp.commands.purge import run as run_purge
from smartapp.commands.purge import years_before
from smartapp.signing_keys import KeyAlgorithm, SigningKeys, public_pem
from smartapp.store import Store
from smartapp.store.audit import ChainFault, content_digest
from smartapp.store.retention import Retention
from smartapp.store.tables import CHANGE_PACKETS, CHARGE_CHANGES, CHARGE_PACKETS, OUTBOX
from tests.smartapp.conftest import REFUSED, Owner

PATIENT = "patient-of-nobody-elses-business"
LONG_AGO = datetime(2019, 5, 1, 12, tzinfo=UTC)
CUTOFF = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeys:
    folder = SigningKeys(tmp_path / "keys")
    folder.new(KeyAlgorithm.ED25519, LONG_AGO)
    return folder


@pytest.fixture
def public(tmp_path: Path, keys: SigningKeys) -> Path:
    path = tmp_path / "audit.pub"
    path.write_text(public_pem(keys.active(KeyAlgorithm.ED25519)))
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str, keys: SigningKeys) -> None:
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(keys.folder))


@pytest.fixture
def trail(store: Store, now: datetime) -> Store:
    """Two entries of long ago, two of now."""
    for at in (LONG_AGO, LONG_AGO + timedelta(days=1), now, now + timedelta(hours=1)):
        store.audit.add(at, "chart-opened", patient=PATIENT, user="Practitioner/7")
    return store


Tamper = Callable[[str], None]


@pytest.fixture
def tamper(owner: Owner) -> Tamper:
    """Change the trail as somebody would who owns the database."""

    def change(statement: str) -> None:
        owner.drop_guards("audit")
        owner.run(statement)

    return change


# Verify


def test_a_whole_chain_holds(trail, capsys):
    assert run(["verify"]) == 0
    assert "holds: 4 entries, 0 of them emptied" in capsys.readouterr().out


def test_an_empty_trail_holds(store, capsys):
    assert run(["verify"]) == 0
    assert "0 entries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        (
            "UPDATE audit SET entry = replace(entry, '7', '8') WHERE position = 2",
            "entry 2 is not what it was",
        ),
        ("UPDATE audit SET at = '2026-01-01 00:00:00' WHERE position = 2", "entry 2 is not what it was"),
        ("DELETE FROM audit WHERE position = 3", "entry 3 is missing"),
        ("DELETE FROM audit WHERE position = 4", "entry 4 is missing: the chain ends before"),
    ],
)
def test_a_chain_that_was_tampered_with_says_where_it_breaks(trail, tamper, capsys, statement, says):
    tamper(statement)
    assert run(["verify"]) == 1
    assert says in capsys.readouterr().out


def test_a_content_that_was_emptied_by_hand_is_noticed_although_its_digest_fits(trail, tamper, capsys):
    third = next(link for link in trail.audit.links() if link.position == 3)
    emptied = json.dumps({"emptied": content_digest(third.entry)})
    tamper(f"UPDATE audit SET entry = '{emptied}' WHERE position = 3")
    assert trail.audit.check().fault is ChainFault.EMPTIED
    assert run(["verify"]) == 1
    assert "entry 3 was emptied, and no purge says so" in capsys.readouterr().out


def test_the_verdict_as_json(trail, tamper, capsys):
    run(["verify", "--json"])
    whole = json.loads(capsys.readouterr().out)
    assert (whole["entries"], whole["emptied"], whole["fault"], whole["broken_at"]) == (4, 0, None, None)
    tamper("DELETE FROM audit WHERE position = 2")
    run(["verify", "--json"])
    broken = json.loads(capsys.readouterr().out)
    assert (broken["broken_at"], broken["fault"]) == (2, "missing")


# Export


def exported(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_export_is_checked_with_nothing_but_the_public_key(trail, tmp_path, public, capsys, monkeypatch):
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("SMARTAPP_DATABASE_URL")
    monkeypatch.delenv("SMARTAPP_SIGNING_KEYS")
    assert run(["verify", "--export", str(path), "--key", str(public)]) == 0
    out = capsys.readouterr().out
    assert "holds: 4 entries" in out
    assert PATIENT not in out


def test_every_line_is_json_and_the_last_one_is_signed(trail, tmp_path):
    path = tmp_path / "audit.ndjson"
    run(["export", str(path)])
    *entries, last = exported(path)
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4]
    assert json.loads(entries[0]["entry"])["patient"] == PATIENT
    assert json.loads(last["head"])["digest"] == entries[-1]["digest"]


def test_an_export_is_itself_an_entry_of_the_trail(trail, tmp_path):
    run(["export", str(tmp_path / "audit.ndjson")])
    *_, last = trail.audit.entries()
    assert (last["event"], last["entries"]) == ("audit-exported", 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0].replace("/7", "/8"), *lines[1:]], "entry 1 is not what it was"),
        (lambda lines: [lines[0], *lines[2:]], "entry 2 is missing"),
        (lambda lines: [*lines[:3], lines[-1]], "entry 4 is missing"),
        (
            lambda lines: [*lines[:-1], lines[-1].replace('\\"entries\\":4', '\\"entries\\":3')],
            "not signed with",
        ),
    ],
)
def test_a_changed_export_is_noticed(trail, tmp_path, public, capsys, change, says):
    path = tmp_path / "audit.ndjson"
    run(["export", str(path)])
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    capsys.readouterr()
    assert run(["verify", "--export", str(path), "--key", str(public)]) == 1
    assert says in capsys.readouterr().out


def test_an_export_signed_with_another_key_is_noticed(trail, tmp_path, capsys):
    path = tmp_path / "audit.ndjson"
    run(["export", str(path)])
    other = SigningKeys(tmp_path / "other")
    pub = tmp_path / "other.pub"
    pub.write_text(public_pem(other.new(KeyAlgorithm.ED25519, LONG_AGO)))
    assert run(["verify", "--export", str(path), "--key", str(pub)]) == 1


def test_a_broken_chain_is_neither_exported_nor_signed(trail, tamper, tmp_path, capsys):
    tamper("DELETE FROM audit WHERE position = 2")
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 1
    assert not path.exists()
    assert "entry 2 is missing" in capsys.readouterr().out


def test_an_end_that_was_cut_off_is_not_signed_either(trail, tamper, tmp_path, capsys):
    tamper("DELETE FROM audit WHERE position = 4")
    assert run(["export", str(tmp_path / "audit.ndjson")]) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["export"], "FILE"),
        (["verify", "--export", "FILE"], "belong together"),
        (["verify", "--export", "FILE", "--key", "FILE"], "no Ed25519 public key"),
        (["verify", "--export", "nowhere", "--key", "PUB"], "nowhere: No such file"),
        (["verify", "--export", "FILE", "--key", "PUB"], "line 1 is no line of an audit export"),
        (["export", "FILE"], "File exists"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_two(trail, tmp_path, public, capsys, arguments, says):
    file = tmp_path / "file"
    file.write_text("hello\n")
    places = {"FILE": str(file), "PUB": str(public)}
    assert run([places.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert file.read_text() == "hello\n"


def test_an_export_without_a_key_says_how_to_make_one(trail, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(tmp_path / "empty"))
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 2
    assert "smartapp keys new --algorithm Ed25519" in capsys.readouterr().err
    assert not path.exists()


def test_a_database_without_tables_says_what_to_run(capsys):
    assert run(["verify"]) == 2
    assert "smartapp migrate" in capsys.readouterr().err


# Purge


def test_contents_past_the_retention_time_are_emptied_and_the_chain_still_holds(trail, now, capsys):
    assert trail.audit.empty(CUTOFF, now) == 2
    check = trail.audit.check()
    assert (check.fault, check.entries, check.emptied) == (None, 5, 2)
    first, _, third, *_ = trail.audit.entries()
    assert set(first) == {"position", "at", "emptied"}
    assert third["patient"] == PATIENT
    assert run(["verify"]) == 0
    assert "2 of them emptied" in capsys.readouterr().out


def test_emptying_is_an_entry_itself_and_a_second_time_there_is_nothing_to_do(trail, now):
    trail.audit.empty(CUTOFF, now)
    *_, last = trail.audit.entries()
    assert (last["event"], last["up_to"], last["count"]) == ("audit-emptied", 2, 2)
    assert trail.audit.empty(CUTOFF, now) == 0
    assert trail.audit.check().entries == 5


def test_the_database_refuses_changes_again_after_a_purge(trail, now, owner):
    trail.audit.empty(CUTOFF, now)
    with pytest.raises(DBAPIError, match=REFUSED):
        owner.run("UPDATE audit SET entry = '' WHERE position = 4")


def test_a_changed_emptied_entry_is_noticed(trail, now, tamper):
    trail.audit.empty(CUTOFF, now)
    digest = next(trail.audit.entries())["emptied"]
    tamper(f"UPDATE audit SET entry = replace(entry, '{digest}', '{'0' * 64}') WHERE position = 1")
    assert (trail.audit.verify(), trail.audit.check().fault) == (1, ChainFault.CHANGED)


def test_an_emptied_trail_can_be_exported_and_checked(trail, now, tmp_path, public, capsys):
    trail.audit.empty(CUTOFF, now)
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 0
    assert run(["verify", "--export", str(path), "--key", str(public)]) == 0
    assert "2 of them emptied" in capsys.readouterr().out


def test_only_what_lies_before_the_first_younger_entry_is_emptied(store, now):
    """A clock that once ran backwards must not open a hole in the middle."""
    for at in (LONG_AGO, now, LONG_AGO, now):
        store.audit.add(at, "chart-opened", patient=PATIENT)
    assert store.audit.empty(CUTOFF, now) == 1
    assert store.audit.check().fault is None


def packet(identifier: str, keep_until: date, now: datetime) -> dict[str, object]:
    return {
        "identifier": identifier,
        "issuer_id": "hospital",
        "patient": "p1",
        "charge_item": f"of-{identifier}",
        "sha256": "0" * 64,
        "sealed": b"sealed",
        "created_at": now,
        "keep_until": keep_until,
    }


def outbox(identifier: str, now: datetime) -> dict[str, object]:
    return {
        "identifier": identifier,
        "issuer_id": "hospital",
        "patient": "p1",
        "code": "98977",
        "state": "confirmed",
        "attempt": 1,
        "sealed": b"sealed",
        "charge_item": f"of-{identifier}",
        "created_at": now,
        "changed_at": now,
    }


def identifiers(store: Store, column: object) -> set[str]:
    with store.database.read() as connection:
        return set(connection.execute(select(column)).scalars())


def test_packets_past_their_date_go_with_the_rows_that_hold_the_same_evidence(store):
    today = datetime.now(UTC)
    yesterday, tomorrow = (today + timedelta(days=days) for days in (-1, 1))
    with store.database.write() as connection:
        for name, until in (("old", yesterday), ("young", tomorrow)):
            connection.execute(insert(OUTBOX).values(**outbox(name, today)))
            connection.execute(insert(CHARGE_PACKETS).values(**packet(name, until.date(), today)))
    retention = Retention(store.database, store.audit)
    assert retention.past(today.date(), CUTOFF).packets == 1
    assert retention.purge(today, CUTOFF).packets == 1
    assert identifiers(store, CHARGE_PACKETS.c.identifier) == {"young"}
    assert identifiers(store, OUTBOX.c.identifier) == {"young"}
    assert [entry["event"] for entry in store.audit.entries()] == ["packets-purged"]


def test_a_charge_whose_later_change_is_still_kept_keeps_its_row(store):
    today = datetime.now(UTC)
    yesterday, tomorrow = (today + timedelta(days=days) for days in (-1, 1))
    with store.database.write() as connection:
        connection.execute(insert(OUTBOX).values(**outbox("old", today)))
        connection.execute(insert(CHARGE_PACKETS).values(**packet("old", yesterday.date(), today)))
        for name, until in (("first", yesterday), ("last", tomorrow)):
            change = packet("old", until.date(), today)
            del change["identifier"]
            connection.execute(insert(CHANGE_PACKETS).values(change_id=name, **change))
            row = outbox("old", today)
            for key in ("identifier", "code"):
                del row[key]
            connection.execute(insert(CHARGE_CHANGES).values(id=name, kind="update", **row))
    assert Retention(store.database, store.audit).purge(today, CUTOFF).packets == 2
    assert identifiers(store, CHANGE_PACKETS.c.change_id) == {"last"}
    assert identifiers(store, CHARGE_CHANGES.c.id) == {"last"}
    assert identifiers(store, OUTBOX.c.identifier) == {"old"}


def environment_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    issuers = folder / "issuers.toml"
    issuers.write_text('[issuers.general]\nfhir_base = "https://ehr.example/fhir"\nclient_id = "app"\n')
    monkeypatch.setenv("SMARTAPP_KEYS", Fernet.generate_key().decode())
    monkeypatch.setenv("SMARTAPP_BASE_URL", "https://app.example")
    monkeypatch.setenv("SMARTAPP_ISSUERS_FILE", str(issuers))


def test_the_purge_command_says_what_it_removed(trail, tmp_path, monkeypatch, capsys):
    environment_of(monkeypatch, tmp_path)
    monkeypatch.setenv("SMARTAPP_RETENTION_YEARS", "5")
    assert run_purge(["--dry-run"]) == 0
    assert "2 audit entries" in capsys.readouterr().out
    assert trail.audit.check().emptied == 0
    assert run_purge([]) == 0
    assert "emptied 2 audit entries" in capsys.readouterr().out
    assert trail.audit.check().emptied == 2


def test_nothing_within_the_retention_time_is_touched(trail, tmp_path, monkeypatch):
    environment_of(monkeypatch, tmp_path)
    monkeypatch.setenv("SMARTAPP_RETENTION_YEARS", "30")
    assert run_purge([]) == 0
    assert trail.audit.check().emptied == 0


def test_a_purge_without_settings_is_refused(monkeypatch, capsys):
    for name in ("SMARTAPP_KEYS", "SMARTAPP_BASE_URL", "SMARTAPP_ISSUERS_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert run_purge([]) == 2
    assert "SMARTAPP_KEYS is missing" in capsys.readouterr().err


def test_a_leap_day_is_kept_a_day_longer_never_shorter():
    assert years_before(datetime(2028, 2, 29, tzinfo=UTC), 7) == datetime(2021, 2, 28, tzinfo=UTC)
