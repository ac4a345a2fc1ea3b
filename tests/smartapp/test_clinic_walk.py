"""A few patients of the simulated clinic in their first month, billed through the app over HTTP: a biller who
logs, settles and confirms what is true, on the pages, and takes what is suggested. The others, and the later
months, go through the rules alone (`tests/test_clinic`)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from smartapp.commands.checks import Status
from smartapp.commands.packet_check import checked
from tests.support.case_world import PATIENT, PHYSICIAN
from tests.support.clinic import case_of, earned, read_clinic

AS_OF = date(2027, 1, 2)
CLINIC = read_clinic()
TABLE = earned()
WALKED = {
    "c04": "a set-up that is recorded nowhere is logged",
    "c13": "criteria are noted with a reference for two codes, and nothing is asked of the others",
    "c14": "who bills a nurse's month is chosen",
    "c23": "nobody can say that she agreed",
}


@pytest.mark.parametrize("patient", WALKED)
def test_over_the_pages_every_code_that_is_earned_ends_as_a_charge_and_none_other_does(patient, open_case):
    told = next(one for one in CLINIC.patients if one.id == patient)
    here = open_case(case_of(CLINIC, patient, AS_OF))
    log_what_is_missing(here, told)
    settle_what_is_known(here, told)
    accept_what_is_true(here, told)
    charges = sorted((code_of(one), first_day_of(one)) for one in here.world.charges(PATIENT))
    assert charges == sorted(
        (row["code"], row["dated"] if row["code"] in ("98975", "99453") else row["from"])
        for row in TABLE[patient]
        if row["dated"] < AS_OF.isoformat()
    )
    assert bool(charges) == (patient != "c23")


def test_whether_somebody_may_bill_is_asked_once_they_are_chosen_and_no_role_shows_it(open_case):
    case = case_of(CLINIC, "c13", AS_OF)
    beside = {"message": {"at": "2026-12-11T10:00", "for": "1:00", "by": "somebody", "program": "rpm"}}
    here = open_case(replace(case, given=[*case.given, beside]))
    told = next(one for one in CLINIC.patients if one.id == "c13")
    settle_what_is_known(here, told)
    page = here.world.read(here.browser, here.browser.get(here.page.url))
    link = next(target for target, text in page.links if text == "Review and accept 99470")
    form = here.browser.get(link).form("/check")
    asked = sorted(control.value for control in form.controls if control.name == "attest")
    assert "billing-professional" not in asked
    chosen = {one.name: "none" for one in form.controls if one.kind == "select"}
    again = here.browser.submit(form, attest=asked, **chosen | {"performing": "Practitioner/somebody"})
    assert again.status == 422
    assert "The performing practitioner you choose may bill this." in again.text
    shown = here.browser.submit(form, attest=asked, **chosen | {"performing": PHYSICIAN})
    assert shown.status == 200, shown.text
    assert "may bill this" not in shown.text
    written = here.browser.submit(shown.form("/99470-2026-12-01"))
    assert written.status == 200, written.text
    (charge,) = here.world.store.charges.of_patient("sandbox", PATIENT)
    checks = checked(here.world.store.charges.packet(charge.identifier))
    assert {check.status for check in checks} == {Status.OK}, list(checks)


def log_what_is_missing(here, told):
    for work in told.unlogged:
        page = here.browser.get(here.page.url)
        link = next(target for target, text in page.links if "activity=setup-education" in target)
        form = here.browser.get(link).form("/time")
        draft = here.browser.submit(
            form,
            day=work.start.date().isoformat(),
            start=f"{work.start:%H:%M}",
            end=f"{work.start + work.length:%H:%M}",
            person=f"Practitioner/{work.by}",
            program=work.program,
            activity="setup-education",
            live="yes",
        )
        signed = here.browser.submit(draft.form("/sign"), confirm="yes")
        assert signed.status == 200, signed.text


def settle_what_is_known(here, told):
    for entry in told.settled:
        waiting = here.waiting(entry.resolves, entry.resolution.codes)
        said = {"choice": entry.resolution.choice, "reference": entry.resolution.reference}
        while waiting:
            page = here.settle(waiting[0], entry.resolves, **{k: v for k, v in said.items() if v})
            assert page.status == 200, page.text
            left = here.waiting(entry.resolves, entry.resolution.codes)
            assert len(left) < len(waiting)
            waiting = left


def accept_what_is_true(here, told):
    """The first form of which all that is asked is true, until there is none."""
    refused = set()
    while True:
        page = here.world.read(here.browser, here.browser.get(here.page.url))
        links = [target for target, text in page.links if text.startswith("Review and accept")]
        open_ = [target for target in links if target.rpartition("/")[2] not in refused]
        if not open_:
            return
        form = here.world.choices_at(here.browser, open_[0]).form("/check")
        asked = {control.value for control in form.controls if control.name == "attest"}
        if not asked <= told.knows:
            refused.add(open_[0].rpartition("/")[2])
            continue
        chosen = {
            one.name: one.value or next((v for v in one.options if v), "")
            for one in form.controls
            if one.kind == "select"
        }
        (performing,) = (one for one in form.controls if one.name == "performing")
        bills = f"Practitioner/{told.bills}"
        # Whoever is signed in is a physician too, and is offered where no record names hers.
        chosen["performing"] = bills if bills in performing.options else PHYSICIAN
        preview = here.browser.submit(form, **({"attest": sorted(asked)} if asked else {}), **chosen)
        assert preview.status == 200, preview.text
        key = open_[0].rpartition("/")[2]
        written = here.browser.submit(preview.form(f"/{key}"))
        assert written.status == 200, written.text


def code_of(charge):
    return charge["code"]["coding"][0]["code"]


def first_day_of(charge):
    return charge.get("occurrenceDateTime") or charge["occurrencePeriod"]["start"]
