"""A database of an earlier version: nothing in it is lost, and its trail stays verifiable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text

from smartapp.commands.audit import run as run_audit
from smartapp.commands.keys import run as run_keys
from smartapp.commands.migrate import run as run_migrate
from smartapp.configuration.signing_keys import KeyAlgorithm, SigningKeys, public_pem
from smartapp.store import Store
from smartapp.store.charges import ChargeContent
from smartapp.store.claims import ChargeState
from tests.support.earlier_seals import record_sealed_earlier, sealed_earlier
from tests.support.filled_store import content_of

KEY = Fernet.generate_key()
PATIENT = "patient-of-nobody-elses-business"
PROBLEM = "Mrs. Example has no such account"
LONG_AGO = datetime(2019, 5, 1, 12, tzinfo=UTC)


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def plain_entries() -> list[dict[str, object]]:
    """A trail as revision 0003 wrote it: one content emptied, the others open."""
    reason = sealed_earlier(KEY, b"What a person typed.").decode()
    said = [
        {"event": "chart-opened", "patient": PATIENT},
        {"event": "audit-emptied", "up_to": 1, "count": 1},
        {"event": "month-reopened", "patient": PATIENT, "reason_sealed": reason},
    ]
    rows: list[dict[str, object]] = []
    previous = "0" * 64
    for position, facts in enumerate(said, 1):
        at = LONG_AGO + timedelta(days=position)
        entry = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        digest = sha256(f"{position}\n{at.isoformat()}\n{sha256(entry)}\n{previous}")
        kept = json.dumps({"emptied": sha256(entry)}) if position == 1 else entry
        rows.append({"position": position, "at": at, "entry": kept, "previous": previous, "digest": digest})
        previous = digest
    return rows


def a_charge() -> ChargeContent:
    return content_of("98977-2026-01-05", date(2999, 2, 3), resource={"resourceType": "ChargeItem"})


@pytest.fixture
def old(database_url: str) -> Iterator[Store]:
    """A store on a database of revision 0003 with rows in it."""
    with closing(Store(database_url, [KEY])) as opened:
        opened.database.migrate("0003")
        rows = plain_entries()
        # The zone as text: SQLite keeps none, PostgreSQL must not add its own.
        stored = [
            row | {"at": f"{row['at']:%Y-%m-%d %H:%M:%S.%f}" + ("+00" if "postgres" in database_url else "")}
            for row in rows
        ]
        moment = stored[0]["at"]
        with opened.database.write() as connection:
            connection.execute(
                text("INSERT INTO audit VALUES (:position, :at, :entry, :previous, :digest)"), stored
            )
            connection.execute(
                text("UPDATE audit_head SET position = 3, digest = :digest"), {"digest": rows[-1]["digest"]}
            )
            connection.execute(
                text(
                    "INSERT INTO outbox (identifier, issuer_id, patient, code, state, attempt, sealed,"
                    " problem, created_at, changed_at) VALUES ('urn:x|1', 'general', 'p1', '98977',"
                    " 'refused', 1, :sealed, :problem, :at, :at)"
                ),
                {"sealed": record_sealed_earlier(KEY, a_charge()), "problem": PROBLEM, "at": moment},
            )
        yield opened


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database_url: str) -> None:
    folder = SigningKeys(tmp_path / "keys")
    key = folder.new(KeyAlgorithm.ED25519, LONG_AGO)
    (tmp_path / "audit.pub").write_text(public_pem(key))
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(folder.folder))
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())


def test_entries_in_plain_text_stay_readable_and_verifiable_beside_sealed_ones(old, now):
    old.database.migrate()
    old.audit.add(now, "chart-opened", patient="p2")
    check = old.audit.check()
    assert (check.fault, check.entries, check.emptied) == (None, 4, 1)
    emptied, _, reopened, opened = old.audit.entries()
    assert set(emptied) == {"position", "at", "emptied"}
    assert reopened["patient"] == PATIENT
    assert opened["patient"] == "p2"


def test_an_entry_in_plain_text_that_was_changed_is_noticed(old, owner):
    old.database.migrate()
    owner.drop_guards("audit")
    owner.run(f"UPDATE audit SET entry = replace(entry, '{PATIENT}', 'p3') WHERE position = 3")
    assert old.audit.verify() == 3


def test_a_trail_of_both_kinds_is_exported_and_checked_alone(old, now, tmp_path, monkeypatch):
    old.database.migrate()
    old.audit.add(now, "chart-opened", patient="p2")
    path, key = str(tmp_path / "audit.ndjson"), str(tmp_path / "audit.pub")
    assert run_audit(["export", path]) == 0
    monkeypatch.delenv("SMARTAPP_KEYS")
    assert run_audit(["verify", "--export", path, "--key", key]) == 0


def test_old_entries_can_be_emptied_by_the_retention_rule(old, now):
    old.database.migrate()
    assert old.audit.empty(now, now) == 2
    check = old.audit.check()
    assert (check.fault, check.emptied) == (None, 3)


def test_the_words_of_the_ehr_are_read_from_where_they_were(old):
    old.database.migrate()
    charge = old.charges.get("urn:x|1")
    assert (charge.state, charge.problem) == (ChargeState.REFUSED, PROBLEM)


def test_migrating_says_what_still_stands_in_the_open_until_it_is_sealed(old, capsys):
    assert run_migrate([]) == 0
    assert (
        "1 audit entries are older than their encryption: `smartapp keys reseal`" in capsys.readouterr().out
    )
    assert run_keys(["reseal"]) == 0
    capsys.readouterr()
    assert run_migrate([]) == 0
    assert "reseal" not in capsys.readouterr().out


def test_resealing_leaves_nothing_in_the_open_and_the_chain_as_it_was(old, owner):
    old.database.migrate()
    before = [link.digest for link in old.audit.links()]
    assert PATIENT.encode() in owner.stored()
    assert run_keys(["reseal"]) == 0
    content = owner.stored()
    assert PATIENT.encode() not in content
    assert PROBLEM.encode() not in content
    assert [link.digest for link in old.audit.links()][:3] == before
    assert old.audit.check().fault is None
    assert old.charges.get("urn:x|1").problem == PROBLEM
    assert [entry.get("patient") for entry in old.audit.entries()][2] == PATIENT


def test_a_reason_sealed_inside_an_old_entry_keeps_its_key_needed_and_this_is_said(
    old, now, monkeypatch, capsys
):
    old.database.migrate()
    monkeypatch.setenv("SMARTAPP_KEYS", f"{Fernet.generate_key().decode()},{KEY.decode()}")
    assert run_keys(["reseal"]) == 1
    assert "Key 2 of SMARTAPP_KEYS is still needed to read 1 reasons inside old audit entries" in (
        capsys.readouterr().out
    )
    old.audit.empty(now, now)
    assert run_keys(["reseal", "--check"]) == 0
