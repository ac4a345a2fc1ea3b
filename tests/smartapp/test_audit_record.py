"""The audit record of a charge can be opened: what was kept when it was written, as a page and as a file."""

from __future__ import annotations

import hashlib
import json

from fhir_mappings.vocabulary import Unverified
from smartapp.web.words import ATTESTATIONS

PATIENT = "ready-musculoskeletal"
OTHER = "ready-respiratory"


def written(world, browser, patient=PATIENT):
    """The page that says that a device charge was written, and the link to its record."""
    page = world.open(browser, patient)
    result = browser.submit(world.final_form(browser, page))
    assert result.status == 200, result.text
    return next(target for target, text in result.links if text == "Open the audit record")


def events(world, name):
    return [entry for entry in world.store.audit.entries() if entry["event"] == name]


def test_it_says_what_was_charged_on_what_records_by_whom_and_what_was_confirmed(world, browser):
    world.ehr_shows_surgery(PATIENT)
    record = browser.get(written(world, browser))
    assert record.status == 200
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(world.store.charges.packet(row.identifier))
    assert f"Audit record of {row.code}" in record.text
    assert "Confirmed by Avery Synthetic-Physician" in record.text
    assert ATTESTATIONS[Unverified.GLOBAL_PERIOD] in record.text
    assert "It was read back from the EHR, and is what was sent." in record.text
    for part in packet["evidence"]["decision"]["requirements"]:
        for name in part["evidence"]:
            assert name in record.text
        assert part["reference"] in record.text
    assert json.loads(record.text[record.text.index("{") : record.text.rindex("}") + 1]) == packet["written"]


def test_the_file_is_the_packet_byte_for_byte_and_opening_it_is_audited(world, browser):
    link = written(world, browser)
    file = browser.get(f"{link}.json")
    (kept,) = world.store.packets.all(PATIENT)
    assert hashlib.sha256(file.body.encode()).hexdigest() == kept.sha256
    assert file.headers["Content-Disposition"] == f'attachment; filename="{kept.name}.json"'
    assert file.headers["Cache-Control"] == "no-store"
    (opened,) = events(world, "packet-opened")
    assert (opened["packet"], opened["patient"], opened["user"]) == (
        kept.name,
        PATIENT,
        "Practitioner/syn-physician",
    )


def test_a_change_is_a_record_of_its_own_beside_it(world, browser):
    name = written(world, browser).rsplit("/", 1)[1]
    page = world.open(browser, PATIENT)
    ask = browser.get(next(target for target, text in page.links if text == "Withdraw it"))
    check = browser.submit(ask.form("/withdraw"), reason="It was for another month.")
    browser.submit(next(form for form in check.forms if "/changes/" in form.action))
    record = browser.get(f"{page.url}records/{name}")
    other = next(target for target, text in record.links if text.startswith("A change, written on"))
    assert "It was for another month." in browser.get(other).text


def test_a_charge_and_its_month_open_as_page_pdf_and_file_for_this_patient_alone(world, browser):
    link = written(world, browser)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    (kept,) = world.store.packets.all(PATIENT)
    month = f"{row.content.service_date:%Y-%m}"
    months = browser.get(link.rsplit("/", 1)[0])
    of_month = browser.get(next(target for target, _ in months.links if target.endswith(month)))
    assert f"Charge: {row.code}" in of_month.text
    assert "The rule" in of_month.text
    assert "Confirmed by Avery Synthetic-Physician" in of_month.text
    for address in (link, of_month.url):
        pdf = browser.get(f"{address}.pdf")
        assert (pdf.status, pdf.headers["Content-Type"]) == (200, "application/pdf")
        assert pdf.headers["Cache-Control"] == "no-store"
    (one,) = json.loads(browser.get(f"{of_month.url}.json").body)["packets"]
    assert (one["name"], one["sha256"]) == (kept.name, kept.sha256)
    assert {entry["packet"] for entry in events(world, "packet-opened")} == {kept.name}
    page = world.open(browser, OTHER)
    for wrong in (month, "2026-13", "x"):
        assert browser.get(f"{page.url}records/month/{wrong}").status == 404
    assert "Nothing was charged for this patient from here." in browser.get(f"{page.url}records").text


def test_another_patients_record_is_not_found_here(world, browser):
    name = written(world, browser).rsplit("/", 1)[1]
    page = world.open(browser, OTHER)
    assert browser.get(f"{page.url}records/{name}").status == 404
    assert browser.get(f"{page.url}records/{name}.json").status == 404
    assert events(world, "packet-opened") == []
