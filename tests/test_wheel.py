"""The built wheel carries its tables, profiles, pages and migrations, and works from an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*install, "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


@pytest.fixture
def run(installed: Path, tmp_path: Path) -> Run:
    """Run Python on the wheel, from an empty folder; our own tree is out of reach."""

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

    return python


def test_the_wheel_is_what_runs(run: Run, installed: Path) -> None:
    where = run("-c", "import fhir_mappings, launch, smartapp; print(smartapp.__file__)")
    assert where.stdout.startswith(str(installed))


@pytest.mark.parametrize("kind", ["yaml", "toml", "html", "css", "js"])
def test_every_data_file_of_the_tree_is_in_the_wheel(kind: str, installed: Path) -> None:
    parts = ("fhir_mappings", "launch", "smartapp")
    here = {str(path.relative_to(ROOT)) for part in parts for path in (ROOT / part).rglob(f"*.{kind}")}
    there = {
        str(path.relative_to(installed)) for part in parts for path in (installed / part).rglob(f"*.{kind}")
    }
    assert here
    assert here == there


def test_the_wheel_decides(run: Run, tmp_path: Path) -> None:
    patient = tmp_path / "patient.json"
    patient.write_text('{"resourceType": "Patient", "id": "p1"}')
    script = "import sys; from smartapp.cli import main; sys.exit(main())"
    out = run("-c", script, "evaluate", str(patient), "--timezone", "America/New_York", "--json")
    assert json.loads(out.stdout)["patient"] == "Patient/p1"


def test_the_wheel_serves_its_sandbox_and_its_app(run: Run) -> None:
    script = (
        "from launch.sandbox import stories; from launch.profiles import load_profile, profile_names;"
        "import smartapp, alembic; [load_profile(name) for name in profile_names()];"
        "print(len(stories()), callable(smartapp.create_app))"
    )
    count, made = run("-c", script).stdout.split()
    assert int(count) >= 12
    assert made == "True"


def test_it_tells_its_version(run: Run) -> None:
    assert run("-m", "smartapp.cli", "--version").stdout == "smartapp 0.1.0\n"
