"""A sweep answers for everybody what `smartapp evaluate` answers, and goes on doing so night after night."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from smartapp.commands.evaluate import evaluate
from smartapp.commands.sweep import run as command_run
from smartapp.configuration.site_file import SiteFile, read_site_file
from smartapp.population import deciding, reports, work
from smartapp.population.blocks import NotOpened
from smartapp.population.deciding import Settings
from smartapp.population.engine import InProcess
from smartapp.population.processes import Processes
from smartapp.population.progress import Progress
from smartapp.population.rows import lines_of, rows_of
from smartapp.population.state import State, StateError
from smartapp.population.sweep import Asked, Report, sweep
from tests.support import populations as made
from tests.support.evaluation import write_site

CHARTS = int(os.environ.get("POPULATION_CHARTS", "40"))
"""Random charts of a population; `make population` sweeps 2,000."""
NIGHTS = 10
KILLS = int(os.environ.get("POPULATION_KILLS", "10"))
"""Moments at which a sweep is killed; `make population` kills at 80."""
KEYS = (Fernet.generate_key(),)
Answers = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> SiteFile:
    return read_site_file(write_site(tmp_path_factory.mktemp("site"), made.ZONE, "medicare"))


def swept(
    state: Path, paths: list[Path], as_of: date, site: SiteFile, *, night: bool = False, shards: int = 4
) -> Report:
    settings = Settings(made.ZONE, site)
    asked = Asked(tuple(paths), as_of, settings, night, None if night else shards)
    return sweep(State(state, KEYS, make=True), asked, InProcess(), Progress(None), lambda _: None)


def told(state: Path) -> tuple[bytes, Answers]:
    """All rows, sorted, and every patient's answer as `smartapp sweep why` gives it."""
    held = State(state, KEYS)
    generation, head = held.held()
    rows = b"".join(reports.rows(held, generation, head)).splitlines(keepends=True)
    pool, shop = reports.pool_of(held, generation), reports.workshop(held, head)
    answers = {
        one.patient: one.contract
        for kept in held.folders(generation, head)
        if kept.folder.patient
        for one in reports.answers(kept.folder, kept.items, pool, shop, kept.folder.double)
    }
    return b"".join(sorted(rows)), answers


def evaluated(paths: list[Path], as_of: date, site: SiteFile) -> Answers:
    found = evaluate(paths, as_of=as_of, site=site)
    assert isinstance(found, list)
    return {one["patient"]: one for one in found if one["patient"]}


def rows_from(answers: Answers) -> bytes:
    return b"".join(
        sorted(lines_of(row for one in answers.values() for row in rows_of(one)).splitlines(True))
    )


def assert_equal(state: Path, paths: list[Path], as_of: date, site: SiteFile) -> None:
    rows, answers = told(state)
    expected = evaluated(paths, as_of, site)
    assert answers.keys() == expected.keys()
    for patient, answer in expected.items():
        assert answers[patient] == answer, patient
    assert rows == rows_from(expected)


@pytest.fixture(scope="module")
def drawn() -> list[made.RandomChart]:
    return made.random_charts(CHARTS)


@pytest.mark.parametrize("series", [1, 2, 3])
def test_of_random_charts_the_rows_are_those_of_evaluate(series, drawn, site, tmp_path):
    chance = random.Random(series)
    as_of = date.fromisoformat(chance.choice(drawn).as_of)
    resources = made.population(drawn, chance)
    lines = made.told_oddly(resources, chance, as_of - timedelta(days=3))
    folder = made.written(tmp_path / "in", [*lines, *(made.broken(lines, chance) if series == 3 else [])])
    swept(tmp_path / "state", [folder], as_of, site)
    assert_equal(tmp_path / "state", [folder], as_of, site)


@pytest.mark.parametrize("turned_round", [False, True])
def test_records_of_two_servers_and_what_one_deleted_are_those_of_evaluate(turned_round, site, tmp_path):
    def of(server: str, day: int, **entry: Any) -> dict[str, Any]:
        one = {
            "resourceType": "Observation",
            "id": "1",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": f"2026-02-{day:02}T08:00:00-05:00",
            "valueQuantity": {"value": 80, "unit": "kg"},
        }
        return {"fullUrl": f"https://{server}.example/fhir/Observation/1", "resource": one, **entry}

    deletion = of("ehr", 4, request={"method": "DELETE", "url": "Observation/1"})
    del deletion["resource"]
    bundles = [
        {"resourceType": "Bundle", "type": "collection", "entry": [entry]}
        for entry in (of("ehr", 4), of("vendor", 5), deletion)
    ]
    people = [{"resourceType": "Patient", "id": name} for name in ("p1", "p2")]
    lines = [made.line(one) for one in [*people, *(bundles[::-1] if turned_round else bundles)]]
    folder = made.written(tmp_path / "in", lines, files=2)
    swept(tmp_path / "state", [folder], date(2026, 2, 20), site)
    assert_equal(tmp_path / "state", [folder], date(2026, 2, 20), site)
    _, answers = told(tmp_path / "state")
    excluded = {one["resource"]: one["reason"] for one in answers["Patient/p1"]["excluded"]}
    assert excluded == {"Observation/1": "deleted", "Observation/1@vendor.example": "no-device"}


@pytest.mark.parametrize("turned_round", [False, True])
def test_a_stay_that_another_server_may_have_deleted_stands_as_in_evaluate(turned_round, site, tmp_path):
    stay = {
        "resourceType": "Encounter",
        "id": "7",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/p1"},
        "period": {"start": "2026-02-03T08:00:00-05:00", "end": "2026-02-05T12:00:00-05:00"},
    }
    entries = [
        {"fullUrl": "https://ehr.example/fhir/Encounter/7", "resource": stay},
        {
            "fullUrl": "https://inside.example/fhir/Encounter/7",
            "request": {"method": "DELETE", "url": "Encounter/7"},
        },
    ]
    bundles = [{"resourceType": "Bundle", "type": "collection", "entry": [entry]} for entry in entries]
    people = [{"resourceType": "Patient", "id": name} for name in ("p1", "p2")]
    lines = [made.line(one) for one in [*people, *(bundles[::-1] if turned_round else bundles)]]
    folder = made.written(tmp_path / "in", lines, files=2)
    swept(tmp_path / "state", [folder], date(2026, 2, 20), site)
    assert_equal(tmp_path / "state", [folder], date(2026, 2, 20), site)
    _, answers = told(tmp_path / "state")
    assert not any(one["reason"] == "deleted" for one in answers["Patient/p1"]["excluded"])


@pytest.mark.parametrize("size", [700, 5_000])
def test_a_long_file_is_read_in_parts_and_lines_keep_their_numbers(size, drawn, site, tmp_path, monkeypatch):
    monkeypatch.setattr("smartapp.population.sweep._PART", size)
    as_of = date(2026, 2, 20)
    lines = [made.line(one) for one in made.population(drawn[:3], random.Random(1))]
    patient = json.loads(next(line for line in lines if b'"Patient"' in line))
    # What names neither itself nor its type is listed by its line.
    nameless = json.dumps({"subject": {"reference": f"Patient/{patient['id']}"}, "x": 1}).encode() + b"\n"
    for place in (1, len(lines) // 2, len(lines)):
        lines.insert(place, nameless)
    folder = made.written(tmp_path / "in", lines, files=1)
    swept(tmp_path / "state", [folder], as_of, site)
    assert_equal(tmp_path / "state", [folder], as_of, site)
    _, answers = told(tmp_path / "state")
    named = {one["resource"] for one in answers[f"Patient/{patient['id']}"]["excluded"]}
    assert "part-0.ndjson line 2" in named


def test_after_ten_nights_the_rows_are_those_of_all_that_came(drawn, site, tmp_path):
    chance = random.Random(7)
    as_of = date(2026, 2, 20)
    some = [chart for chart in drawn if abs((date.fromisoformat(chart.as_of) - as_of).days) < 60] or drawn
    resources = made.population(some if CHARTS > 40 else some[:8], chance)
    paths = [made.written(tmp_path / "in", made.told_oddly(resources, chance, as_of, 0.01))]
    swept(tmp_path / "state", paths, as_of, site)
    for night in range(NIGHTS):
        as_of += timedelta(days=chance.choice([1, 1, 1, 3]))
        lines = made.next_night(resources, chance, as_of)
        paths.append(made.written(tmp_path / f"night-{night}", lines))
        swept(tmp_path / "state", paths[-1:], as_of, site, night=True)
    assert_equal(tmp_path / "state", paths, as_of, site)
    swept(tmp_path / "fresh", paths, as_of, site)
    assert told(tmp_path / "fresh") == told(tmp_path / "state")


# -- killed, and started again ----------------------------------------------------------


class Killed(BaseException):
    """What a power cut is to a process."""


def killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the process dies before it brings its `number`-th change to the disk."""
    left = number

    def dies(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(*arguments, **named)

        return call

    monkeypatch.setattr(Path, "rename", dies(Path.rename))
    monkeypatch.setattr(os, "link", dies(os.link))
    monkeypatch.setattr(shutil, "rmtree", dies(shutil.rmtree))
    monkeypatch.setattr(Path, "mkdir", dies(Path.mkdir))


@pytest.fixture(scope="module")
def two_nights(drawn, site, tmp_path_factory):
    """A small population, a night's changes, and what an undisturbed sweep of each tells."""
    folder = tmp_path_factory.mktemp("two-nights")
    chance = random.Random(3)
    resources = made.population(drawn[:4], chance)
    as_of = date(2026, 2, 20)
    first = made.written(folder / "in", made.told_oddly(resources, chance, as_of, 0.05), 2)
    second = made.written(folder / "night", made.next_night(resources, chance, as_of, 0.1), 2)
    swept(folder / "state", [first], as_of, site, shards=2)
    after_first = told(folder / "state")
    swept(folder / "state", [second], as_of + timedelta(days=2), site, night=True)
    return first, second, as_of, after_first, told(folder / "state"), changed(folder / "state")


def changed(state: Path) -> list[bytes]:
    held = State(state, KEYS)
    return sorted(reports.changed_rows(held, *held.held()))


@pytest.mark.parametrize("moment", [round(n * 80 / KILLS) for n in range(KILLS)])
def test_a_sweep_that_was_killed_ends_with_the_same_when_started_again(
    moment, two_nights, site, tmp_path, monkeypatch
):
    first, second, as_of, after_first, after_second, told_as_changed = two_nights
    monkeypatch.setattr(os, "fsync", lambda _: None)
    state = tmp_path / "state"
    for paths, day, night in (([first], as_of, False), ([second], as_of + timedelta(days=2), True)):
        with monkeypatch.context() as patch:
            killed_at(moment, patch)
            with contextlib.suppress(Killed):
                swept(state, paths, day, site, night=night, shards=2)
        if night:
            # Whoever reads meanwhile sees one of the two, whole.
            assert told(state) in (after_first, after_second)
        swept(state, paths, day, site, night=night, shards=2)
        assert told(state) == (after_second if night else after_first)
    assert changed(state) == told_as_changed


def test_a_process_that_is_really_killed_goes_on_where_it_was(two_nights, site, tmp_path):
    first, _, as_of, after_first, *_ = two_nights
    site_yaml = write_site(tmp_path, made.ZONE, "medicare")
    state, seen = tmp_path / "state", 0
    command = [sys.executable, "-m", "smartapp.cli", "sweep", "full", str(first), "--state", str(state)]
    command += ["--as-of", str(as_of), "--site", str(site_yaml), "--workers", "2", "--shards", "2"]
    for wanted in ("parts/part-00000", "decided/shard-00000", ""):
        with subprocess.Popen(command, env={**os.environ, "SMARTAPP_KEYS": KEYS[0].decode()}) as process:
            while wanted and process.poll() is None and not (state / "next" / wanted).exists():
                time.sleep(0.005)
            if wanted:
                seen += process.poll() is None
                process.kill()
    assert process.returncode == 0
    assert seen, "it was never killed while it ran"
    assert told(state) == after_first


# -- what fails ----------------------------------------------------------


def failing(monkeypatch: pytest.MonkeyPatch, shard: int, times: int) -> None:
    left = times
    real = work.decide_shard

    def decide(job: Any, shop: Any) -> Any:
        nonlocal left
        if job.shard == shard and left > 0:
            left -= 1
            raise OSError("Patient/secret is in this text")
        return real(job, shop)

    monkeypatch.setattr(work, "decide_shard", decide)


def test_a_shard_that_fails_once_is_tried_again(two_nights, site, tmp_path, monkeypatch):
    first, _, as_of, after_first, *_ = two_nights
    failing(monkeypatch, 1, times=1)
    report = swept(tmp_path / "state", [first], as_of, site, shards=2)
    assert report.head.failed == []
    assert told(tmp_path / "state") == after_first


def test_a_shard_that_fails_twice_is_named_and_the_next_night_brings_it_back(
    two_nights, site, tmp_path, monkeypatch
):
    first, second, as_of, after_first, after_second, _ = two_nights
    with monkeypatch.context() as patch:
        failing(patch, 1, times=2)
        report = swept(tmp_path / "state", [first], as_of, site, shards=2)
    assert report.head.failed == [1]
    assert any("shards 1" in line for line in reports.lines(report, tmp_path))
    assert not any("secret" in line for line in [*report.said, *reports.lines(report, tmp_path)])
    rows, answers = told(tmp_path / "state")
    assert set(rows.splitlines()) < set(after_first[0].splitlines())
    assert 0 < len(answers) < len(after_first[1])
    with monkeypatch.context() as patch:
        failing(patch, 0, times=2)
        report = swept(tmp_path / "state", [second], as_of + timedelta(days=2), site, night=True)
        assert report.head.failed == [0]
    swept(tmp_path / "state", [], as_of + timedelta(days=2), site, night=True)
    assert told(tmp_path / "state") == after_second


def test_a_process_that_dies_fails_its_own_task_and_no_other(tmp_path):
    bench: Any = made.FragileBench(tmp_path)
    # Apart: what fails the first time has one more, and would have used it up where a process dies beside it.
    some: tuple[Any, Any] = ([0, 1, 2, 3], [4, 5, 6, 7])
    done = [one for jobs in some for one in Processes(2).run(bench, jobs)]
    assert sorted(one.job for one in done) == list(range(8))
    assert {one.job: one.fault for one in done if one.fault} == {3: "BrokenProcessPool", 5: "KeyError"}
    assert all(one.told == one.job * 10 for one in done if not one.fault)


def test_one_patient_who_cannot_be_decided_is_counted_and_stops_nobody(
    two_nights, site, tmp_path, monkeypatch
):
    first, _, as_of, after_first, *_ = two_nights
    poor = sorted(after_first[1])[0]

    def fails(record: Any, *arguments: Any, **named: Any) -> Any:
        if record.patient == poor:
            raise KeyError(poor)
        return real(record, *arguments, **named)

    real = deciding.answer_of
    with monkeypatch.context() as patch:
        patch.setattr(deciding, "answer_of", fails)
        report = swept(tmp_path / "state", [first], as_of, site, shards=2)
    assert report.head.undecided == 1
    rows, _ = told(tmp_path / "state")
    assert poor.encode() not in rows
    swept(tmp_path / "state", [], as_of + timedelta(days=1), site, night=True)
    assert poor in told(tmp_path / "state")[1]


# -- nights ----------------------------------------------------------


def test_what_was_swept_last_time_is_not_told_twice(two_nights, site, tmp_path):
    first, second, as_of, _, after_second, told_as_changed = two_nights
    state, day = tmp_path / "state", as_of + timedelta(days=2)
    swept(state, [first], as_of, site, shards=2)
    swept(state, [second], day, site, night=True)
    report = swept(state, [second], day, site, night=True)
    assert report.nothing_new
    assert told(state) == after_second
    assert changed(state) == told_as_changed


def test_a_night_without_data_decides_only_whose_day_has_come(drawn, site, tmp_path):
    resources = made.population(drawn, random.Random(1))
    as_of = max(date.fromisoformat(chart.as_of) for chart in drawn)
    folder = made.written(tmp_path / "in", [made.line(one) for one in resources])
    everybody = swept(tmp_path / "state", [folder], as_of, site).head.decided
    asked = []
    for _ in range(6):
        as_of += timedelta(days=1)
        asked.append(swept(tmp_path / "state", [], as_of, site, night=True).head.decided)
    assert min(asked) < everybody / 2
    assert_equal(tmp_path / "state", [folder], as_of, site)


def test_other_rules_ask_for_everybody_and_another_zone_for_a_full_sweep(two_nights, site, tmp_path):
    first, _, as_of, *_ = two_nights
    state, day = tmp_path / "state", as_of + timedelta(days=1)
    swept(state, [first], as_of, site, shards=2)
    other = msgspec.structs.replace(site, payer=None)
    report = swept(state, [], day, other, night=True)
    assert report.said == ["every patient is decided again: rules, codings or settings are others"]
    assert_equal(state, [first], day, other)
    asked = Asked((), day, Settings("America/Chicago", site), night=True)
    with pytest.raises(StateError, match="time zone"):
        sweep(State(state, KEYS), asked, InProcess(), Progress(None), lambda _: None)
    with pytest.raises(StateError, match="forward"):
        swept(state, [], as_of, site, night=True)


def test_a_file_that_the_manifest_names_and_that_is_not_there_makes_everybody_incomplete(
    two_nights, site, tmp_path
):
    first, _, as_of, *_ = two_nights
    folder = tmp_path / "in"
    shutil.copytree(first, folder)
    output = [{"type": "Encounter", "url": "https://ehr.example/files/Encounter.7.ndjson"}]
    output += [{"type": "Patient", "url": "https://ehr.example/files/part-0.ndjson"}]
    manifest = {"transactionTime": "2026-02-20T00:00:00Z", "output": output}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    swept(tmp_path / "state", [folder], as_of, site)
    _, answers = told(tmp_path / "state")
    for answer in answers.values():
        if answer["decisions"]:
            (missing,) = answer["completeness"]["missing"]
            assert (missing["type"], missing["why"]) == ("Encounter", "file-not-read")
    assert_equal(tmp_path / "state", [folder], as_of, site)
    # What is still missing the next day keeps everybody asked about; once it is there, it is missed no more.
    shutil.copy(first / "part-0.ndjson", folder / "Encounter.7.ndjson")
    swept(tmp_path / "fresh", [folder], as_of, site)
    assert all(one["completeness"]["whole"] for one in told(tmp_path / "fresh")[1].values())


# -- kept ----------------------------------------------------------


def test_nothing_of_a_patient_can_be_read_in_what_is_kept(two_nights, site, tmp_path):
    first, _, as_of, *_ = two_nights
    state = tmp_path / "state"
    swept(state, [first], as_of, site)
    files = [path for path in state.rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path
        content = path.read_bytes()
        assert b"Patient/" not in content
        assert b"resourceType" not in content
    assert all(path.stat().st_mode & 0o077 == 0 for path in [state, *state.rglob("g*")])


def test_another_key_opens_nothing_and_a_changed_file_is_refused(two_nights, site, tmp_path):
    first, _, as_of, *_ = two_nights
    state = tmp_path / "state"
    swept(state, [first], as_of, site)
    with pytest.raises(StateError, match="another key"):
        State(state, [Fernet.generate_key()]).held()
    (shard,) = state.glob("g*/shard-00001")
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    with pytest.raises(NotOpened):
        told(state)


def test_rotated_keys_open_what_was_sealed_before(two_nights, site, tmp_path):
    first, _, as_of, after_first, *_ = two_nights
    state = tmp_path / "state"
    swept(state, [first], as_of, site, shards=2)
    held = State(state, [Fernet.generate_key(), *KEYS])
    generation, head = held.held()
    assert b"".join(sorted(b"".join(reports.rows(held, generation, head)).splitlines(True))) == after_first[0]


# -- the command ----------------------------------------------------------


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SMARTAPP_KEYS", KEYS[0].decode())
    site_yaml = write_site(tmp_path, made.ZONE, "medicare")

    def run(*arguments: object) -> tuple[int, str, str]:
        given = [str(one) for one in arguments]
        if given[0] == "full":
            given = ["full", "--site", str(site_yaml), "--workers", "1", *given[1:]]
        code = command_run(given)
        return code, *capsys.readouterr()

    return run


def test_the_command_tells_numbers_rows_and_why(two_nights, tmp_path, command):
    first, second, as_of, after_first, after_second, told_as_changed = two_nights
    state = tmp_path / "state"
    code, out, err = command("full", first, "--state", state, "--as-of", as_of, "--shards", 2)
    assert (code, err) == (0, "")
    assert "4 patients, 4 decided" in out
    assert "Patient/" not in out
    code, out, _ = command("rows", state)
    assert code == 0
    assert sorted(out.encode().splitlines(True)) == after_first[0].splitlines(True)
    patient, answer = next(iter(after_first[1].items()))
    code, out, _ = command("why", state, patient)
    assert code == 0
    assert out == msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"
    day = as_of + timedelta(days=2)
    assert command("night", second, "--state", state, "--as-of", day, "--workers", 1)[0] == 0
    assert sorted(command("rows", state)[1].encode().splitlines(True)) == after_second[0].splitlines(True)
    changes = command("rows", state, "--changes")[1].encode().splitlines(True)
    assert sorted(changes) == told_as_changed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["full", "{in}", "--state", "{state}", "--workers", "0"], "--workers: a number from 1"),
        (["full", "{nowhere}", "--state", "{state}"], "no such file or folder"),
        (["full", "{in}", "--state", "{in}"], "not empty, and no state of a sweep"),
        (["night", "--state", "{nowhere}"], "no state of a sweep; make one with `smartapp sweep full`"),
        (["rows", "{nowhere}"], "no state of a sweep"),
        (["full", "{in}", "--state", "{state}", "--as-of", "yesterday"], "expected a date"),
        (["sideways"], "invalid choice"),
    ],
)
def test_a_call_that_cannot_be_done_ends_with_one_line(arguments, line, two_nights, tmp_path, command):
    places = {"in": two_nights[0], "state": tmp_path / "state", "nowhere": tmp_path / "nowhere"}
    code, out, err = command(*(one.format(**places) for one in arguments))
    assert (code, out) == (2, "")
    assert err.startswith("smartapp sweep: ")
    assert err.count("\n") == 1
    assert line in err


def test_without_keys_nothing_is_kept(two_nights, tmp_path, command, monkeypatch):
    monkeypatch.delenv("SMARTAPP_KEYS")
    code, _, err = command("full", two_nights[0], "--state", tmp_path / "state")
    assert code == 2
    assert "SMARTAPP_KEYS is missing" in err
    assert not (tmp_path / "state").exists()


def test_a_patient_who_cannot_be_decided_ends_in_exit_status_3(two_nights, tmp_path, command, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise KeyError

    monkeypatch.setattr(deciding, "answer_of", fails)
    code, out, _ = command("full", two_nights[0], "--state", tmp_path / "state", "--as-of", "2026-02-20")
    assert code == 3
    assert "NOT DECIDED: 4 patients" in out
    code, out, err = command("rows", tmp_path / "state")
    assert (code, out) == (3, "")
    assert "4 patients could not be decided" in err


def test_how_long_it_will_go_on_is_told_in_a_log(monkeypatch):
    log, now = io.StringIO(), [0.0]
    monkeypatch.setattr("smartapp.population.progress.time.monotonic", lambda: now[0])
    progress = Progress(log)
    progress.begin("read", 100)
    for seconds in (10, 31, 40, 70):
        now[0] = seconds
        progress.done(20)
    progress.end()
    assert log.getvalue() == (
        "smartapp sweep: read: 40%, about 46 s to go\nsmartapp sweep: read: 80%, about 18 s to go\n"
    )


def test_how_far_a_run_is_is_told_while_it_runs(tmp_path, site, drawn):
    """Not when the last task is done, which tells nobody anything."""
    seen: list[str] = []

    class Counting(Progress):
        def done(self, more: int) -> None:
            seen.append("told")
            super().done(more)

    class Looking(InProcess):
        def run(self, bench: Any, jobs: Any) -> Any:
            for job in jobs:
                seen.append(type(job).__name__)
                yield from super().run(bench, [job])

    resources = made.population(drawn[:3], random.Random(1))
    folder = made.written(tmp_path / "in", [made.line(one) for one in resources], files=3)
    asked = Asked((folder,), date(2026, 2, 20), Settings(made.ZONE, site), night=False, shards=2)
    sweep(State(tmp_path / "state", KEYS, make=True), asked, Looking(), Counting(None), lambda _: None)
    assert seen[:6] == ["PartitionJob", "told"] * 3
