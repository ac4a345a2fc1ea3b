"""`smartapp evaluate` reads everything that it is given, or says what it did not, and knows it as missing."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smartapp.population import files as input_files
from tests.smartapp.test_evaluate import CUFF, bundle, ndjson, readings, run, site  # noqa: F401 - fixtures

Run = Callable[..., tuple[int, str, str]]

CHARGE: dict[str, Any] = {
    "resourceType": "ChargeItem",
    "id": "c1",
    "status": "billed",
    "subject": {"reference": "Patient/p1"},
    "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "99454"}]},
    "occurrencePeriod": {"start": "2026-01-05", "end": "2026-02-03"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixteen days of readings, and a charge for them beside it that a test puts somewhere."""
    path = tmp_path / "export"
    path.mkdir()
    ndjson(path / "Observation.ndjson", [CUFF, *readings(16)])
    return path


@pytest.fixture
def answer(run: Run, site: Path) -> Callable[..., tuple[dict[str, Any], str]]:  # noqa: F811
    def asked(*paths: Path) -> tuple[dict[str, Any], str]:
        code, out, err = run(*paths, "--site", site, "--as-of", "2026-02-10", "--json")
        assert code == 0, err
        return json.loads(out), err

    return asked


def device_code(found: dict[str, Any]) -> dict[str, Any]:
    (decision,) = (one for one in found["decisions"] if one["code"] == "99454")
    return decision


def missing(found: dict[str, Any]) -> list[tuple[str | None, str]]:
    return [(one["type"], one["why"]) for one in found["completeness"]["missing"]]


@pytest.mark.parametrize("name", ["ChargeItem.ndjson.gz", "charges.json.gz", "CHARGES.JSONL.GZ"])
def test_packed_files_are_read(folder, answer, name):
    with gzip.open(folder / name, "wt") as packed:
        packed.write(json.dumps(CHARGE))
    found, _ = answer(folder)
    assert device_code(found)["outcome"] == "charged"
    assert found["completeness"]["whole"]


def test_a_packed_file_that_broke_off_is_named(folder, answer):
    packed = gzip.compress((json.dumps(CHARGE) + "\n").encode() * 2000)
    (folder / "ChargeItem.ndjson.gz").write_bytes(packed[: len(packed) // 2])
    found, err = answer(folder)
    assert "ChargeItem.ndjson.gz" in err
    assert ("ChargeItem", "file-not-read") in missing(found)


def _broken_off(text: str) -> bytes:
    """Packed, with two thirds of it there; behind `text`, which is among them, much that cannot be packed."""
    noise = "".join(
        f'{{"resourceType": "Observation", "id": "{os.urandom(300).hex()}"}}\n' for _ in range(300)
    )
    packed = gzip.compress((text + noise).encode())
    return packed[: len(packed) * 2 // 3]


@pytest.mark.parametrize("in_lines", [True, False])
@pytest.mark.parametrize(
    ("before", "types"),
    [
        ([], [("Observation", "file-not-read")]),
        ([CUFF], [(None, "file-not-read"), ("Device", "file-not-read")]),
    ],
)
def test_of_a_packed_file_that_broke_off_more_of_what_came_is_missing(
    tmp_path, answer, in_lines, before, types
):
    folder = tmp_path / "export"
    folder.mkdir()
    ndjson(folder / "devices.ndjson", [CUFF])
    lines = [json.dumps(one) for one in [*before, *readings(15)]]
    if in_lines:
        (folder / "part-000.ndjson.gz").write_bytes(_broken_off("\n".join(lines) + "\n"))
    else:
        entries = ",".join(f'{{"resource": {line}}}' for line in lines)
        text = f'{{"resourceType": "Bundle", "type": "collection", "entry": [{entries},'
        (folder / "part-000.json.gz").write_bytes(_broken_off(text))
    found, err = answer(folder)
    (short,) = (one for one in found["decisions"] if one["code"] == "99445")
    assert (short["requirements"][0]["found"], short["outcome"]) == (15, "review")
    assert "record-incomplete" in short["reasons"]
    assert "not read to its end" in err
    assert set(types) <= set(missing(found))
    assert in_lines or before or ("Observation", "cut-off") in missing(found)


@pytest.mark.parametrize(
    ("name", "type_"), [("ChargeItem.csv", "ChargeItem"), ("charges.xml", None), ("a Claim.ndjson.zip", None)]
)
def test_a_file_of_an_unknown_kind_is_named_and_missing(folder, answer, name, type_):
    (folder / name).write_text("whatever")
    found, err = answer(folder)
    assert name in err
    assert missing(found) == [(type_, "file-not-read")] or type_ is None
    assert "prior-charges" in device_code(found)["unverified"]
    assert device_code(found)["outcome"] == "suggest"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("package.json", '{"name": "hl7.example", "version": "1"}'),
        ("manifest.json", '{"output": [{"type": "Observation", "url": "https://e.example/1"}], "error": []}'),
    ],
)
def test_a_json_file_in_which_no_record_stands_is_named_and_lacks_nothing(folder, answer, name, text):
    (folder / name).write_text(text)
    found, err = answer(folder)
    assert name in err
    assert found["completeness"]["whole"]


@pytest.mark.parametrize(
    ("name", "text", "type_"),
    [
        ("page.json", '{"count": 1, "results": [{"resourceType": "ChargeItem"}]}', None),
        ("ChargeItem.json", "{}", "ChargeItem"),
    ],
)
def test_a_json_file_that_may_hold_records_is_missing(folder, answer, name, text, type_):
    (folder / name).write_text(text)
    found, err = answer(folder)
    assert name in err
    assert missing(found) == [(type_, "file-not-read")]


def test_hidden_files_are_nobodys_records(folder, answer):
    (folder / ".DS_Store").write_text("x")
    found, err = answer(folder)
    assert found["completeness"]["whole"]
    assert err == ""


def test_a_linked_folder_is_not_followed_and_named(folder, answer, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    ndjson(elsewhere / "ChargeItem.ndjson", [CHARGE])
    (folder / "charges").symlink_to(elsewhere)
    found, err = answer(folder)
    assert "charges" in err
    assert missing(found) == [(None, "file-not-read")]


def test_a_folder_that_may_not_be_entered_is_named(folder, answer, monkeypatch):
    inner = folder / "charges"
    inner.mkdir()
    ndjson(inner / "ChargeItem.ndjson", [CHARGE])
    entered = os.scandir

    def refused(path):
        if Path(path) == inner:
            raise PermissionError(13, "Permission denied", str(path))
        return entered(path)

    monkeypatch.setattr(os, "scandir", refused)
    found, err = answer(folder)
    assert "charges: cannot be entered" in err
    assert missing(found) == [(None, "file-not-read")]
    assert "prior-charges" in device_code(found)["unverified"]


def test_a_pipe_in_a_folder_is_named_and_not_waited_for(folder, answer):
    os.mkfifo(folder / "Observation.json")
    found, err = answer(folder)
    assert "no ordinary file" in err
    assert ("Observation", "file-not-read") in missing(found)


def test_a_pipe_that_was_named_is_read(tmp_path, answer):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = json.dumps(bundle([CUFF, *readings(16), CHARGE]))
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    found, _ = answer(pipe)
    writer.join()
    assert device_code(found)["outcome"] == "charged"


def test_a_pipe_that_nobody_writes_to_is_said_to_be_one(tmp_path, run, site, monkeypatch):  # noqa: F811
    monkeypatch.setattr(input_files, "_WAIT_FOR_WRITER_SECONDS", 0.05)
    os.mkfifo(tmp_path / "pipe")
    code, _, err = run(tmp_path / "pipe", "--site", site)
    assert code == 2
    assert "nobody writes to this pipe" in err


@pytest.mark.parametrize("lines", [[CHARGE], [CHARGE, CHARGE | {"id": "c2"}]])
def test_a_mangled_line_is_of_the_type_of_the_other_lines(folder, answer, lines):
    path = ndjson(folder / "part-0.ndjson", lines)
    path.write_text(path.read_text() + '{"resou\n')
    found, _ = answer(folder)
    assert ("ChargeItem", "unreadable") in missing(found)
    assert "prior-charges" in device_code(found)["unverified"]


def test_a_mangled_line_alone_is_of_the_type_that_its_file_names(folder, answer):
    (folder / "ChargeItem.000.ndjson").write_text('{"resou\n')
    found, _ = answer(folder)
    assert ("ChargeItem", "unreadable") in missing(found)


def test_a_document_that_broke_off_gives_what_came_of_it_and_says_so(tmp_path, answer):
    text = json.dumps(bundle([CUFF, *readings(16)]))
    path = tmp_path / "chart.json"
    path.write_text(text[: text.rindex("p1-o15") - 40])
    found, err = answer(path)
    assert "not read to its end" in err
    assert device_code(found)["requirements"][0]["found"] == 15
    assert ("Observation", "cut-off") in missing(found)


def test_no_file_name_moves_a_cursor(folder, answer):
    (folder / "a\x1b[2Jb.txt").write_text("x")
    _, err = answer(folder)
    assert "\x1b" not in err
    assert "a?[2Jb.txt" in err


@pytest.mark.parametrize(
    ("url", "type_"),
    [
        ("https://ehr.example/" + "a" * 400 + ".ndjson", "Observation"),
        ("https://ehr.example/a%00b.ndjson", "Observation"),
        ("../../elsewhere.ndjson", "Observation"),
        ("http://[", None),
        ("https://ehr.example/", None),
        (7, None),
    ],
)
def test_whatever_a_manifest_calls_a_file_it_is_missing_and_nothing_else_happens(folder, answer, url, type_):
    output = [{"type": "Observation", "url": url}]
    (folder / "manifest.json").write_text(json.dumps({"transactionTime": "2026-02-01", "output": output}))
    found, said = answer(folder)
    assert missing(found) == [(type_, "file-not-read")]
    assert "named by manifest.json, and not there" in said
    assert not found["completeness"]["whole"]


@pytest.mark.parametrize("indent", [2, None], ids=["one document over many lines", "an array"])
def test_a_document_under_the_name_of_lines_is_read_as_what_it_is(folder, answer, indent):
    records = [json.loads(line) for line in (folder / "Observation.ndjson").read_text().splitlines()]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": one} for one in records]}
    text = json.dumps(bundle if indent else records, indent=indent)
    (folder / "Observation.ndjson").write_text(text)
    found, err = answer(folder)
    assert (device_code(found)["outcome"], err) == ("suggest", "")
    assert found["completeness"]["whole"]


JOINED = [{"resourceType": "Patient", "id": "p1"}, CHARGE]


@pytest.mark.parametrize("wrapped", [False, True], ids=["resources", "Bundles"])
@pytest.mark.parametrize("name", ["all.json", "all.ndjson"])
def test_documents_that_somebody_joined_are_all_read(folder, answer, name, wrapped):
    parts = [{"resourceType": "Bundle", "entry": [{"resource": one}]} if wrapped else one for one in JOINED]
    (folder / name).write_text("\n".join(json.dumps(part, indent=2) for part in parts))
    found, err = answer(folder)
    assert (device_code(found)["outcome"], err) == ("charged", "")
    assert found["completeness"]["whole"]


def test_of_joined_documents_the_last_may_have_broken_off(folder, answer):
    text = "\n".join(json.dumps(part, indent=2) for part in JOINED)
    (folder / "all.json").write_text(text[:-20])
    found, err = answer(folder)
    assert device_code(found)["outcome"] != "suggest"
    assert "prior-charges" in device_code(found)["unverified"]
    assert ("ChargeItem", "unreadable") in missing(found)
    assert "not read to its end" in err
