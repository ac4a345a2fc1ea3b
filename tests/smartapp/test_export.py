"""`smartapp export`: what comes, what is missing and said so, and how it goes on after it stopped."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from launch.bulk import Named
from smartapp.commands.export import run
from smartapp.commands.sweep import run as sweep
from smartapp.population.exported import ExportFolder
from smartapp.population.sealed import Opener
from tests.support.exports import ExportingEhr
from tests.support.sandbox import DAY, LONG, held

SITE = Path(__file__).parents[2] / "launch" / "sandbox" / "site.yaml"
Made = Callable[..., ExportingEhr]


@pytest.fixture
def make_ehr(tmp_path, monkeypatch) -> Iterator[Made]:
    made: list[ExportingEhr] = []

    def make(**settings: Any) -> ExportingEhr:
        made.append(ExportingEhr(tmp_path, monkeypatch, **{"crowd": 30, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def export(to: Path, *options: str) -> int:
    return run(["hospital", "--loopback", "--to", str(to), *options])


def records(folder: Path) -> list[bytes]:
    """Every line that lies in an export's files, sorted."""
    opened = Opener([os.environ["SMARTAPP_KEYS"].encode()])
    found: list[bytes] = []
    for file in sorted(folder.glob("*.sealed")):
        with opened(file) as lines:
            found += lines
    return sorted(found)


def swept(folder: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a sweep says of an export."""
    options = ["--state", str(state), "--as-of", DAY.isoformat(), "--site", str(SITE), "--workers", "1"]
    assert sweep(["full", str(folder), *options]) == 0
    told = capsys.readouterr()
    return told.out + told.err


@pytest.mark.parametrize("algorithm", ["ES384", "RS384"])
def test_everything_the_ehr_names_comes_and_is_sealed(make_ehr, tmp_path, capsys, algorithm):
    make_ehr(algorithm=algorithm)
    folder = tmp_path / "export"
    assert export(folder) == 0
    people = [line for line in records(folder) if b'"resourceType":"Patient"' in line]
    assert len(people) == 30
    assert "5 files" in capsys.readouterr().out
    assert folder.stat().st_mode & 0o777 == 0o700
    plain = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"syn-crowd" not in plain
    assert b"Synthetic" not in plain


def test_what_is_exported_is_swept_as_files_are(make_ehr, tmp_path, capsys):
    make_ehr()
    folder = tmp_path / "export"
    assert export(folder) == 0
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "all.ndjson").write_bytes(b"".join(records(folder)))
    assert "30 patients, 30 decided" in swept(folder, tmp_path / "state", capsys)
    swept(tmp_path / "plain", tmp_path / "other", capsys)
    told = []
    for state in ("state", "other"):
        assert sweep(["rows", str(tmp_path / state)]) == 0
        told.append(sorted(capsys.readouterr().out.splitlines()))
    assert told[0] == told[1] != []


def test_a_group_an_ehr_does_not_know_is_no_export(make_ehr, tmp_path, capsys):
    make_ehr()
    assert export(tmp_path / "export", "--group", "nobody") == 2
    assert "offers no such export (status 404)" in capsys.readouterr().err


def test_everybody_is_the_charts_too_with_whoever_treats_them(make_ehr, tmp_path, capsys):
    make_ehr()
    assert export(tmp_path / "export", "--everybody") == 0
    told = b"".join(records(tmp_path / "export"))
    for name in (b"ready-musculoskeletal", b"syn-crowd-000029", b"syn-physician-role"):
        assert name in told


def test_only_what_changed_since_comes_and_what_was_taken_back(make_ehr, tmp_path, capsys):
    ehr = make_ehr(crowd=150)
    assert export(tmp_path / "first") == 0
    moment = json.loads((tmp_path / "first" / "manifest.json").read_text())["transactionTime"]
    ehr.a_day_passes()
    assert export(tmp_path / "second", "--since", moment) == 0
    lines = records(tmp_path / "second")
    assert 50 < len(lines) <= 150 + 20
    assert any(b"DELETE" in line for line in lines)
    assert not any(b'"resourceType":"Patient"' in line for line in lines)


# What is not there


def test_a_type_that_was_not_granted_is_said_and_missing_of_everybody(make_ehr, tmp_path, capsys):
    make_ehr(scope="system/Patient.rs system/Observation.rs system/Device.rs system/Encounter.rs")
    folder = tmp_path / "export"
    assert export(folder) == 0
    assert "ChargeItem (not granted to the backend client)" in capsys.readouterr().out
    said = swept(folder, tmp_path / "state", capsys)
    assert "incomplete, for every patient: CarePlan (not-granted); ChargeItem (not-granted)" in said


def test_a_type_that_was_not_asked_for_is_missing_of_everybody(make_ehr, tmp_path, capsys):
    make_ehr()
    folder = tmp_path / "export"
    assert export(folder, "--types", "Patient,Observation,Device,Encounter,Practitioner") == 0
    assert "ChargeItem (not-searched)" in swept(folder, tmp_path / "state", capsys)


@pytest.mark.parametrize("status", ["export_missing", "export_links_over"])
def test_a_file_that_is_not_there_is_named_and_missing_of_everybody(make_ehr, tmp_path, capsys, status):
    ehr = make_ehr()
    setattr(ehr.quirks, status, "Encounter" if status == "export_missing" else True)
    folder = tmp_path / "export"
    assert export(folder) == 3
    told = capsys.readouterr().out
    assert "MISSING: Encounter.00003: The EHR has it no more" in told
    assert "--again" in told
    if status == "export_missing":
        assert "Encounter (file-not-read)" in swept(folder, tmp_path / "state", capsys)


def test_asked_anew_all_of_it_comes(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_links_over = True
    assert export(tmp_path / "export") == 3
    ehr.quirks.export_links_over = False
    assert export(tmp_path / "export", "--again") == 0
    assert len(ehr.running.sandbox.jobs._jobs) == 1, "what is done with is given back; the first never was"


def test_a_file_that_ends_within_a_record_is_kept_and_said(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_cut_off = "Observation"
    folder = tmp_path / "export"
    assert export(folder) == 3
    assert "MISSING: Observation.00002: ends in the middle of a record" in capsys.readouterr().out
    said = swept(folder, tmp_path / "state", capsys)
    assert "30 patients" in said
    assert "incomplete, for every patient: Observation (file-not-read)" in said
    ehr.quirks.export_cut_off = ""
    assert export(folder) == 0
    assert "incomplete" not in swept(folder, tmp_path / "state", capsys)


def test_a_file_of_fewer_records_than_the_manifest_says_is_not_whole(make_ehr, tmp_path, capsys, monkeypatch):
    make_ehr()
    monkeypatch.setattr("launch.sandbox.bulk._joined", lambda lines: iter([next(lines, b"")]))
    assert export(tmp_path / "export", "--group", "charts", "--types", "Patient") == 3
    assert "MISSING: Patient.00000: holds 1 of" in capsys.readouterr().out


def test_a_page_instead_of_a_file_is_no_file(make_ehr, tmp_path, capsys, monkeypatch):
    make_ehr()
    monkeypatch.setattr("launch.sandbox.bulk._joined", lambda _: iter([b"<html>Sign in</html>"]))
    assert export(tmp_path / "export") == 3
    assert "MISSING: Patient.00000: no NDJSON" in capsys.readouterr().out
    assert not list((tmp_path / "export").glob("*.sealed"))


def test_what_the_ehr_says_that_it_could_not_export_is_missing(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_errors = True
    folder = tmp_path / "export"
    assert export(folder) == 3
    assert "error.00005: 1 times the EHR says that something is missing" in capsys.readouterr().out
    assert "incomplete, for every patient: of any type" in swept(folder, tmp_path / "state", capsys)


def test_files_at_an_address_that_nobody_listed_are_not_asked_for(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_elsewhere = True
    assert export(tmp_path / "export") == 3
    told = capsys.readouterr()
    assert "It lies at an address that is not listed for this EHR's exports" in told.out
    assert "elsewhere.example" not in told.out + told.err


# What passes


def test_a_broken_connection_and_a_busy_ehr_are_no_reason_to_give_up(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_busy, ehr.quirks.export_polls, ehr.quirks.export_retry_after = 1, 2, 0
    ehr.quirks.export_breaks = 2
    assert export(tmp_path / "export") == 0


def test_an_ehr_that_is_not_done_in_time_is_asked_about_the_same_export_later(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_polls = 1
    assert export(tmp_path / "export", "--wait", "0") == 4
    assert "the same call goes on asking" in capsys.readouterr().err
    assert export(tmp_path / "export") == 0
    assert "going on with the export that was asked for" in capsys.readouterr().err


def test_a_token_that_ends_while_files_are_fetched_is_renewed(make_ehr, tmp_path):
    ehr = make_ehr()
    seen: list[str] = []
    answer = ehr.running.app.wsgi_app

    def forget_tokens(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].endswith(".ndjson") and environ["HTTP_AUTHORIZATION"] not in seen:
            seen.append(environ["HTTP_AUTHORIZATION"])
            if len(seen) == 1:
                with ehr.running.sandbox.database.write() as connection:
                    connection.execute("UPDATE credential SET spent = 1 WHERE kind = 'access'")
        return answer(environ, start_response)

    ehr.running.app.wsgi_app = forget_tokens  # type: ignore[method-assign]
    assert export(tmp_path / "export", "--at-once", "1") == 0
    assert len(seen) == 2


def test_files_that_need_no_token_are_fetched_without(make_ehr, tmp_path):
    ehr = make_ehr()
    ehr.quirks.export_open_files = True
    sent = []
    answer = ehr.running.app.wsgi_app

    def look(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].endswith(".ndjson"):
            sent.append(environ.get("HTTP_AUTHORIZATION"))
        return answer(environ, start_response)

    ehr.running.app.wsgi_app = look  # type: ignore[method-assign]
    assert export(tmp_path / "export") == 0
    assert set(sent) == {None}


# What stops, and goes on


def test_a_run_that_was_killed_goes_on_and_fetches_nothing_twice(make_ehr, tmp_path):
    ehr = make_ehr()
    folder = tmp_path / "export"
    fetched: list[str] = []
    answer = ehr.running.app.wsgi_app

    def look(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].endswith(".ndjson"):
            fetched.append(environ["PATH_INFO"].rpartition("/")[2])
        return answer(environ, start_response)

    ehr.running.app.wsgi_app = look  # type: ignore[method-assign]
    with held(ehr.running, "/Observation.0000.ndjson") as gate:
        command = ["hospital", "--loopback", "--to", str(folder), "--at-once", "1"]
        process = subprocess.Popen(
            [sys.executable, "-m", "smartapp.cli", "export", *command], stderr=subprocess.DEVNULL
        )
        gate.wait_for()
        process.send_signal(signal.SIGKILL)
        process.wait(LONG)
    assert [path.name for path in folder.glob("*.sealed")] != []
    before = list(fetched)
    fetched.clear()
    assert export(folder) == 0
    assert set(before) - {"Observation.0000.ndjson"} == {"Patient.0000.ndjson", "Device.0000.ndjson"}
    assert set(fetched) == {"Observation.0000.ndjson", "Encounter.0000.ndjson", "Practitioner.0000.ndjson"}
    assert len(records(folder)) == len(set(records(folder)))
    fetched.clear()
    assert export(folder) == 0
    assert fetched == []


def test_until_the_last_file_is_here_a_sweep_knows_which_are_not(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_last_files = 3
    folder = tmp_path / "export"
    assert export(folder, "--at-once", "1") == 3
    manifest = json.loads((folder / "manifest.json").read_text())
    named = {one["url"] for one in manifest["output"]}
    assert {path.name for path in folder.glob("*.sealed")} < named


def test_a_folder_of_something_else_is_left_alone(make_ehr, tmp_path, capsys):
    make_ehr()
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("hello")
    assert export(other) == 2
    assert "not empty, and no export of ours" in capsys.readouterr().err
    assert export(tmp_path / "export") == 0
    assert export(tmp_path / "export", "--types", "Patient") == 2
    assert "holds an export of something else" in capsys.readouterr().err


def test_a_folder_that_others_may_look_into_is_refused(make_ehr, tmp_path, capsys):
    make_ehr()
    assert export(tmp_path / "export") == 0
    (tmp_path / "export").chmod(0o755)
    assert export(tmp_path / "export") == 2
    assert "chmod 700" in capsys.readouterr().err


def test_two_exports_into_one_folder_do_not_run_at_once(make_ehr, tmp_path, capsys):
    make_ehr()
    assert export(tmp_path / "export") == 0
    folder = ExportFolder(tmp_path / "export", [os.environ["SMARTAPP_KEYS"].encode()])
    with folder.locked():
        for options in ([], ["--again"]):
            assert export(tmp_path / "export", *options) == 2
            assert "another export is under way" in capsys.readouterr().err
    assert records(tmp_path / "export")


def test_an_export_that_the_ehr_forgot_is_asked_for_anew(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_polls = 1
    assert export(tmp_path / "export", "--wait", "0") == 4
    ehr.running.sandbox.jobs._jobs.clear()
    assert export(tmp_path / "export") == 2
    assert "--again" in capsys.readouterr().err
    assert export(tmp_path / "export", "--again") == 0


@pytest.mark.parametrize(
    ("quirk", "said"),
    [("no_export", "offers no such export"), ("export_fails", "could not make the export (status 500)")],
)
def test_what_an_ehr_does_not_do_is_one_line(make_ehr, tmp_path, capsys, quirk, said):
    ehr = make_ehr()
    setattr(ehr.quirks, quirk, True)
    assert export(tmp_path / "export") == 2
    [line] = [one for one in capsys.readouterr().err.splitlines() if "makes the export" not in one]
    assert said in line


def test_a_type_that_the_ehr_does_not_have_is_told_with_what_to_do(make_ehr, tmp_path, capsys):
    make_ehr()
    assert export(tmp_path / "export", "--types", "Patient,Nonsense") == 2
    told = capsys.readouterr().err
    assert "does not take the request for an export as it was made (status 400" in told
    assert "--types" in told


def test_a_client_that_is_not_registered_is_told_by_what_oauth_calls_it(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.issuers.write_text(ehr.issuers.read_text().replace("backend-client", "somebody-else"))
    assert export(tmp_path / "export") == 2
    assert "did not accept this app's request for access (invalid_client)" in capsys.readouterr().err


@pytest.mark.threat("5.13")
def test_no_token_no_address_and_nobodys_record_is_told_or_logged(make_ehr, tmp_path, capsys, caplog):
    ehr = make_ehr()
    seen: set[str] = set()
    answer = ehr.running.app.wsgi_app

    def look(environ: dict[str, Any], start_response: Any) -> Any:
        seen.add(environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer "))
        return answer(environ, start_response)

    ehr.running.app.wsgi_app = look  # type: ignore[method-assign]
    ehr.quirks.export_cut_off = "Observation"
    with caplog.at_level(logging.DEBUG):
        assert export(tmp_path / "export") == 3
    told = capsys.readouterr()
    ours = "\n".join(
        one.getMessage() for one in caplog.records if one.name.startswith(("smartapp", "launch"))
    )
    said = told.out + told.err + ours
    assert not any(token in said for token in seen if token)
    assert "syn-crowd" not in said
    assert "bulk/" not in said


@pytest.mark.threat("5.12")
def test_a_long_line_that_comes_in_small_pieces_is_taken_in_once(tmp_path):
    key = Fernet.generate_key()
    folder = ExportFolder(tmp_path / "export", [key])
    lines = [b'{"a": 1}\n', b'{"b": "' + b"x" * 16_000_000 + b'"}\n', b'{"c": 1}\n', b'{"d": 1}']
    text, began = b"".join(lines), time.process_time()
    with folder.writer(0, Named("output", "Observation", "")) as out:
        for at in range(0, len(text), 256):
            out.feed(text[at : at + 256])
        out.close()
    assert time.process_time() - began < 5
    assert (out.fetched.records, out.fetched.fault) == (4, "")
    (part,) = out.fetched.parts
    with Opener([key])(folder.folder / part) as kept:
        assert kept.read() == text + b"\n"
