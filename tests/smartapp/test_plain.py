"""Whatever a name holds, what people read is neither turned around nor hidden, and no terminal is moved."""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from urllib.parse import urldefrag, urlsplit

import pytest

from smartapp import cli
from smartapp.ehr.handover.sheet import pdf_of, xhtml_of
from smartapp.ehr.handover.worksheet import copied, csv_of
from smartapp.plain import HARMFUL, escaped, latin, printable, readable
from tests.smartapp.test_handover import line

TURNED, ISOLATED, UNSEEN = "\u202e", "\u2066", "\u200b\u2060\ufeff"
ESCAPE = "\x1b[2J\x9b2J\x08"
ODD = f"{TURNED}Ada{ISOLATED}{ESCAPE}Odd{UNSEEN}ly\nNamed\U000e0041"
FAR = 400
"""More pages than there are: a walk that goes on and on is stopped."""


@pytest.mark.parametrize(
    "mark",
    [TURNED, ISOLATED, *UNSEEN, "\x1b", "\x9b", "\x08", "\x00", "\u2028", "\ud800", "\u061c", "\xad"],
)
def test_what_turns_moves_or_hides_is_a_space(mark):
    assert readable(f"a{mark}b") == printable(f"a{mark}b") == latin(f"a{mark}b") == "a b"


@pytest.mark.parametrize(
    "name",
    ["José Núñez", "O'Brien-Smith", "李小龙", "محمد", "שרה", "Nguyễn Thị Minh Khai", "ธนพล", "Zoë 👩"],
)
def test_a_name_of_any_people_stays_what_it_is(name):
    assert readable(name) == printable(name) == escaped(name) == name


def test_lines_are_kept_where_there_are_lines_and_only_there():
    assert readable("a\r\n\tb") == "a\r\n\tb"
    assert printable("a\nb") == "a b"


def test_json_that_is_printed_is_the_same_json_and_moves_no_terminal():
    told = json.dumps({"name": ODD, "tag": "\U000e0041"}, ensure_ascii=False, indent=2)
    shown = escaped(told)
    assert HARMFUL.search(told)
    assert not HARMFUL.search(shown)
    assert json.loads(shown) == json.loads(told)


def test_no_sheet_table_or_copied_line_of_a_charge_holds_any_of_it():
    charge = line(patient=ODD, record_number=ODD, performing=ODD, ordering=ODD, place=ODD, label=ODD)
    text = csv_of([(charge, "state")])
    assert not HARMFUL.search(text)
    assert "\n" not in "".join(cell for row in csv.reader(io.StringIO(text)) for cell in row)
    assert not HARMFUL.search(xhtml_of(charge).decode())
    assert not HARMFUL.search(readable(copied(charge)))
    assert pdf_of(charge).startswith(b"%PDF")


@pytest.fixture
def odd(make_world):
    """A world in which everybody and everything is named like that."""
    world = make_world()
    patient = "ready-musculoskeletal"
    world.ehr_changes(
        "Patient",
        patient,
        name=[{"text": ODD, "family": ODD}],
        identifier=[{"type": {"coding": [{"code": "MR"}]}, "value": ODD}],
    )
    for device in world.resources("Device", patient):
        world.ehr_changes("Device", device["id"], deviceName=[{"name": ODD, "type": "user-friendly-name"}])
    for reading in world.resources("Observation", patient)[:5]:
        world.ehr_changes(
            "Observation", reading["id"], code={**reading["code"], "text": ODD}, note=[{"text": ODD}]
        )
    for person in ("syn-physician", "syn-nurse", "syn-therapist"):
        world.ehr_changes("Practitioner", person, name=[{"text": ODD, "family": ODD}])
    return world


def pages_of(browser, first):
    """Every page of a session that can be reached by links from a first one, that one included."""
    found, waiting = {first.url: first}, deque([first])
    root = "/".join(urlsplit(first.url).path.split("/")[:3])
    while waiting:
        for address, _ in waiting.popleft().links:
            address = urldefrag(address).url
            if urlsplit(address).path.startswith(root) and address not in found:
                page = found[address] = browser.get(address)
                waiting.append(page)
                assert len(found) < FAR
    return found


def harmful(pages):
    """Where it was let out. What is data for programs is left as it came."""
    return {
        urlsplit(address).path: sorted({hex(ord(mark)) for mark in HARMFUL.findall(page.body)})
        for address, page in pages.items()
        if HARMFUL.search(page.body) and page.headers.get("Content-Type", "").startswith("text/")
    }


def test_no_page_of_a_chart_lets_any_of_it_out(odd, browser):
    first = odd.open(browser, "ready-musculoskeletal")
    assert "Ada" in first.text
    before = pages_of(browser, first)
    assert sum("Ada" in page.body for page in before.values()) > 20
    assert harmful(before) == {}
    form = odd.final_form(browser, first)
    accepted = browser.submit(form)
    after = pages_of(browser, odd.read(browser, accepted))
    assert harmful({accepted.url: accepted} | after) == {}
    records = [page for address, page in after.items() if "/records/" in urlsplit(address).path]
    assert any("Ada" in page.text for page in records), "the audit record names the patient"
    shown = next(page for page in after.values() if "/evidence/" in page.url and "u202e" in page.body)
    assert "\\u202eAda\\u2066" in shown.text, "a record as the EHR sent it is shown with what it holds"


def test_what_a_command_prints_moves_no_terminal(tmp_path, capsys):
    reading = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2026-02-03T10:00:00-05:00",
        "code": {"coding": [{"system": "urn:synthetic", "code": "odd", "display": ODD}]},
        "valueQuantity": {"value": 1},
    }
    file = tmp_path / f"chart{TURNED}{ESCAPE}.ndjson"
    file.write_text(
        "\n".join(json.dumps(one) for one in ({"resourceType": "Patient", "id": "p1"}, reading)) + "\n"
    )
    asked = ["evaluate", str(file), "--timezone", "America/New_York", "--as-of", "2026-04-01"]
    assert cli.main([*asked, "--json"]) == 0
    printed = capsys.readouterr()
    assert not HARMFUL.search(printed.out)
    [left_out] = json.loads(printed.out)["excluded"]
    assert left_out["about"]["display"] == ODD, "and it is the same JSON"
    for more in ([], ["--nonsense", ODD], [ODD]):
        cli.main(["evaluate", ODD, *more])
    cli.main([ODD])
    cli.main(["packet", "check", str(file)])
    cli.main(["doctor", ODD])
    printed = capsys.readouterr()
    assert not HARMFUL.search(printed.out + printed.err)
