"""`smartapp nightly`: a first night, nights after it, and whatever stops one of them."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from smartapp.commands.nightly import run
from smartapp.commands.sweep import run as sweep
from smartapp.population.state import Head
from tests.support.exports import ExportingEhr
from tests.support.sandbox import DAY, LONG, NOON, held

SITE = Path(__file__).parents[2] / "launch" / "sandbox" / "site.yaml"
NEXT = DAY + timedelta(days=1)
Made = Callable[..., ExportingEhr]


@pytest.fixture
def make_ehr(tmp_path, monkeypatch) -> Iterator[Made]:
    made: list[ExportingEhr] = []

    def make(**settings: Any) -> ExportingEhr:
        made.append(ExportingEhr(tmp_path, monkeypatch, **{"crowd": 40, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def options(folder: Path, day: date, *more: str) -> list[str]:
    told = ["hospital", "--loopback", "--dir", str(folder), "--as-of", day.isoformat(), "--site", str(SITE)]
    return [*told, "--workers", "1", *more]


def night(folder: Path, day: date, *more: str) -> int:
    return run(options(folder, day, *more))


def somebody_laid(link: Path) -> Path:
    """A link where a file is about to be made; the file that it leads to."""
    theirs = link.parent / "theirs"
    theirs.write_bytes(b"theirs")
    link.symlink_to(theirs)
    return theirs


def rows(state: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    capsys.readouterr()
    assert sweep(["rows", str(state)]) == 0
    return sorted(capsys.readouterr().out.splitlines())


def swept_anew(folder: Path, day: date, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The rows of a first night on that day, in a folder of its own."""
    assert night(folder, day) == 0
    return rows(folder / "state", capsys)


def mark(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "nightly.json").read_text())
    return told


def test_a_state_that_another_version_kept_is_made_anew_from_a_whole_export(
    make_ehr, tmp_path, capsys, monkeypatch
):
    ehr = make_ehr()
    folder = tmp_path / "night"
    with monkeypatch.context() as patch:
        patch.setattr("smartapp.population.state.FORMAT", 1)
        patch.setattr("smartapp.population.sweep.Head", partial(Head, format=1))
        assert night(folder, DAY) == 0
    ehr.a_day_passes()
    capsys.readouterr()
    assert night(folder, NEXT, "--rows", str(tmp_path / "rows")) == 0
    told = capsys.readouterr().err
    assert "kept by another version of this app: everybody anew, from a whole export" in told
    assert "export: everything" in told
    assert sorted((tmp_path / "rows").read_text().splitlines()) == swept_anew(tmp_path / "anew", NEXT, capsys)


def test_after_a_whole_first_night_the_next_brings_the_difference_alone(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    folder = tmp_path / "night"
    (tmp_path / "changes").mkdir()
    elsewhere = somebody_laid(tmp_path / ".rows.tmp")
    handed = ["--rows", str(tmp_path / "rows"), "--changes", str(tmp_path / "changes")]
    assert night(folder, DAY, *handed) == 0
    first = capsys.readouterr().err
    assert "export: everything" in first
    assert "40 patients, 40 decided" in first
    before = (tmp_path / "rows").read_text().splitlines()
    [changes] = (tmp_path / "changes").iterdir()
    assert changes.name == "changes-2026-04-15-g000001.ndjson"
    assert len(changes.read_text().splitlines()) == len(before)
    assert (tmp_path / "rows").stat().st_mode & 0o777 == 0o600
    assert elsewhere.read_bytes() == b"theirs", "nothing is written through a link that somebody laid"
    ehr.a_day_passes()
    assert night(folder, NEXT, *handed) == 0
    second = capsys.readouterr().err
    assert "export: what changed since 2026-04-15T16:00:0" in second
    changes = tmp_path / "changes" / "changes-2026-04-16-g000002.ndjson"
    assert 0 < len(changes.read_text().splitlines()) < len(before)
    now = rows(folder / "state", capsys)
    assert sorted((tmp_path / "rows").read_text().splitlines()) == now
    assert now == swept_anew(tmp_path / "anew", NEXT, capsys)
    assert now != sorted(before)


def test_the_export_goes_once_it_is_swept_and_stays_where_that_is_asked(make_ehr, tmp_path):
    ehr = make_ehr()
    folder = tmp_path / "night"
    assert night(folder, DAY) == 0
    assert {one.name for one in folder.iterdir()} == {"lock", "nightly.json", "state"}
    assert folder.stat().st_mode & 0o777 == 0o700
    ehr.a_day_passes()
    assert night(folder, NEXT, "--keep-export") == 0
    [kept] = folder.glob("export-2026*")
    assert (kept / "manifest.json").exists()


def test_what_is_missing_is_swept_by_nobody_and_brought_by_the_next_call(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    folder = tmp_path / "night"
    assert night(folder, DAY) == 0
    since = mark(folder)["since"]
    ehr.a_day_passes()
    ehr.quirks.export_cut_off = "Observation"
    assert night(folder, NEXT) == 3
    told = capsys.readouterr().err
    assert "MISSING: Observation" in told
    assert "nothing was swept" in told
    assert mark(folder)["since"] == since
    ehr.quirks.export_cut_off = ""
    assert night(folder, NEXT) == 0
    assert mark(folder)["since"] > since
    assert rows(folder / "state", capsys) == swept_anew(tmp_path / "anew", NEXT, capsys)


def test_what_is_missing_is_incomplete_where_it_is_swept_all_the_same(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_missing = "Encounter"
    folder = tmp_path / "night"
    assert night(folder, DAY, "--sweep-incomplete") == 3
    assert "incomplete, for every patient: Encounter (file-not-read)" in capsys.readouterr().err
    assert all(json.loads(row)["incomplete"] for row in rows(folder / "state", capsys))


def test_links_that_are_over_are_asked_for_anew_once(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    ehr.quirks.export_last_files = 3
    folder = tmp_path / "night"
    assert night(folder, DAY) == 3
    assert "asking for a new one" in capsys.readouterr().err
    ehr.quirks.export_last_files = 0
    assert night(folder, DAY) == 0


def test_an_ehr_that_needs_longer_is_asked_about_the_same_export_then_about_what_changed(
    make_ehr, tmp_path, capsys
):
    ehr = make_ehr()
    ehr.quirks.export_polls = 1
    folder = tmp_path / "night"
    assert night(folder, DAY, "--wait", "0") == 4
    ehr.a_day_passes()
    assert night(folder, NEXT) == 0
    told = capsys.readouterr().err
    assert "what was begun before is swept; now what changed since" in told
    assert rows(folder / "state", capsys) == swept_anew(tmp_path / "anew", NEXT, capsys)


MOMENTS = ["GET /fhir/r4/Group", "/Observation.0000.ndjson", "DELETE /fhir"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_while_it_exports_the_same_call_goes_on(make_ehr, tmp_path, capsys, moment):
    ehr = make_ehr()
    folder = tmp_path / "night"
    killed(ehr, folder, moment)
    assert night(folder, DAY) == 0
    assert rows(folder / "state", capsys) == swept_anew(tmp_path / "anew", DAY, capsys)


def killed(ehr: ExportingEhr, folder: Path, moment: str) -> None:
    with held(ehr.running, moment) as gate:
        command = [sys.executable, "-m", "smartapp.cli", "nightly", *options(folder, DAY)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        gate.wait_for()
        process.send_signal(signal.SIGKILL)
        process.wait(LONG)


STEPS = ["_swept", "_hand_out", "_write_mark", "_clear"]


@pytest.mark.parametrize("step", STEPS)
def test_stopped_at_any_step_of_a_night_the_same_call_ends_it(make_ehr, tmp_path, capsys, monkeypatch, step):
    ehr = make_ehr()
    folder, changes = tmp_path / "night", tmp_path / "changes"
    changes.mkdir()
    assert night(folder, DAY) == 0
    ehr.a_day_passes()
    from smartapp.commands.nightly import _Night

    whole, calls = getattr(_Night, step), []

    def stops(self: Any, *given: Any) -> Any:
        calls.append(step)
        if step == "_swept":
            whole(self, *given)
        if step != "_hand_out" or len(calls) > 1:
            raise OSError(28, "No space left on device")
        return whole(self, *given)

    monkeypatch.setattr(_Night, step, stops)
    assert night(folder, NEXT, "--changes", str(changes)) == 2
    assert "No space left" in capsys.readouterr().err
    monkeypatch.setattr(_Night, step, whole)
    assert night(folder, NEXT, "--changes", str(changes)) == 0
    told = (changes / "changes-2026-04-16-g000002.ndjson").read_text()
    assert rows(folder / "state", capsys) == swept_anew(tmp_path / "anew", NEXT, capsys)
    assert told, "what that night changed is handed out, whenever it was stopped"


def test_two_at_once_are_one_too_many(make_ehr, tmp_path, capsys):
    make_ehr()
    folder = tmp_path / "night"
    folder.mkdir(mode=0o700)
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert night(folder, DAY) == 2
    assert "another nightly run is under way" in capsys.readouterr().err
    os.close(descriptor)
    assert night(folder, DAY) == 0


def test_after_so_many_days_everything_is_exported_again(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    folder = tmp_path / "night"
    assert night(folder, DAY) == 0
    ehr.a_day_passes()
    assert night(folder, NEXT, "--full-every", "1") == 0
    assert capsys.readouterr().err.count("export: everything") == 2
    assert mark(folder)["full_on"] == NEXT.isoformat()


def test_another_ehrs_unfinished_export_is_dropped(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    folder = tmp_path / "night"
    assert night(folder, DAY) == 0
    ehr.a_day_passes()
    ehr.quirks.export_polls = 1
    assert night(folder, NEXT, "--wait", "0") == 4
    assert night(folder, NEXT, "--full") == 0
    assert "it is dropped" in capsys.readouterr().err


def test_a_call_that_cannot_work_asks_the_ehr_for_nothing(make_ehr, tmp_path, capsys):
    ehr = make_ehr()
    assert run(["hospital", "--loopback", "--dir", str(tmp_path / "night")]) == 2
    assert "no time zone" in capsys.readouterr().err
    assert not ehr.running.sandbox.jobs._jobs


@pytest.mark.parametrize(("group", "incomplete"), [("crowd", True), ("", False)])
def test_who_joins_a_group_is_incomplete_until_everything_is_exported_again(
    make_ehr, tmp_path, capsys, monkeypatch, group, incomplete
):
    """Only what changed since comes of them: a charge of before would be taken for absent."""
    ehr = make_ehr()
    folder, crowd = tmp_path / "night", ehr.running.sandbox.crowd
    whom = ["--group", group] if group else ["--everybody"]
    assert night(folder, DAY, *whom) == 0
    joined = {f"Patient/syn-crowd-{number:06d}" for number in range(40, 60)}

    def noted_late(method: Any) -> Any:
        late = {"lastUpdated": (NOON + timedelta(hours=1)).isoformat()}
        return lambda self, number: {**method(self, number), **({"meta": late} if number >= 40 else {})}

    ehr.running.sandbox.crowd = replace(crowd, patients=60)
    ehr.a_day_passes()
    monkeypatch.setattr(type(crowd), "_person", noted_late(type(crowd)._person))
    monkeypatch.setattr(type(crowd), "_cuff", noted_late(type(crowd)._cuff))
    assert night(folder, NEXT, *whom) == 0
    told = of_the_crowd(folder, capsys)
    assert {row["incomplete"] for row in told if row["patient"] in joined} == {incomplete}
    assert {row["incomplete"] for row in told if row["patient"] not in joined} == {False}
    assert night(folder, NEXT, *whom, "--full") == 0
    assert {row["incomplete"] for row in of_the_crowd(folder, capsys)} == {False}


def of_the_crowd(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(row) for row in rows(folder / "state", capsys)]
    return [row for row in found if row["patient"].startswith("Patient/syn-crowd")]


@pytest.mark.parametrize("status", [0, 2])
def test_what_is_past_its_time_goes_when_the_night_is_over(make_ehr, tmp_path, monkeypatch, status):
    make_ehr()
    done: list[bool] = []

    def purges(_: list[str]) -> int:
        done.append((tmp_path / "night" / "nightly.json").exists())
        return status

    monkeypatch.setattr("smartapp.commands.purge.run", purges)
    assert night(tmp_path / "night", DAY, "--purge") == status
    assert done == [True]


def test_without_spark_it_says_what_to_install_and_asks_the_ehr_for_nothing(
    make_ehr, tmp_path, monkeypatch, capsys
):
    ehr = make_ehr()
    monkeypatch.setitem(sys.modules, "pyspark", None)
    assert night(tmp_path / "night", DAY, "--engine", "spark") == 2
    assert "pip install 'smart-remote-monitoring[spark]'" in capsys.readouterr().err
    assert not ehr.running.sandbox.jobs._jobs


@pytest.mark.threat("5.13")
def test_nothing_of_a_patient_is_told(make_ehr, tmp_path, capsys):
    make_ehr()
    assert night(tmp_path / "night", DAY, "--rows", str(tmp_path / "rows")) == 0
    told = capsys.readouterr()
    assert "syn-crowd" not in told.out + told.err
    plain = b"".join(path.read_bytes() for path in (tmp_path / "night").rglob("*") if path.is_file())
    assert b"syn-crowd" not in plain
