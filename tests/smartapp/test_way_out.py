"""Each reason for a review has a way out, walked over HTTP: settled by a sentence or a choice, kept with who
and when, in the charge and its packet, and taken back; or it says what is done instead, and where (D38)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, time
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
import yaml

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.rules.reviews import How, load_reviews
from fhir_mappings.vocabulary import Outcome, Program
from smartapp import create_app
from smartapp.serving import AppServer
from smartapp.store.charges import Enrolment
from smartapp.web.resolutions import ways_out
from tests.support.chart import build_resources, site_file
from tests.support.evaluation import NEW_YORK, Case, check_case, read_cases

ZONE = ZoneInfo(NEW_YORK)
PHYSICIAN = "Practitioner/syn-physician"
NURSE = "Practitioner/syn-nurse"
REVIEWS = load_reviews()
SETTLED = {reason: review for reason, review in REVIEWS.items() if review.is_settled_here}
CASES = {
    case.name: case
    for case in read_cases(Path(__file__).parents[1] / "cases")
    if case.file.endswith("reviews") and case.attestations
}
WALKED = {
    "payer-unknown": "a payer that somebody asked",
    "payer-criteria": "an authorisation with its number and its end",
    "straddles-rule-change": "a period over a change of rules that somebody decided",
    "conversation-unclear": "a conversation of which whoever held it says that it was one",
    "no-data-in-month": "a month of work on data of another month",
    "units-over-cap": "more units than may be charged",
    "99091": "99091 beside a month of RPM",
    "rtm-and-rpm": "one of two programs",
    "two-lines": "one of two lines",
    "charged-period-unclear": "which period a charge stands for",
    "call-across-months": "which month a call belongs to",
    "visit-on-service-date": "another service date",
    "billing-professional-unknown": "who bills the work of staff",
    "two-professionals": "one of two professionals",
    "staff-role": "in which role somebody worked",
    "same-day-visit": "whose visit it was",
    "in-facility-unclear": "where the patient was",
}
"""The worked case that shows each."""


PATIENT = "nothing"
"""The sandbox's patient whose chart the case's becomes."""


OLDER = {"which period a charge stands for", "which month a call belongs to", "a word that is over"}
"""These speak of a window that a chart with confirmed periods is not read back to. Nobody confirmed them
here, so that a device code stays for review for one other reason: older data may exist."""


class CaseWorld:
    """An EHR with one case's patient, and the app with the case's site, on the case's day."""

    def __init__(self, world, browser, case):
        self.world, self.browser, self.case = world, browser, case
        self.page = world.open(browser, PATIENT)

    def answer(self):
        told = self.browser.get(f"{self.page.url}decisions.json").body
        answer = json.loads(told.replace(f"Patient/{PATIENT}", "Patient/p1"))
        return {key: value for key, value in answer.items() if key not in {"resolutions", "attestations"}}

    def waiting(self, reason, codes=()):
        """Keys of the decisions that are for review for a reason, in order."""
        return [
            f"{one['code']}-{one['period']['start']}"
            for one in self.answer()["decisions"]
            if one["outcome"] == "review" and reason in one["reasons"] and (not codes or one["code"] in codes)
        ]

    def outcome(self, key):
        code, _, start = key.partition("-")
        decisions = self.answer()["decisions"]
        return next(
            one["outcome"] for one in decisions if (one["code"], one["period"]["start"]) == (code, start)
        )

    def form(self, key, reason):
        return self.browser.get(f"{self.page.url}settled/{key}/{reason}").form(f"/{reason}")

    def settle(self, key, reason, **said):
        form = self.form(key, reason)
        names = {control.name for control in form.controls}
        scopes = [control.value for control in form.controls if control.name == "scope"]
        if scopes and "scope" not in said:
            said["scope"] = "these" if "choice" in said and "these" in scopes else "this"
        said = {"confirm": "yes", **said}
        return self.browser.submit(form, **{name: value for name, value in said.items() if name in names})

    def settle_as_the_case_does(self, reason, **changes):
        """Fill the form in with what the case says; the key it was opened from, and the page after it."""
        told = next(one for one in self.case.attestations if one["resolves"] == reason)
        expected = {one["code"] for one in _expected(self.case)["decisions"]}
        waiting = self.waiting(reason, told.get("codes", expected)) or self.waiting(reason)
        key = waiting[0]
        said = {name: told[name] for name in ("choice", "reference", "until") if name in told}
        if "choice" in said:
            said["choice"] = said["choice"].rpartition(" as ")[2]
        return key, self.settle(key, reason, **(said | changes))

    def settled(self):
        return self.browser.get(f"{self.page.url}settled")


@pytest.fixture
def open_case(make_world, browser):
    """A function from a case to its world."""

    def opened(name: str, nurse: str = "clinical-staff", **site) -> CaseWorld:
        case: Case = CASES[name]
        begins = datetime.combine(date.fromisoformat(case.as_of), time(12), ZONE)
        world = make_world(begins=begins, serve=False)
        payer = case.options[1] if "--payer" in case.options else case.payer
        told = site_file(case.timezone, payer, case.terminology) | dict(case.site) | site
        told["users"] = [{"user": PHYSICIAN, "role": "physician"}, {"user": NURSE, "role": nurse}]
        place = world.settings.site_file
        for name_, table in case.files.items():
            (place.parent / name_).write_text(yaml.safe_dump(table))
        place.write_text(yaml.safe_dump(told))
        hold(world, case)
        if name not in OLDER:
            begin_periods(world, case)
        port = urlsplit(world.settings.base_url).port
        world.stack.enter_context(AppServer(create_app(world.settings), "127.0.0.1", port))
        return CaseWorld(world, browser, case)

    return opened


def hold(world, case):
    """The sandbox's patient has the chart of the case's first one, and no other."""
    store = world.ehr.sandbox.store
    with store.database.read() as connection:
        held = connection.execute("SELECT type, id FROM resource WHERE patient = ?", (PATIENT,)).fetchall()
    for type_, id_ in held:
        store.delete(type_, id_)
    for resource in build_resources(case.given, NEW_YORK):
        text = json.dumps(resource).replace("Patient/p1", f"Patient/{PATIENT}")
        if resource["resourceType"] == "Patient":
            text = json.dumps({**resource, "id": PATIENT})
        if "Patient/p2" in text or resource["id"] == "p2":
            continue
        body = json.loads(text)
        shared = resource["resourceType"] in SHARED
        store.load_as_it_is(text, body["resourceType"], body["id"], None if shared else PATIENT)


def begin_periods(world, case):
    """Somebody confirmed where the 30-day periods begin, so that older data are not in question."""
    first = min(date.fromisoformat(one["days"]["from"]) for one in case.given if "days" in one)
    for program in ("rtm", "rpm"):
        enrolment = Enrolment(
            "sandbox", PATIENT, program, first, "enrolment-record", PHYSICIAN, world.now(), False
        )
        assert world.store.charges.confirm_anchor(enrolment)


SHARED = {"Practitioner", "PractitionerRole", "Organization", "Location", "DeviceMetric"}


def test_every_reason_that_a_word_settles_is_walked() -> None:
    assert WALKED.keys() == SETTLED.keys()


@pytest.mark.parametrize("reason", sorted(WALKED))
def test_the_way_out_is_walked_and_the_decision_follows(reason, open_case):
    here = open_case(WALKED[reason])
    before = here.answer()["decisions"]
    _, told = here.settle_as_the_case_does(reason)
    assert told.status == 200, told.text
    assert "What was settled (1)" in told.text
    assert REVIEWS[reason].says in told.text
    assert "Avery Synthetic-Physician" in told.text
    assert "No code rests on it now." not in told.text
    assert here.answer()["decisions"] != before
    check_case(replace(here.case, expect=_expected(here.case)), here.answer())
    here.browser.submit(here.settled().form("/revoke"))
    assert "Taken back on" in here.settled().text
    assert here.answer()["decisions"] == before


def _expected(case):
    """What the case says of p1, but for by whom it was settled there, and for what is settled elsewhere."""
    expect = case.expect.get("patients", {"p1": case.expect})["p1"]
    decisions = [
        {name: value for name, value in one.items() if name != "resolved"} for one in expect["decisions"]
    ]
    if case.name in OLDER:
        unread = {"outcome": "review", "reasons": ["history-incomplete"]}
        decisions = [
            one | unread if one["code"] == "98977" and one["outcome"] == "suggest" else one
            for one in decisions
        ]
    return {**expect, "decisions": decisions}


def test_it_is_in_the_charge_its_packet_and_the_audit_trail(open_case):
    here = open_case("a payer that somebody asked")
    key, _ = here.settle_as_the_case_does("payer-unknown")
    page = here.browser.get(here.page.url)
    assert "I asked this patient's plan" in page.text
    written = here.browser.submit(here.world.final_form(here.browser, page, key))
    assert written.status == 200, written.text
    (charge,) = here.world.charges(PATIENT)
    note = charge["note"][0]["text"]
    assert "Settled by a person: I asked this patient's plan" in note
    assert "Reference: call 77." in note
    (row,) = here.world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(here.world.store.charges.packet(row.identifier))
    (kept,) = packet["evidence"]["resolutions"]
    assert (kept["resolves"], kept["by"], kept["reference"]) == ("payer-unknown", PHYSICIAN, "call 77")
    assert packet["evidence"]["decision"]["resolved"][0]["reference"] == "call 77"
    entries = list(here.world.store.audit.entries())
    (settled,) = (entry for entry in entries if entry["event"] == "review-settled")
    assert (settled["settles"], settled["user"]) == ("payer-unknown", PHYSICIAN)


def test_what_would_settle_nothing_is_refused_and_nothing_is_kept(open_case):
    here = open_case("a service date before the time was reached")
    _, told = here.settle_as_the_case_does("visit-on-service-date")
    assert told.status == 422
    assert "nothing is decided otherwise" in told.text
    assert "Nothing was settled" in here.settled().text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"confirm": ""}, "Confirm that it is true."),
        ({"reference": "  "}, "Give the reference"),
        ({"until": "soon"}, "as a date"),
        ({"scope": "from-now-on"}, "Give the last day for which it holds."),
        ({"scope": "all"}, "Say for which codes and days."),
    ],
)
def test_what_is_missing_is_said_in_a_sentence(open_case, changes, sentence):
    here = open_case("a payer that somebody asked")
    _, told = here.settle_as_the_case_does("payer-unknown", **changes)
    assert told.status == 422
    assert sentence in told.text
    assert "Nothing was settled" in here.settled().text


def test_one_scope_holds_up_to_its_last_day(open_case):
    here = open_case("a word that is over")
    _, told = here.settle_as_the_case_does("payer-unknown", scope="from-now-on")
    assert "service dates up to 31 Mar 2026" in told.text
    assert here.waiting("payer-unknown", {"98977"}) == ["98977-2026-04-01"]


def test_whoever_may_not_settle_reads_why(open_case):
    here = open_case("a payer that somebody asked")
    page = here.world.open(here.browser, PATIENT, user=NURSE)
    refused = here.browser.get(f"{page.url}settled")
    assert refused.status == 403
    assert "does not settle what is for review" in refused.text


@pytest.mark.parametrize(
    ("name", "reason", "status"),
    [
        ("a payer that somebody asked", "payer-unknown", 200),
        (WALKED["conversation-unclear"], "conversation-unclear", 422),
    ],
)
def test_a_biller_settles_what_a_biller_may_and_nothing_else(open_case, name, reason, status):
    here = open_case(name, nurse="non-clinical", permissions={"resolve": ["physician", "non-clinical"]})
    here.page = here.world.open(here.browser, PATIENT, user=NURSE)
    _, told = here.settle_as_the_case_does(reason)
    assert told.status == status
    assert ("Only a clinician can know this" in told.text) == (status == 422)


def test_a_reason_that_does_not_hold_a_code_has_no_form(open_case):
    here = open_case("a payer that somebody asked")
    key = here.waiting("payer-unknown")[0]
    assert here.browser.get(f"{here.page.url}settled/{key}/setup-not-documented").status == 404
    assert here.browser.get(f"{here.page.url}settled/{key}/two-lines").status == 409
    assert here.browser.get(f"{here.page.url}settled/98977-1999-01-01/payer-unknown").status == 404


@pytest.mark.parametrize("reason", sorted(REVIEWS))
def test_each_row_offers_a_form_or_says_what_is_done_instead(reason):
    (way,) = ways_out(decision(Outcome.REVIEW, reason))
    review = REVIEWS[reason]
    if review.is_settled_here:
        assert way.endpoint == "resolutions.form"
        assert not way.says
        return
    assert way.says == review.says
    done_here = review.how in {How.LOG, How.PERIODS, How.READ_AGAIN}
    assert (way.endpoint is not None) == done_here
    assert bool(way.label) == done_here


def test_what_is_charged_or_covered_offers_nothing_to_settle():
    for outcome in (Outcome.CHARGED, Outcome.BLOCKED, Outcome.SUGGEST, Outcome.PROVISIONAL):
        assert ways_out(decision(outcome, "payer-unknown")) == ()


def decision(outcome, reason):
    day = date(2026, 3, 2)
    return Decision(
        code="98977",
        program=Program.RTM,
        line=None,
        quantity=1,
        outcome=outcome,
        period=Window(day, day),
        service_date=day,
        requirements=(),
        reasons=(reason,),
        unverified=(),
        modifiers=(),
        forecast=None,
    )
