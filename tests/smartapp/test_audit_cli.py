"""`smartapp audit` and `smartapp purge`: the chain holds or says where it breaks, and survives a purge."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError

from smartapp.commands.audit import run
from smartapp.commands.purge import run as run_purge
from smartapp.commands.purge import years_before
from smartapp.configuration.signing_keys import KeyAlgorithm, SigningKeys, public_pem
from smartapp.store import Store
from smartapp.store.chain import START, ChainFault, content_digest, emptied_form, entry_digest
from smartapp.store.retention import Retention
from smartapp.store.tables import AUDIT, AUDIT_HEAD, CHANGE_PACKETS, CHARGE_CHANGES, CHARGE_PACKETS, OUTBOX
from tests.smartapp.conftest import REFUSED, Owner

PATIENT = "patient-of-nobody-elses-business"
LONG_AGO = datetime(2019, 5, 1, 12, tzinfo=UTC)
CUTOFF = datetime(2020, 1, 1, tzinfo=UTC)
KEY = Fernet.generate_key()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A migrated store whose key the commands have too."""
    with closing(Store(database_url, [KEY])) as opened:
        opened.database.migrate()
        yield opened


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
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())


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
            "UPDATE audit SET entry = (SELECT entry FROM audit WHERE position = 1) WHERE position = 2",
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


def with_another_seal(trail: Store, *, of: int) -> str:
    """Entry 2, with its digest, and the seal of another one."""
    second, other = (json.loads(link.entry) for link in trail.audit.links() if link.position in (2, of))
    return json.dumps({"digest": second["digest"], "sealed": other["sealed"]})


def test_a_seal_put_in_the_place_of_another_is_noticed_by_whoever_has_the_keys(trail, tamper, capsys):
    tamper(f"UPDATE audit SET entry = '{with_another_seal(trail, of=3)}' WHERE position = 2")
    assert run(["verify"]) == 1
    assert "entry 2 is not what it was" in capsys.readouterr().out


def test_without_the_keys_the_digests_are_followed_and_it_is_said_that_nothing_was_opened(
    trail, tamper, capsys, monkeypatch
):
    monkeypatch.delenv("SMARTAPP_KEYS")
    assert run(["verify"]) == 0
    out = capsys.readouterr().out
    assert "holds: 4 entries" in out
    assert "4 contents were not opened" in out
    tamper("UPDATE audit SET at = '2026-01-01 00:00:00' WHERE position = 2")
    assert run(["verify"]) == 1


def test_an_entry_that_no_key_opens_is_a_fault_of_the_trail(trail, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SMARTAPP_KEYS", Fernet.generate_key().decode())
    assert run(["verify"]) == 1
    assert "entry 1 cannot be opened" in capsys.readouterr().out
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 1
    assert not path.exists()


def chained_anew(trail: Store, owner: Owner, entries: list[tuple[str, str]]) -> None:
    """What whoever owns the database can do without its keys: moments and texts, and digests that fit."""
    owner.drop_guards("audit")
    owner.run("DELETE FROM audit")
    previous = START
    with trail.database.write() as connection:
        for position, (at, entry) in enumerate(entries, 1):
            digest = entry_digest(position, at, content_digest(entry), previous)
            moment = datetime.fromisoformat(at)
            connection.execute(
                insert(AUDIT).values(
                    position=position, at=moment, entry=entry, previous=previous, digest=digest
                )
            )
            previous = digest
        connection.execute(update(AUDIT_HEAD).values(position=len(entries), digest=previous))


FORGED = '{"event": "chart-opened", "user": "Practitioner/9"}'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda entries: [entries[0], *entries[2:]], "entry 2 is not what it was"),
        (lambda entries: [entries[1], entries[0], *entries[2:]], "entry 1 is not what it was"),
        (lambda entries: [*entries, entries[-1]], "entry 5 is not what it was"),
        (lambda entries: [(entries[0][0], FORGED), *entries], "entry 2 is not what it was"),
        (
            lambda entries: [*entries, (entries[-1][0], FORGED)],
            "entry 5 stands in the open after sealed ones",
        ),
    ],
    ids=["one left out", "two exchanged", "one repeated", "one put first", "one put last"],
)
def test_a_chain_made_anew_without_the_keys_is_found_by_whoever_has_them(
    trail, owner, capsys, monkeypatch, change, says
):
    kept = [(link.at, link.entry) for link in trail.audit.links()]
    chained_anew(trail, owner, kept)
    assert run(["verify"]) == 0
    chained_anew(trail, owner, change(kept))
    capsys.readouterr()
    assert run(["verify"]) == 1
    assert says in capsys.readouterr().out
    monkeypatch.delenv("SMARTAPP_KEYS")
    assert run(["verify"]) == 0  # the digests alone all fit


@pytest.mark.threat("5.9")
def test_nothing_of_a_patient_stands_in_the_trail_for_whoever_reads_the_database(trail, owner):
    content = owner.stored()
    assert PATIENT.encode() not in content
    assert b"Practitioner/7" not in content
    assert next(trail.audit.entries())["patient"] == PATIENT


def test_the_digest_in_the_open_does_not_tell_who_it_was(store, now):
    """The same words twice: whoever tries likely texts finds none of them."""
    for _ in range(2):
        store.audit.add(now, "chart-opened", patient=PATIENT)
    one, two = (json.loads(link.entry)["digest"] for link in store.audit.links())
    assert one != two


def test_a_content_that_was_emptied_by_hand_is_noticed_although_its_digest_fits(trail, tamper, capsys):
    third = next(link for link in trail.audit.links() if link.position == 3)
    tamper(f"UPDATE audit SET entry = '{emptied_form(third.entry)}' WHERE position = 3")
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
    for name in ("DATABASE_URL", "SIGNING_KEYS", "KEYS"):
        monkeypatch.delenv(f"SMARTAPP_{name}")
    assert run(["verify", "--export", str(path), "--key", str(public)]) == 0
    out = capsys.readouterr().out
    assert "holds: 4 entries" in out
    assert PATIENT not in out


def test_every_line_is_json_and_the_last_one_is_signed(trail, tmp_path):
    path = tmp_path / "audit.ndjson"
    run(["export", str(path)])
    *entries, last = exported(path)
    assert [entry["position"] for entry in entries] == [1, 2, 3, 4]
    said = json.loads(entries[0]["entry"])
    assert set(said) == {"salt", "says"}
    assert json.loads(said["says"])["patient"] == PATIENT
    assert json.loads(last["head"])["digest"] == entries[-1]["digest"]


def test_an_export_is_itself_an_entry_of_the_trail(trail, tmp_path):
    run(["export", str(tmp_path / "audit.ndjson")])
    *_, last = trail.audit.entries()
    assert (last["event"], last["entries"]) == ("audit-exported", 4)


def sealed_again(line: str) -> str:
    """A line whose text is hidden: its digest fits, and nothing is proven."""
    said = json.loads(line)
    digest = hashlib.sha256("\n".join(json.loads(said["entry"]).values()).encode()).hexdigest()
    return json.dumps(said | {"entry": json.dumps({"digest": digest, "sealed": "gAAAAA=="})})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0].replace("/7", "/8"), *lines[1:]], "entry 1 is not what it was"),
        (lambda lines: [sealed_again(lines[0]), *lines[1:]], "entry 1 cannot be opened"),
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
        (["verify", "--export", "FILE"], "belongs together"),
        (["verify", "--since", "FILE"], "belongs together"),
        (["verify", "--key", "PUB"], "belongs together"),
        (["export", "new", "--continues", "FILE"], "belongs together"),
        (["verify", "--since", "FILE", "--key", "PUB"], "line 1 is no line of an audit export"),
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


def test_an_export_without_the_encryption_keys_says_so(trail, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SMARTAPP_KEYS")
    assert run(["export", str(tmp_path / "audit.ndjson")]) == 2
    assert "SMARTAPP_KEYS is missing" in capsys.readouterr().err


def test_an_export_without_a_key_says_how_to_make_one(trail, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(tmp_path / "empty"))
    path = tmp_path / "audit.ndjson"
    assert run(["export", str(path)]) == 2
    assert "smartapp keys new --algorithm Ed25519" in capsys.readouterr().err
    assert not path.exists()


def test_a_database_without_tables_says_what_to_run(capsys):
    assert run(["verify"]) == 2
    assert "smartapp migrate" in capsys.readouterr().err


# Against an earlier export


class Night:
    """The exports of one night after another, each kept where the database's owner cannot reach it."""

    def __init__(self, folder: Path, public: Path) -> None:
        self._folder, self._key = folder, ["--key", str(public)]
        self.first, self.second = str(folder / "1.ndjson"), str(folder / "2.ndjson")
        assert run(["export", self.first]) == 0

    def verified(self, *more: str) -> int:
        return run(["verify", "--since", self.first, *self._key, *more])

    def exported(self) -> int:
        return run(["export", self.second, "--continues", self.first, *self._key])


@pytest.fixture
def night(trail: Store, tmp_path: Path, public: Path) -> Night:
    return Night(tmp_path, public)


def rewrite(trail: Store, owner: Owner, now: datetime, entries: int) -> None:
    """What somebody can do who owns the database and has its key: a whole chain of their own."""
    owner.drop_guards("audit")
    owner.run("DELETE FROM audit", f"UPDATE audit_head SET position = 0, digest = '{'0' * 64}'")
    for number in range(entries):
        trail.audit.add(now, "chart-opened", patient="somebody else", number=number)


def test_a_trail_that_grew_and_was_purged_continues_its_export(trail, night, now, capsys):
    trail.audit.add(now, "chart-opened", patient=PATIENT)
    trail.audit.empty(CUTOFF, now)
    assert night.verified() == 0
    assert night.exported() == 0
    assert run(["verify", "--export", night.second, "--since", night.first, *night._key]) == 0


def test_a_rewritten_trail_holds_in_itself_and_does_not_continue_the_export(trail, night, owner, now, capsys):
    rewrite(trail, owner, now, entries=9)
    assert run(["verify"]) == 0
    assert night.verified() == 1
    assert "entry 4 is not the one of the earlier export" in capsys.readouterr().out


def test_a_shortened_trail_whose_head_was_made_to_fit_is_found(trail, night, owner, now, capsys):
    third = next(link for link in trail.audit.links() if link.position == 3)
    owner.drop_guards("audit")
    owner.run(
        "DELETE FROM audit WHERE position > 3",
        f"UPDATE audit_head SET position = 3, digest = '{third.digest}'",
    )
    assert run(["verify"]) == 0
    assert night.verified() == 1
    assert "entry 4 is missing: the earlier export has it" in capsys.readouterr().out


@pytest.mark.parametrize("entries", [3, 9])
def test_a_trail_that_does_not_continue_the_export_is_neither_exported_nor_signed(
    trail, night, owner, now, capsys, entries
):
    rewrite(trail, owner, now, entries)
    assert night.exported() == 1
    assert not Path(night.second).exists()
    assert "Nothing was exported." in capsys.readouterr().out
    assert trail.audit.check().entries == entries


def test_an_export_that_does_not_continue_the_earlier_one_is_found_without_the_database(
    trail, night, owner, now, capsys, monkeypatch
):
    rewrite(trail, owner, now, entries=9)
    assert run(["export", night.second]) == 0
    monkeypatch.delenv("SMARTAPP_DATABASE_URL")
    assert run(["verify", "--export", night.second, *night._key]) == 0
    assert run(["verify", "--export", night.second, "--since", night.first, *night._key]) == 1
    assert "entry 4 is not the one of the earlier export" in capsys.readouterr().out


def test_an_earlier_export_that_does_not_hold_itself_proves_nothing(trail, night, capsys):
    path = Path(night.first)
    path.write_text(path.read_text().replace("Practitioner/7", "Practitioner/8"))
    assert night.verified() == 1
    assert "The earlier export of" in capsys.readouterr().out
    assert night.exported() == 1


def test_an_earlier_export_signed_with_another_key_proves_nothing(trail, night, tmp_path):
    pub = tmp_path / "other.pub"
    pub.write_text(public_pem(SigningKeys(tmp_path / "other").new(KeyAlgorithm.ED25519, LONG_AGO)))
    assert run(["verify", "--since", night.first, "--key", str(pub)]) == 1
    assert run(["export", night.second, "--continues", night.first, "--key", str(pub)]) == 1
    assert not Path(night.second).exists()


def test_an_export_of_an_empty_trail_is_continued_by_any(store, tmp_path, public, now):
    night = Night(tmp_path, public)
    store.audit.add(now, "chart-opened", patient=PATIENT)
    assert night.verified() == 0


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


def test_entries_are_added_while_others_are_emptied(store, now):
    """Neither waits for the other for ever, and none is lost."""
    for number in range(20):
        store.audit.add(LONG_AGO + timedelta(days=number), "chart-opened", patient=PATIENT)
    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(store.audit.add, now, "chart-opened", number=n) for n in range(40)]
        emptied = [store.audit.empty(LONG_AGO + timedelta(days=day), now) for day in range(1, 21)]
        for added in adding:
            added.result()
    assert sum(emptied) == 20
    check = store.audit.check()
    assert (check.fault, check.entries, check.emptied) == (None, 80, 20)


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
    retention = Retention(store.database, store.vault, store.audit)
    assert retention.past(today, CUTOFF).packets == 1
    assert retention.purge(today, CUTOFF).packets == 1
    assert identifiers(store, CHARGE_PACKETS.c.identifier) == {"young"}
    assert identifiers(store, OUTBOX.c.identifier) == {"young"}
    [entry] = store.audit.entries()
    assert (entry["event"], entry["packets"], entry["charges"]) == ("records-purged", 1, 1)


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
    assert Retention(store.database, store.vault, store.audit).purge(today, CUTOFF).packets == 2
    assert identifiers(store, CHANGE_PACKETS.c.change_id) == {"last"}
    assert identifiers(store, CHARGE_CHANGES.c.id) == {"last"}
    assert identifiers(store, OUTBOX.c.identifier) == {"old"}


def environment_of(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    issuers = folder / "issuers.toml"
    issuers.write_text('[issuers.general]\nfhir_base = "https://ehr.example/fhir"\nclient_id = "app"\n')
    monkeypatch.setenv("SMARTAPP_BASE_URL", "https://app.example")
    monkeypatch.setenv("SMARTAPP_ISSUERS_FILE", str(issuers))


def test_the_purge_command_says_what_it_removed(trail, tmp_path, monkeypatch, capsys):
    environment_of(monkeypatch, tmp_path)
    monkeypatch.setenv("SMARTAPP_RETENTION_YEARS", "5")
    assert run_purge(["--dry-run"]) == 0
    assert "2 audit entries" in capsys.readouterr().out
    assert trail.audit.check().emptied == 0
    assert run_purge([]) == 0
    assert "Emptied 2 audit entries" in capsys.readouterr().out
    assert trail.audit.check().emptied == 2


def test_the_purge_command_names_what_it_removes_and_a_dry_run_says_the_same(
    store, tmp_path, monkeypatch, capsys
):
    environment_of(monkeypatch, tmp_path)
    monkeypatch.setenv("SMARTAPP_RETENTION_YEARS", "5")
    store.time_log.start_clock("general", "Practitioner/7", "p1", LONG_AGO)
    store.months.certify("general", "p1", date(2019, 1, 1), "Practitioner/7", "", LONG_AGO)
    assert run_purge(["--dry-run"]) == 0
    assert "Past their time: 1 certified months and 1 forgotten clocks;" in capsys.readouterr().out
    assert run_purge([]) == 0
    assert "1 certified months and 1 forgotten clocks." in capsys.readouterr().out
    assert store.months.of_patient("general", "p1") == {}


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
