"""`smartapp evaluate --suggest-site`: what a site would have to say for what was left out to count."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from smartapp.commands.suggest_site import suggested_lines
from tests.smartapp.test_evaluate import CUFF, READING, ndjson, readings, run, site  # noqa: F401 - fixtures


def uncommented(text: str) -> str:
    """What the file says once somebody has confirmed every line of it."""
    return "\n".join(line.replace("# - {", "- {", 1) for line in text.splitlines())


def of_resting_heart_rate(number: int) -> dict[str, object]:
    code = {"coding": [{"system": "http://loinc.org", "code": "99999-1", "display": "A rate at rest"}]}
    return READING | {"id": f"r{number}", "code": code, "effectiveDateTime": f"2026-01-{number + 5:02}"}


def test_what_nobody_declared_is_listed_with_its_count_and_the_line_that_would_make_it_count(
    tmp_path: Path,
    site: Path,  # noqa: F811
    run,  # noqa: F811
):
    home = {
        "resourceType": "Device",
        "id": "home",
        "manufacturer": "Example Cuffs",
        "modelNumber": "EC-1",
        "patient": {"reference": "Patient/p1"},
    }
    through_home = [
        one | {"id": f"h{n}", "device": {"reference": "Device/home"}}
        for n, one in enumerate(readings(4, first="2026-01-20"))
    ]
    visit = {
        "resourceType": "Encounter",
        "id": "v",
        "status": "finished",
        "subject": {"reference": "Patient/p1"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "VR"},
        "type": [{"coding": [{"system": "urn:clinic:visit", "code": "Z9"}]}],
        "period": {"start": "2026-01-20T09:00:00-05:00", "end": "2026-01-20T09:10:00-05:00"},
    }
    heart = [of_resting_heart_rate(n) for n in range(3)]
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, home, visit, *readings(2), *through_home, *heart])
    code, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--suggest-site")
    assert code == 0
    assert "3 x LOINC 99999-1 (A rate at rest): not declared" in out
    assert "4 x Example Cuffs EC-1: a device that nobody declared" in out
    assert out.count("to be confirmed: ") == out.count(" x ")
    assert all(section is None for section in yaml.safe_load(out)["terminology"].values())
    said = yaml.safe_load(uncommented(out))["terminology"]
    assert said["observations"] == [{"system": "http://loinc.org", "code": "99999-1", "line": "physiologic"}]
    assert said["devices"] == [{"manufacturer": "Example Cuffs", "model": "EC-1", "line": "physiologic"}]

    confirmed = yaml.safe_load(site.read_text())
    confirmed["terminology"]["devices"] += said["devices"]
    site.write_text(json.dumps(confirmed))
    _, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    (short,) = (one for one in json.loads(out)["decisions"] if one["code"] == "99445")
    assert short["requirements"][0]["found"] == 4


def test_where_nothing_was_left_out_for_that_it_says_so():
    assert list(suggested_lines(())) == ["# Nothing was left out for want of a declaration."]
