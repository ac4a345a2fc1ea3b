"""`smartapp evaluate` as a person calls it: what it reads, what it says, and how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartapp.cli import main

Run = Callable[..., tuple[int, str, str]]

READING: dict[str, Any] = {
    "resourceType": "Observation",
    "status": "final",
    "subject": {"reference": "Patient/p1"},
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "device": {"reference": "Device/cuff"},
    "component": [{"valueQuantity": {"value": 120}}],
}
CUFF: dict[str, Any] = {
    "resourceType": "Device",
    "id": "cuff",
    "type": {"coding": [{"system": "urn:clinic:device", "code": "cuff"}]},
    "patient": {"reference": "Patient/p1"},
}
SITE = """
timezone: America/New_York
payer: medicare
terminology:
  devices: [{system: "urn:clinic:device", code: cuff, line: physiologic}]
"""


def readings(count: int, patient: str = "p1", first: str = "2026-01-05") -> list[dict[str, Any]]:
    start = datetime.fromisoformat(first)
    return [
        READING
        | {
            "id": f"{patient}-o{n}",
            "subject": {"reference": f"Patient/{patient}"},
            "effectiveDateTime": (start + timedelta(days=n)).strftime("%Y-%m-%dT08:00:00-05:00"),
        }
        for n in range(count)
    ]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["evaluate", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def ndjson(path: Path, resources: list[Any]) -> Path:
    path.write_text("".join(json.dumps(resource) + "\n" for resource in resources))
    return path


def bundle(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": resource} for resource in resources],
    }


def decided(out: str, code: str) -> dict[str, Any]:
    (found,) = (one for one in json.loads(out)["decisions"] if one["code"] == code)
    return dict(found)


def test_a_bundle_a_file_of_lines_and_a_folder_give_the_same_answer(
    tmp_path: Path, site: Path, run: Run
) -> None:
    resources = [CUFF, *readings(16)]
    one = tmp_path / "bundle.json"
    one.write_text(json.dumps(bundle(resources)))
    lines = ndjson(tmp_path / "chart.ndjson", resources)
    folder = tmp_path / "folder"
    folder.mkdir()
    for resource in resources:
        (folder / f"{resource['id']}.json").write_text(json.dumps(resource))
    answers = [run(path, "--site", site, "--as-of", "2026-02-10", "--json") for path in (one, lines, folder)]
    assert {code for code, _, _ in answers} == {0}
    assert len({out for _, out, _ in answers}) == 1
    assert decided(answers[0][1], "99454")["outcome"] == "suggest"


def test_the_answer_has_the_contracts_keys_and_no_others(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(16)])
    _, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    answer = json.loads(out)
    assert list(answer) == [
        *("patient", "as_of", "timezone", "payer", "rules_version", "completeness", "decisions", "excluded"),
    ]
    assert (answer["patient"], answer["as_of"]) == ("Patient/p1", "2026-02-10")
    (need,) = decided(out, "99454")["requirements"]
    assert {key: need[key] for key in ("requirement", "unit", "needed", "found", "met")} == {
        "requirement": "monitoring-days",
        "unit": "days",
        "needed": 16,
        "found": 16,
        "met": True,
    }
    assert need["evidence"] == [f"Observation/p1-o{n}" for n in range(16)]
    assert need["reference"]


def test_all_evidence_is_told_when_it_is_asked_for(tmp_path: Path, site: Path, run: Run) -> None:
    twice_a_day = [*readings(2), *(one | {"id": f"{one['id']}-late"} for one in readings(2))]
    for late in twice_a_day[2:]:
        late["effectiveDateTime"] = late["effectiveDateTime"].replace("T08", "T20")
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *twice_a_day])
    arguments = (chart, "--site", site, "--as-of", "2026-02-10", "--json")
    (short,) = decided(run(*arguments)[1], "99445")["requirements"]
    (whole,) = decided(run(*arguments, "--evidence", "all")[1], "99445")["requirements"]
    assert (len(short["evidence"]), len(whole["evidence"])) == (2, 4)


def test_a_person_gets_a_table(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(
        tmp_path / "chart.ndjson", [CUFF, *readings(16), {"resourceType": "Observation", "id": "x"}]
    )
    code, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10")
    assert code == 0
    row = next(line for line in out.splitlines() if line.strip().startswith("99454"))
    assert "suggest" in row
    assert "16/16 days" in row
    assert "2026-01-05..2026-02-03" in row
    assert "left out: 1 unreadable" in out


def test_several_patients_are_an_array_in_their_order(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [*readings(2, "zoe"), *readings(2, "adam")])
    _, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    assert [one["patient"] for one in json.loads(out)] == ["Patient/adam", "Patient/zoe"]


def test_a_record_of_nobody_stands_on_a_last_element(tmp_path: Path, site: Path, run: Run) -> None:
    lost = {"resourceType": "Observation", "id": "lost", "status": "final"}
    chart = ndjson(tmp_path / "chart.ndjson", [*readings(2, "a"), *readings(2, "b"), lost])
    _, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    last = json.loads(out)[-1]
    assert last["patient"] is None
    assert last["excluded"] == [{"resource": "Observation/lost", "reason": "unreadable"}]


def test_a_record_of_another_patient_is_told_and_not_counted(tmp_path: Path, site: Path, run: Run) -> None:
    patient = {"resourceType": "Patient", "id": "p1"}
    chart = ndjson(tmp_path / "chart.ndjson", [patient, CUFF, *readings(2), *readings(3, "p9")])
    _, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    assert {e["reason"] for e in json.loads(out)["excluded"]} == {"other-patient"}
    assert decided(out, "99445")["requirements"][0]["found"] == 2


def test_a_broken_line_is_listed_and_stops_nothing(tmp_path: Path, site: Path, run: Run) -> None:
    chart = tmp_path / "chart.ndjson"
    lines = [json.dumps(resource) for resource in (CUFF, *readings(2))]
    chart.write_text("\n".join([lines[0], '{"resourceType": "Observation", "id":', *lines[1:]]) + "\n")
    code, out, _ = run(chart, "--site", site, "--as-of", "2026-02-10", "--json")
    assert code == 0
    assert [e["reason"] for e in json.loads(out)["excluded"]] == ["unreadable"]
    assert decided(out, "99445")["requirements"][0]["found"] == 2


@pytest.mark.parametrize("value", [1e22, 1e308, -1e308])
@pytest.mark.parametrize("start", ["2026-03-10", "2026-03-10T10:00:00-04:00"])
@pytest.mark.parametrize("kind", ["VR", "IMP"])
def test_a_length_beyond_all_calendars_stops_nothing(
    tmp_path: Path, site: Path, run: Run, value: float, start: str, kind: str
) -> None:
    strange = {
        "resourceType": "Encounter",
        "id": "strange",
        "status": "finished",
        "subject": {"reference": "Patient/p1"},
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": kind},
        "period": {"start": start},
        "length": {"value": value, "code": "min"},
    }
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(16), strange])
    code, out, err = run(chart, "--site", site, "--as-of", "2026-04-10", "--json")
    assert code == 0, err
    assert decided(out, "99454")["requirements"][0]["found"] == 16
    suggested = {told["code"] for told in json.loads(out)["decisions"] if told["outcome"] == "suggest"}
    assert not suggested & {"98979", "98980", "98981", "99457", "99458", "99470"}


def test_the_payer_of_the_call_beats_the_sites(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(2)])
    _, out, _ = run(chart, "--site", site, "--payer", "nobody", "--as-of", "2026-02-10", "--json")
    assert json.loads(out)["payer"] == "nobody"
    assert decided(out, "99445")["reasons"] == ["payer-unknown"]


def test_an_attestation_takes_its_entry_out_of_what_is_unverified(
    tmp_path: Path, site: Path, run: Run
) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(2)])
    statements = tmp_path / "attestations.yaml"
    statements.write_text(
        "- {patient: Patient/p1, statement: consent, by: Practitioner/7, at: 2026-02-05}\n"
        "- {patient: Patient/p9, statement: order, by: Practitioner/7, at: 2026-02-05}\n"
    )
    arguments = (chart, "--site", site, "--as-of", "2026-02-10", "--json")
    before = decided(run(*arguments)[1], "99445")["unverified"]
    after = decided(run(*arguments, "--attestations", statements)[1], "99445")["unverified"]
    assert set(before) - set(after) == {"consent"}


def test_no_attestation_says_that_the_rules_of_a_year_were_checked(
    tmp_path: Path, site: Path, run: Run
) -> None:
    """Nor does the file become unreadable by it: its other statements count."""
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(16, first="2026-12-10")])
    statements = tmp_path / "attestations.yaml"
    statements.write_text(
        "".join(
            f"- {{patient: Patient/p1, statement: {word}, by: Practitioner/1, at: 2027-02-01}}\n"
            for word in ("rules-of-the-year", "consent")
        )
    )
    arguments = (chart, "--site", site, "--as-of", "2027-02-10", "--json", "--attestations", statements)
    code, out, err = run(*arguments)
    found = decided(out, "99454")
    assert code == 0
    assert found["outcome"] == "suggest"
    assert "rules-of-the-year" in found["unverified"]
    assert "consent" not in found["unverified"]
    assert "rules-of-the-year is nobody's to attest" in err


@pytest.mark.parametrize("text", ["- {patient: Patient/p1, by: A, at: 2026-13-45}\n", "[" * 20_000])
def test_a_file_of_impossible_values_is_named_and_no_trace_is_shown(
    tmp_path: Path, site: Path, text: str
) -> None:
    chart, stated = tmp_path / "chart.json", tmp_path / "stated.yaml"
    chart.write_text('{"resourceType": "Patient", "id": "p1"}')
    stated.write_text(text)
    program = "import sys; from smartapp.cli import main; sys.exit(main())"
    options = ["--site", str(site), "--as-of", "2026-05-01", "--attestations", str(stated)]
    command = [sys.executable, "-c", program, "evaluate", str(chart), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"smartapp evaluate: {stated}: not YAML\n")


def test_attestations_may_be_json_and_say_when(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(2)])
    statements = tmp_path / "attestations.json"
    entry = {"patient": "Patient/p1", "statement": "consent", "by": "Practitioner/7"}
    arguments = (chart, "--site", site, "--as-of", "2026-02-10", "--json", "--attestations", statements)
    statements.write_text(json.dumps([entry | {"at": "2026-02-05T10:00:00-05:00"}]))
    assert "consent" not in decided(run(*arguments)[1], "99445")["unverified"]
    statements.write_text(json.dumps([entry | {"at": "lately"}]))
    code, _, err = run(*arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "expected a date or a time" in err


def test_without_a_date_it_decides_as_of_today(tmp_path: Path, site: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", readings(2))
    _, out, _ = run(chart, "--site", site, "--json")
    told = datetime.fromisoformat(json.loads(out)["as_of"]).date()
    assert abs((told - datetime.now(UTC).date()).days) <= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such-file.json"], "no such file or folder"),
        (["{empty}"], "no FHIR files"),
        (["{broken}"], "not JSON"),
        (["{list}"], "no patient found"),
        (["{other}"], "not FHIR"),
        (["{chart}", "--as-of", "2026-13-01"], "expected a date"),
        (["{chart}", "--as-of", "20260401"], "expected a date"),
        (["{chart}", "--history-from", "soon"], "expected a date"),
        (["{chart}", "--timezone", "Mars/Olympus"], "Mars/Olympus"),
        (["{chart}", "--bogus"], "--bogus"),
        (["{chart}", "--site", "{badsite}"], "colour"),
        (["{chart}", "--site", "no-site.yaml"], "no-site.yaml"),
        (["{chart}", "--attestations", "{badsite}"], "badsite.yaml"),
        ([], "PATH"),
    ],
)
def test_a_call_that_cannot_be_carried_out_says_so_in_one_line(
    tmp_path: Path, site: Path, run: Run, arguments: list[str], said: str
) -> None:
    places = {"empty": tmp_path / "empty", "chart": ndjson(tmp_path / "chart.ndjson", readings(2))}
    places["empty"].mkdir()
    for name, text in (
        ("broken", '{"resourceType": "Bundle", "entry": ['),
        ("list", "[]"),
        ("other", '{"a": 1}'),
    ):
        places[name] = tmp_path / f"{name}.json"
        places[name].write_text(text)
    places["badsite"] = tmp_path / "badsite.yaml"
    places["badsite"].write_text("timezone: America/New_York\ncolour: red\n")
    called = [argument.format(**places) for argument in arguments]
    if "--site" not in called:
        called += ["--site", str(site)]
    code, out, err = run(*called)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said in err


def test_without_a_time_zone_nothing_is_decided(tmp_path: Path, run: Run) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", readings(2))
    code, out, err = run(chart, "--as-of", "2026-02-10")
    assert (code, out) == (2, "")
    assert "no time zone" in err


def test_the_command_is_installed_and_needs_no_flask(tmp_path: Path, site: Path) -> None:
    chart = ndjson(tmp_path / "chart.ndjson", [CUFF, *readings(2)])
    script = (
        "import sys; from smartapp.cli import main; "
        f"main(['evaluate', {str(chart)!r}, '--site', {str(site)!r}, '--json']); "
        "sys.exit('flask' in sys.modules or 'requests' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
