"""Tasks and documents for billing: what was shown leaves, once, without readings, and can be called back."""

from __future__ import annotations

import base64
import hashlib
import json
from types import SimpleNamespace
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

from fhir_mappings.vocabulary import Line, Program
from smartapp.configuration.handover import HandoverEntry, HandoverSettings
from smartapp.ehr.handover.fhir_record import is_behavioral
from smartapp.ehr.handover.method import Asked
from smartapp.ehr.handover.sheet import pdf_of, xhtml_of
from smartapp.ehr.reading.display import ICD_10_CM
from smartapp.store.claims import ChargeState
from tests.smartapp.conftest import EXTRA_SCOPES
from tests.smartapp.test_handover import (
    CODE,
    NO_CHARGE_ITEM,
    PATIENT,
    accepted,
    decisions,
    line,
    outcome_of,
    rows,
)
from tests.smartapp.test_packet_view import text_of

COGNITIVE = "ready-cognitive"
TASKS = "handover: [{task: {owner: Organization/billing}}]\n"
DOCUMENTS = "handover: [{document: {}}]\n"
SCOPES = (*EXTRA_SCOPES, "patient/Task.crus", "patient/DocumentReference.crus")


@pytest.fixture
def make(make_world):
    def made(handover, **more):
        world = make_world(issuer_more=NO_CHARGE_ITEM, site_more=handover, extra_scopes=SCOPES, **more)
        world.ehr.sandbox.store.load(
            [{"resourceType": "Organization", "id": "billing", "name": "Billing (synthetic)"}]
        )
        return world

    return made


def preview_of(world, browser):
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    return page, world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1])


def shown_in(preview):
    """The JSON of the technical view."""
    return json.loads(preview.text[preview.text.index("{") : preview.text.rindex("}") + 1])


def test_a_task_holds_exactly_what_the_preview_showed_and_nothing_of_a_reading(make, browser):
    world = make(TASKS)
    page = world.open(browser, PATIENT)
    assert "This EHR takes charges as: tasks for billing" in page.text
    link = next(target for target, text in page.links if text.endswith(CODE))
    form = world.choices_at(browser, link).form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    chosen = {c.name: c.value or next(v for v in c.options if v) for c in form.controls if c.kind == "select"}
    preview = browser.submit(form, **({"attest": statements} if statements else {}), **chosen)
    shown = shown_in(preview)
    final = preview.form(urlsplit(link).path)
    result = browser.submit(final)
    assert "The charge was handed over" in result.text
    assert "not confirmed by the EHR as a charge" in result.text
    browser.submit(final)  # pressed again
    (task,) = world.resources("Task", PATIENT)
    assert {key: value for key, value in task.items() if key not in {"id", "meta"}} == shown
    assert task["owner"] == {"reference": "Organization/billing"}
    assert task["for"] == {"reference": f"Patient/{PATIENT}"}
    text = json.dumps(task)
    assert "Observation/" not in text
    assert "note" not in task
    (row,) = rows(world)
    assert row.state is ChargeState.HANDED_OVER
    assert row.name == f"Task/{task['id']}"
    twin = decisions(world, browser, page.url)
    assert outcome_of(twin, CODE, row.content.decision)["outcome"] == "charged"
    assert [one["name"] for one in twin["handed_over"]] == [row.name]


def test_a_task_whose_answer_is_lost_is_found_again_and_written_once(make, browser):
    world = make(TASKS)
    _, form = preview_of(world, browser)
    world.ehr.sandbox.quirks.fail_after_commit = 1
    result = browser.submit(form)
    assert "The charge was handed over" in result.text
    assert len(world.resources("Task", PATIENT)) == 1


def test_a_task_that_billing_has_not_taken_up_is_called_back_and_one_that_it_has_is_not(make, browser):
    world = make(TASKS)
    _, address = accepted(world, browser)
    (task,) = world.resources("Task", PATIENT)
    world.ehr_changes("Task", task["id"], status="in-progress")
    sheet = browser.get(address + "worksheet")
    asked = browser.get(next(target for target, text in sheet.links if text == "Take it back"))
    refused = browser.submit(asked.form("/take-back"), reason="entered twice")
    assert refused.status == 409
    assert "Billing has taken the task up" in refused.text
    assert rows(world)[0].state is ChargeState.HANDED_OVER
    world.ehr_changes("Task", task["id"], status="requested")
    browser.submit(asked.form("/take-back"), reason="entered twice")
    assert rows(world)[0].state is ChargeState.WITHDRAWN
    (task,) = world.resources("Task", PATIENT)
    assert task["status"] == "cancelled"


def test_a_document_holds_the_worksheet_as_pdf_and_xhtml(make, browser):
    world = make(DOCUMENTS)
    result, _ = accepted(world, browser)
    assert "The charge was handed over" in result.text
    (document,) = world.resources("DocumentReference", PATIENT)
    pdf, xhtml = (base64.b64decode(one["attachment"]["data"]) for one in document["content"])
    assert pdf.startswith(b"%PDF-")
    cells = [cell.text for cell in ElementTree.fromstring(xhtml).iter("{http://www.w3.org/1999/xhtml}td")]
    assert any(cell.startswith(CODE) for cell in cells)
    assert "Observation/" not in json.dumps(document)
    assert rows(world)[0].state is ChargeState.HANDED_OVER


def test_the_preview_of_a_document_says_what_stands_on_it_and_shows_no_base64(make, browser):
    world = make(DOCUMENTS)
    page = world.open(browser, PATIENT)
    link = next(target for target, text in page.links if text.endswith(CODE))
    form = world.choices_at(browser, link).form("/check")
    statements = [control.value for control in form.controls if control.name == "attest"]
    chosen = {c.name: c.value or next(v for v in c.options if v) for c in form.controls if c.kind == "select"}
    preview = browser.submit(form, **({"attest": statements} if statements else {}), **chosen)
    browser.submit(preview.form(urlsplit(link).path))
    (document,) = world.resources("DocumentReference", PATIENT)
    whole = [base64.b64decode(one["attachment"]["data"]) for one in document["content"]]
    rows_ = ElementTree.fromstring(whole[1]).iter("{http://www.w3.org/1999/xhtml}tr")
    assert "What the document says" in preview.text
    for name, value in (tuple(cell.text for cell in row) for row in rows_):
        assert f"{name} {value}" in preview.text
    for kind, content, entry in zip(("PDF", "XHTML"), whole, document["content"], strict=True):
        told = f"{kind}, {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}"
        assert preview.text.count(told) == 2, "in words, and in the place of its bytes"
        assert entry["attachment"]["data"][:60] not in preview.body


@pytest.mark.parametrize(("more", "tasks"), [("", 0), (", behavioral_health: true", 1)])
def test_behavioural_health_leaves_as_a_task_only_where_the_site_chose_that(make, browser, more, tasks):
    world = make("handover: [{task: {owner: Organization/billing}" + more + "}]\n")
    page = world.open(browser, COGNITIVE)
    link = next(target for target, text in page.links if text.startswith("Review and accept"))
    form = browser.get(link)
    assert ("behavioural health" in form.text) is (tasks == 0)
    browser.submit(world.final_form(browser, page, urlsplit(link).path.rsplit("/", 1)[1]))
    assert len(world.resources("Task", COGNITIVE)) == tasks
    (row,) = world.store.charges.of_patient("sandbox", COGNITIVE)
    assert row.state is (ChargeState.HANDED_OVER if tasks else ChargeState.TO_ENTER)


# The parts


def asked(line=None, others=(), diagnosis=None):
    decision = SimpleNamespace(line=line, program=Program.RTM)
    findings = SimpleNamespace(assessment=SimpleNamespace(decisions=[decision, *others]))
    reason = [] if diagnosis is None else [{"coding": [{"system": ICD_10_CM, "code": diagnosis}]}]
    return Asked(decision, findings, {"reason": reason})


def test_a_charge_tells_of_behavioural_health_by_line_program_or_diagnosis():
    cognitive = SimpleNamespace(line=Line.COGNITIVE_BEHAVIORAL, program=Program.RTM)
    physiologic = SimpleNamespace(line=Line.COGNITIVE_BEHAVIORAL, program=Program.RPM)
    assert is_behavioral(asked(Line.COGNITIVE_BEHAVIORAL))
    assert is_behavioral(asked(None, [cognitive])), "minutes of a month have no line of their own"
    assert is_behavioral(asked(Line.MUSCULOSKELETAL, diagnosis="f32.1"))
    assert not is_behavioral(asked(Line.MUSCULOSKELETAL, [cognitive]))
    assert not is_behavioral(asked(None, [physiologic]))
    assert not is_behavioral(asked(Line.MUSCULOSKELETAL, diagnosis="M17.11"))


def test_equal_lines_make_equal_bytes_and_a_name_beyond_latin_letters_is_told():
    one = line(patient="Łucja <Synthetic> \u0007")
    assert pdf_of(one) == pdf_of(one)
    xhtml = xhtml_of(one)
    assert xhtml == xhtml_of(one)
    cells = [cell.text for cell in ElementTree.fromstring(xhtml).iter("{http://www.w3.org/1999/xhtml}td")]
    assert cells[0] == "Łucja <Synthetic>  "
    assert len(pdf_of(one)) > len(pdf_of(line(patient="Lucja <Synthetic>"))), "it says what it cannot show"


@pytest.mark.parametrize(
    ("entries", "many", "says"),
    [
        (["general"], {"other": False}, "no registered EHR"),
        ([None], {"one": False, "two": False}, "say for which EHR"),
        (["cloud"], {"cloud": True}, "stands for many practices"),
        ([None], {"cloud": True}, "stands for many practices"),
        (["one", "one"], {"one": False}, "listed twice"),
    ],
)
def test_an_entry_says_which_ehr_it_is_for(entries, many, says):
    settings = HandoverSettings(tuple(HandoverEntry(issuer=name) for name in entries))
    with pytest.raises(ValueError, match=says):
        settings.check(many)


def test_no_name_on_a_sheet_stands_for_the_number_of_its_pages():
    assert "Synthetic {nb}" in text_of(pdf_of(line(patient="Synthetic {nb}")))
