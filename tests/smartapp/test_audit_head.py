"""The head of the trail, kept elsewhere, shows later that the trail was rewritten or cut off."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from cryptography.fernet import Fernet

from smartapp.commands.audit import run
from smartapp.configuration.signing_keys import KeyAlgorithm, SigningKeys, public_pem
from smartapp.store import Store
from tests.smartapp.conftest import Owner, make_tables
from tests.support.sandbox import LONG

KEY = Fernet.generate_key()


@pytest.fixture
def trail(database_url, tmp_path, monkeypatch, now) -> Iterator[Store]:
    """Three entries, and a key to sign with."""
    make_tables(database_url)
    keys = SigningKeys(tmp_path / "keys")
    (tmp_path / "audit.pub").write_text(public_pem(keys.new(KeyAlgorithm.ED25519, now)))
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", database_url)
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(keys.folder))
    monkeypatch.setenv("SMARTAPP_KEYS", KEY.decode())
    with closing(Store(database_url, [KEY])) as store:
        for _ in range(3):
            store.audit.add(now, "chart-opened", patient="syn-1")
        yield store


@pytest.fixture
def heads(trail: Store, tmp_path: Path) -> Path:
    """A file with the head of the first night."""
    file = tmp_path / "heads.ndjson"
    assert run(["head", "--to", str(file)]) == 0
    return file


def verify(heads: Path) -> int:
    return run(["verify", "--head", str(heads), "--key", str(heads.with_name("audit.pub"))])


def test_each_night_adds_a_line_for_its_owner_alone_that_names_nobody(trail, heads, now):
    trail.audit.add(now, "chart-opened", patient="syn-2")
    assert run(["head", "--to", str(heads)]) == 0
    lines = [json.loads(json.loads(line)["head"]) for line in heads.read_text().splitlines()]
    assert [line["entries"] for line in lines] == [3, 4]
    assert heads.stat().st_mode & 0o777 == 0o600
    assert "syn-" not in heads.read_text()
    assert verify(heads) == 0


def test_a_trail_that_grew_and_was_purged_passes_through_its_head(trail, heads, now):
    trail.audit.add(now, "chart-opened", patient="syn-2")
    trail.audit.empty(now.replace(year=now.year + 1), now)
    assert verify(heads) == 0


@pytest.mark.parametrize(("entries", "said"), [(3, "was rewritten"), (2, "was cut off")])
def test_a_trail_made_anew_with_the_keys_or_cut_off_is_found(
    trail, heads, owner: Owner, now, capsys, entries, said
):
    owner.drop_guards("audit")
    owner.run("DELETE FROM audit", f"UPDATE audit_head SET position = 0, digest = '{'0' * 64}'")
    for _ in range(entries):
        trail.audit.add(now, "chart-opened", patient="somebody else")
    assert run(["verify"]) == 0, "in itself it holds"
    assert verify(heads) == 1
    assert said in capsys.readouterr().out


def test_a_head_that_was_changed_is_no_head(trail, heads, capsys):
    heads.write_text(heads.read_text().replace('\\"entries\\":3', '\\"entries\\":2'))
    assert verify(heads) == 1
    assert "not signed with this key" in capsys.readouterr().out


def test_of_a_trail_that_does_not_hold_nothing_is_signed(trail, heads, owner: Owner, capsys):
    owner.drop_guards("audit")
    owner.run("UPDATE audit SET previous = digest WHERE position = 2")
    assert run(["head", "--to", str(heads)]) == 1
    assert "Nothing was signed." in capsys.readouterr().err
    assert len(heads.read_text().splitlines()) == 1


def test_a_head_goes_to_a_log_and_is_read_back_from_its_line(trail, tmp_path, capsys):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as log:
        log.bind(("127.0.0.1", 0))
        log.settimeout(LONG)
        assert run(["head", "--to", f"syslog://127.0.0.1:{log.getsockname()[1]}"]) == 0
        line = log.recv(4096)
    assert line.startswith(b"<86>smartapp-audit-head: {")
    kept = tmp_path / "syslog"
    kept.write_bytes(b"Apr  1 12:00:00 host " + line.removeprefix(b"<86>") + b"\n")
    assert verify(kept) == 0


class Archive(BaseHTTPRequestHandler):
    """Takes what comes to /heads."""

    taken: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.taken.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204 if self.path == "/heads" else 302)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_head_goes_to_an_address_and_what_does_not_take_it_is_told(trail, tmp_path, capsys):
    server = HTTPServer(("127.0.0.1", 0), Archive)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        assert run(["head", "--to", f"{base}/heads"]) == 0
        assert run(["head", "--to", f"{base}/elsewhere"]) == 2
    finally:
        server.shutdown()
        thread.join(LONG)
        server.server_close()
    assert "it answered 302" in capsys.readouterr().err
    kept = tmp_path / "archive"
    kept.write_bytes(Archive.taken[0])
    assert verify(kept) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["head", "--to", "http://archive.example/heads"], "over https"),
        (["verify", "--head", "FILE"], "--key belongs together"),
        (["verify", "--head", "EMPTY", "--key", "KEY"], "no head in that file"),
        (["verify", "--head", "KEY", "--key", "KEY"], "is no head of an audit trail"),
    ],
)
def test_what_cannot_be_done_is_one_line(trail, heads, tmp_path, capsys, arguments, said):
    names = {"FILE": heads, "EMPTY": tmp_path / "empty", "KEY": tmp_path / "audit.pub"}
    names["EMPTY"].write_text("")
    capsys.readouterr()
    assert run([str(names.get(one, one)) for one in arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
