"""HAPI FHIR's own `$export`: all of it comes, then the difference, and it is swept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from werkzeug.wrappers import Request, Response

from smartapp.commands.export import run
from smartapp.commands.sweep import run as sweep
from smartapp.population.sealed import Opener
from tests.interop.front import Forward, Front
from tests.interop.servers import Charts
from tests.support.exports import ExportingEhr
from tests.support.sandbox import DAY

pytestmark = pytest.mark.interop
SITE = Path(__file__).parents[2] / "launch" / "sandbox" / "site.yaml"
TYPES = ("Patient", "Observation", "Device", "Encounter", "Practitioner", "ChargeItem")


def names_in(folder: Path) -> set[str]:
    opened = Opener([os.environ["SMARTAPP_KEYS"].encode()])
    found = set()
    for file in folder.glob("*.sealed"):
        with opened(file) as lines:
            for line in lines:
                told = msgspec.json.decode(line)
                found.add(f"{told['resourceType']}/{told['id']}")
    return found


def sooner(request: Request, forward: Forward) -> Response:
    """HAPI asks to come back in two minutes, for a job that is done in seconds."""
    answer = forward(request)
    if "Retry-After" in answer.headers:
        answer.headers["Retry-After"] = "1"
    return answer


@pytest.fixture
def charts(served: Callable[[str], Charts]) -> Charts:
    return served("hapi")


def test_everything_that_hapi_holds_comes_and_the_difference_after_it(charts, tmp_path, monkeypatch, capsys):
    ehr = ExportingEhr(tmp_path, monkeypatch)
    Front(ehr.running, charts.origin, oddity=sooner)
    asked = ["hospital", "--loopback", "--everybody", "--types", ",".join(TYPES)]
    try:
        assert run([*asked, "--to", str(tmp_path / "first"), "--wait", "0.2"]) == 0, capsys.readouterr().err
        found = names_in(tmp_path / "first")
        for type_ in TYPES:
            total = charts.get(f"{type_}?_summary=count")["total"]
            assert sum(name.startswith(f"{type_}/") for name in found) == total, type_
        told = msgspec.json.decode((tmp_path / "first" / "manifest.json").read_bytes())
        changed = {**charts.get("Patient/ready-physiologic"), "gender": "other"}
        charts.put(changed)
        since = ["--since", told["transactionTime"]]
        assert run([*asked, *since, "--to", str(tmp_path / "second"), "--wait", "0.2"]) == 0
        assert names_in(tmp_path / "second") == {"Patient/ready-physiologic"}
    finally:
        ehr.close()
    swept = ["full", str(tmp_path / "first"), "--state", str(tmp_path / "state"), "--as-of", f"{DAY}"]
    assert sweep([*swept, "--site", str(SITE), "--workers", "1"]) == 0
    people = {name for name in found if name.startswith("Patient/")}
    assert f"{len(people)} patients, {len(people)} decided" in capsys.readouterr().out
