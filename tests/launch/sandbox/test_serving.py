"""The sandbox as a process: loopback only, an island, ready in one line, its store kept on disk."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import requests

import launch.sandbox
from launch.sandbox import Client, ConfigurationError, SandboxConfig, serve_sandbox
from launch.sandbox.__main__ import main

SOURCES = sorted(Path(launch.sandbox.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.5", "example.org", ""])
def test_it_refuses_to_bind_what_others_could_reach(bind):
    with pytest.raises(ConfigurationError):
        serve_sandbox(bind=bind)


@pytest.mark.parametrize(
    "base",
    [
        "http://example.org:80",
        "https://localhost:1",
        "http://localhost:1/ehr",
        "localhost",
        "http://10.0.0.1",
    ],
)
def test_it_refuses_a_base_url_that_is_not_this_machine(base):
    with pytest.raises(ConfigurationError):
        SandboxConfig(base, as_of=date(2026, 4, 1))


def test_it_is_an_island():
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, source
                names = [node.module or ""]
            for name in names:
                top = name.split(".")[0]
                assert top not in ("smartapp", "fhir_mappings"), source
                assert top != "launch" or name.startswith("launch.sandbox"), source


def test_a_process_says_in_one_line_that_it_is_ready():
    arguments = [
        "serve",
        "--as-of",
        "2026-04-01",
        "--readings",
        "10",
        "--redirect-uri",
        "http://127.0.0.1:9/c",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.sandbox", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("sandbox EHR ready at http://localhost:")
        base = line.split()[4]
        assert requests.get(f"{base}health", timeout=60).json() == {"status": "ok"}
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_its_clock_runs_as_far_ahead_as_it_is_told():
    """Every answer says when it was given, and it is the same clock that dates what is stored."""
    arguments = ["serve", "--as-of", "2030-02-28", "--readings", "10", "--clock-ahead", f"{10 * 86400}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "launch.sandbox", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        base = process.stdout.readline().split()[4]
        told = parsedate_to_datetime(requests.get(f"{base}health", timeout=60).headers["Date"])
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert abs(told - datetime.now(UTC) - timedelta(days=10)) < timedelta(seconds=20)


def test_a_store_on_disk_outlives_its_process(make_ehr, new_charge, tmp_path):
    first = make_ehr(data=tmp_path / "store")
    token = first.launched()["access_token"]
    first.fhir("POST", "ChargeItem", token, json=new_charge(key="kept"))
    first.running.close()
    again = make_ehr(data=tmp_path / "store")
    assert again.fhir("GET", "ChargeItem?identifier=kept", again.backend_token()).json()["total"] == 1
    assert (tmp_path / "store").stat().st_mode & 0o077 == 0


def test_a_store_of_another_day_is_refused(make_ehr, tmp_path, capsys):
    make_ehr(data=tmp_path / "store").running.close()
    assert main(["serve", "--data", str(tmp_path / "store"), "--as-of", "2026-05-01"]) == 2
    assert "another day" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--bind", "0.0.0.0"],
        ["serve", "--quirk", "nonsense"],
        ["serve", "--client", "no-such-file.json"],
    ],
)
def test_what_can_t_be_done_is_said_in_one_line(arguments, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("sandbox: ")
    assert error.count("\n") == 1


def test_a_registration_file_makes_a_client(make_ehr, tmp_path):
    text = (
        '{"client_id": "auditor", "type": "confidential-symmetric", "scope": "system/ChargeItem.rs",'
        ' "client_secret": "a-url-safe-secret-of-a-test", "grant_types": ["client_credentials"]}'
    )
    ehr = make_ehr(clients=(Client.from_json(text),))
    token = ehr.backend_token("system/ChargeItem.rs")
    assert ehr.fhir("GET", "ChargeItem?_count=1", token).json()["total"] > 0
    assert ehr.fhir("GET", "Patient", token).status_code == 403
