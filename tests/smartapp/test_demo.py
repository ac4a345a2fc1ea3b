"""`smartapp demo --check` is the main job, end to end, in one command."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import pytest
import requests

from smartapp.commands import demo as command
from smartapp.commands.demo import Demo, run

PROGRAM = "import sys; from smartapp.cli import main; sys.exit(main())"


def test_the_check_drives_the_whole_way_and_names_the_charge():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "demo", "--check", "--readings", "200", "--as-of", "2026-03-31"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "opened the suggestion 98980-2026-02-01" in done.stdout, "it is told on the day that is given"
    assert re.fullmatch(r"ChargeItem/\S+", done.stdout.strip().splitlines()[-1])


def test_the_demos_folder_is_private_and_gone_afterwards():
    with Demo(readings=50) as demo:
        folder = demo.folder
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_past_the_last_day_that_rules_are_known_for_the_demo_stays_on_it_and_says_so(monkeypatch):
    monkeypatch.setattr(command, "_last_day_of_rules", lambda site: date(2026, 4, 15))
    with Demo(readings=50) as demo:
        assert demo.begins.date() == date(2026, 4, 15)
        told = datetime.now(UTC) + demo.settings.clock_ahead
        assert abs(told - demo.begins) < timedelta(minutes=1)
        assert "It is 15 Apr 2026 here." in requests.get(f"{demo.app_url}/", timeout=60).text
        assert "Charts as of 2026-04-15" in requests.get(f"{demo.ehr_url}/", timeout=60).text


def test_on_another_day_it_keeps_the_machines_time_and_says_no_day(monkeypatch):
    monkeypatch.setattr(command, "_last_day_of_rules", lambda site: date.max)
    with Demo(readings=50) as demo:
        assert not demo.settings.clock_ahead
        assert " here." not in requests.get(f"{demo.app_url}/", timeout=60).text


@pytest.mark.parametrize("day", ["yesterday", "2026-02-29", "2026-04-15T12:00Z"])
def test_a_day_that_is_none_is_one_line_and_status_two(day, capsys):
    assert run(["--check", "--as-of", day]) == 2
    assert "--as-of" in capsys.readouterr().err


def test_an_unknown_option_is_one_line_and_status_two(capsys):
    assert run(["--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err
