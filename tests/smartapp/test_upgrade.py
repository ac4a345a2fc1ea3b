"""A populated store of each earlier revision, written by code of its time, is upgraded and goes on.

`earlier_versions/NNNN.sql` are dumps of SQLite: one patient with a session and its snapshot, a written charge
with its packet, a refused one, one under way; and, from the revision that has them, logged time, statements,
a change that took a charge back, a certified month, and what a payer denied. A new
revision needs a dump of the one before it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path

import pytest

from smartapp.commands.keys import run as run_keys
from smartapp.commands.migrate import run as run_migrate
from smartapp.health import Health, Readiness
from smartapp.store import Store
from smartapp.store.changes import change_id
from smartapp.store.claims import ChargeState
from smartapp.store.database import SCHEMA_REVISION, SchemaOutdated
from smartapp.store.resealing import Resealing

KEY = b"c3ludGhldGljLWtleS1vZi10aGUtdXBncmFkZS10ZXM="
DUMPS = {path.stem: path for path in sorted(Path(__file__).parent.joinpath("earlier_versions").glob("*.sql"))}
REVISIONS = sorted(
    re.match(r"\d{4}", path.name)[0]
    for path in (files("smartapp.store") / "migrations" / "versions").iterdir()
    if path.name[0].isdigit()
)


def test_the_app_needs_the_newest_revision_and_each_earlier_one_has_a_dump():
    assert REVISIONS[-1] == SCHEMA_REVISION
    assert list(DUMPS) == REVISIONS[:-1]


@pytest.fixture(params=DUMPS)
def revision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def earlier(tmp_path, revision, monkeypatch) -> Iterator[Store]:
    file = tmp_path / "app.sqlite3"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(DUMPS[revision].read_text())
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", f"sqlite:///{file}")
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())
    with closing(Store(f"sqlite:///{file}", [KEY])) as store:
        yield store


def what_is_kept(store: Store) -> list[object]:
    snapshot = store.reading.snapshot_of("s1")
    assert snapshot is not None
    return [
        store.launches.get_session("s1"),
        store.launches.get_tokens("s1"),
        [resource.reference for resource in store.reading.resources(snapshot.id)],
        store.charges.of_patient("general", "syn-1"),
        store.charges.packet("urn:x|written"),
        store.charges.enrolments("general", "syn-1"),
        store.changes.of_patient("general", "syn-1"),
        store.months.of_patient("general", "syn-1"),
        store.time_log.of_patient("general", "syn-1"),
        store.attestations.of_patient("general", "syn-1"),
        store.attestations.episodes("general", "syn-1"),
        store.denials.of_patient("general", "syn-1"),
    ]


def test_nothing_is_lost_and_what_was_under_way_is_taken_up(earlier, revision, now):
    with pytest.raises(SchemaOutdated, match=f"at revision {revision}"):
        earlier.database.check_schema()
    assert run_migrate([]) == 0
    assert Health(earlier.database).readiness() is Readiness.OK
    assert earlier.launches.get_tokens("s1").access_token == "access"
    assert what_is_kept(earlier)[2] == ["Observation/o1"]
    charges = {row.key: row for row in earlier.charges.of_patient("general", "syn-1")}
    assert {key: row.state for key, row in charges.items()} == {
        "urn:x|written": ChargeState.WITHDRAWN if revision >= "0003" else ChargeState.CONFIRMED,
        "urn:x|refused": ChargeState.REFUSED,
        "urn:x|under-way": ChargeState.SENT,
    }
    assert charges["urn:x|refused"].problem == "No such account"
    assert earlier.charges.packet("urn:x|written") == b'{"written": {"resourceType": "ChargeItem"}}'
    later, lease = now + timedelta(hours=1), timedelta(seconds=20)
    assert earlier.charges.claim(charges["urn:x|under-way"], "next", later, lease)
    if revision >= "0002":
        (entry,) = earlier.time_log.of_patient("general", "syn-1")
        assert entry.counts
        (stated,) = earlier.attestations.of_patient("general", "syn-1")
        assert stated.stands
    if revision >= "0003":
        (change,) = earlier.changes.of_patient("general", "syn-1")
        assert change.state is ChargeState.CONFIRMED
        assert earlier.changes.packet(change_id("general", "c1", "1")) == b'{"taken back": true}'
        assert earlier.months.certified("general", "syn-1", [date(2026, 2, 3)]) == date(2026, 2, 1)
    if revision >= "0007":
        (denial,) = earlier.denials.of_patient("general", "syn-1")
        assert denial.identifier == "urn:x|written"


def test_the_trail_holds_and_goes_on(earlier, now):
    run_migrate([])
    before = earlier.audit.check()
    assert before.fault is None
    earlier.audit.add(now, "chart-opened", patient="syn-1")
    assert (earlier.audit.check().fault, earlier.audit.check().entries) == (None, before.entries + 1)


def test_everything_is_sealed_anew_and_says_the_same(earlier, capsys):
    run_migrate([])
    before = what_is_kept(earlier)
    assert run_keys(["reseal"]) == 0
    assert "none of an earlier version is left" in capsys.readouterr().out
    assert what_is_kept(earlier) == before
    assert Resealing(earlier.database, earlier.vault).need().done


def test_upgrading_again_changes_nothing(earlier):
    run_migrate([])
    before = what_is_kept(earlier)
    assert run_migrate([]) == 0
    assert what_is_kept(earlier) == before
