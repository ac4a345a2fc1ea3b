"""A sweep on Apache Spark: the rows of the local one to the byte; a task that fails there fails alone.

Needs Java 17 and `pip install 'smart-remote-monitoring[spark]'`; runs on this machine as `local[2]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.fernet import Fernet

from launch.sandbox.crowd import TYPES, Crowd
from launch.sandbox.patients import resources
from tests.support.sandbox import DAY, NOON

pytestmark = pytest.mark.interop
ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "launch" / "sandbox" / "site.yaml"
PATIENTS = int(os.environ.get("SPARK_PATIENTS", "2000"))
CROWD = Crowd(PATIENTS, DAY - timedelta(days=40))


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    return {**os.environ, "SMARTAPP_KEYS": Fernet.generate_key().decode(), "PYTHONPATH": path}


def written(file: Path, lines: Iterable[bytes]) -> Path:
    with file.open("wb") as out:
        out.writelines(lines)
    return file


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The crowd and the charts, a file a type and thousand."""
    folder = tmp_path_factory.mktemp("whole")
    for first in range(0, PATIENTS, 1000):
        some = range(first, min(first + 1000, PATIENTS))
        for type_ in TYPES:
            written(folder / f"{type_}.{first}.ndjson", CROWD.lines(type_, some, None, NOON))
    charts = (msgspec.json.encode(one) + b"\n" for one in resources(DAY, 1, 200))
    written(folder / "charts.ndjson", charts)
    return folder


@pytest.fixture(scope="module")
def difference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a day brings."""
    folder = tmp_path_factory.mktemp("difference")
    lines = CROWD.lines("Observation", range(PATIENTS), NOON, NOON + timedelta(days=1))
    written(folder / "Observation.ndjson", lines)
    return folder


def smartapp(environ: dict[str, str], *words: str) -> tuple[bytes, str]:
    done = subprocess.run(
        [sys.executable, "-m", "smartapp.cli", "sweep", *words], capture_output=True, env=environ, check=False
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return done.stdout, done.stderr.decode()


def test_rows_and_answers_are_those_of_the_local_engine_to_the_byte(environ, whole, difference, tmp_path):
    local, spark = ["--workers", "2"], ["--engine", "spark", "--spark-master", "local[2]"]
    told = {}
    for name, engine in (("local", local), ("spark", spark)):
        state = tmp_path / name
        full = ["full", str(whole), "--state", str(state), "--as-of", f"{DAY}", "--site", str(SITE)]
        _, said = smartapp(environ, *full, *engine, "--shards", "8")
        assert "syn-crowd" not in said
        rows, _ = smartapp(environ, "rows", str(state))
        night = ["night", str(difference), "--state", str(state), "--as-of", f"{DAY + timedelta(days=1)}"]
        smartapp(environ, *night, *engine)
        later, _ = smartapp(environ, "rows", str(state))
        changes, _ = smartapp(environ, "rows", str(state), "--changes")
        why, _ = smartapp(environ, "why", str(state), "Patient/syn-crowd-000007")
        told[name] = rows, later, changes, why
    assert told["spark"] == told["local"]
    assert len(told["local"][0].splitlines()) > PATIENTS
    assert told["local"][0] != told["local"][1]
    assert told["local"][2]


def test_a_task_that_fails_on_spark_fails_alone_and_is_told(environ, whole, tmp_path):
    broken = tmp_path / "in"
    broken.mkdir()
    (broken / "Observation.ndjson").symlink_to(whole / "Observation.0.ndjson")
    words = ["full", str(broken / "Observation.ndjson"), "--state", str(tmp_path / "state")]
    fault = (
        "import smartapp.population.work as w\ndef fails(*_): raise ValueError('no')\nw.partition = fails\n"
    )
    (tmp_path / "sitecustomize.py").write_text(fault)
    spark = ["--as-of", f"{DAY}", "--site", str(SITE), "--engine", "spark", "--spark-master", "local[2]"]
    broken_environ = {**environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), environ["PYTHONPATH"]))}
    done = subprocess.run(
        [sys.executable, "-m", "smartapp.cli", "sweep", *words, *spark],
        capture_output=True,
        env=broken_environ,
        check=False,
        text=True,
    )
    assert done.returncode == 2
    assert "could not be read to its end, twice (ValueError)" in done.stderr
    assert "Traceback" not in done.stderr
