"""What a clinician reads on the pages: days, values and sentences, and no word that only a machine means."""

from __future__ import annotations

import html
import re
from enum import Enum
from urllib.parse import urlsplit

import pytest

from fhir_mappings.anchor import AnchorSource
from fhir_mappings.completeness import MissingWhy
from fhir_mappings.reconciliation import ChangeKind, ChangeReason
from fhir_mappings.vocabulary import (
    Activity,
    ExcludedReason,
    Outcome,
    RequirementKind,
    ReviewReason,
    Role,
    Unverified,
)
from launch.sandbox.patients import stories
from launch.sandbox.patients.tales import LARGE
from smartapp.ehr.reading.notices import NoticeKind
from smartapp.store.claims import ChargeState
from smartapp.store.time_log import EntryState, Measured
from smartapp.windows import Standing
from tests.pages import app_of_pages, of_a_session
from tests.support.sandbox import held
from tests.support.strips import days_in_full

PATIENT = "ready-musculoskeletal"
STORIES = [story.id for story in stories() if story.id != LARGE]
CLOSED_SETS = (
    Activity,
    AnchorSource,
    ChangeKind,
    ChangeReason,
    ChargeState,
    EntryState,
    ExcludedReason,
    Measured,
    MissingWhy,
    NoticeKind,
    Outcome,
    RequirementKind,
    ReviewReason,
    Role,
    Standing,
    Unverified,
)
FOR_MACHINES_AND_IT = {"decisions.json", "scopes", "style.css", "worklist/worklist.csv", "worksheet/.csv"}
READ_BY_CLINICIANS = sorted(of_a_session(app_of_pages()).keys() - FOR_MACHINES_AND_IT)
PLAIN = {"in-person", "non-clinical", "set-up"}
"""Values that are ordinary English as they are."""


def machine_words() -> dict[str, str]:
    values = {str(one.value) for kind in CLOSED_SETS for one in kind if isinstance(one, Enum)}
    named = "|".join(
        sorted(re.escape(value) for value in values if re.search("[-_]", value) and value not in PLAIN)
    )
    return {
        "a value of a closed set": rf"(?<![\w-])(?:{named})(?![\w-])",
        "a reference": r"\b[A-Z][A-Za-z]+/[A-Za-z0-9][A-Za-z0-9.-]*[0-9-][A-Za-z0-9.-]*",
        "a name of the web's": r"\burn:",
        "an id or a hash": r"\b[0-9a-f]{12,}\b",
        "a key of the settings": r"\b[a-z]+_[a-z_]+\b|\bpermissions\.|\bterminology\.",
        "nothing at all": r"\bNone\b(?!:| of )",
    }


MACHINE_WORDS = machine_words()


def read_by_people(body: str) -> str:
    """A page's text without what stands in its details for audit: what is closed counts as read too."""
    body = re.sub(r'<details class="audit".*?</details>', " ", body, flags=re.DOTALL)
    body = re.sub(r"<(script|style|head)\b.*?</\1>", " ", body, flags=re.DOTALL)
    labels = " ".join(re.findall(r'\b(?:aria-label|title|alt)="([^"]*)"', body))
    return html.unescape(re.sub(r"<[^>]*>", " ", body) + " " + labels)


def assert_readable(page) -> None:
    text = read_by_people(page.body)
    for what, pattern in MACHINE_WORDS.items():
        found = re.search(pattern, text)
        around = text[max(0, found.start() - 60) : found.end() + 60] if found else ""
        assert found is None, f"{what} on {urlsplit(page.url).path}: {' '.join(around.split())}"


@pytest.mark.parametrize("story", STORIES)
def test_no_word_of_a_machine_reaches_a_clinician_on_the_patient_page(shared_world, browser, story):
    assert_readable(shared_world.open(browser, story))


def test_nor_on_any_other_page_of_a_patient(world, browser):
    page = world.open(browser, PATIENT)
    for name in (*READ_BY_CLINICIANS, "what-if?add-days=2", "what-if?payer=cigna"):
        assert_readable(browser.get(f"{page.url}{name}"))
    link = next(target for target, text in page.links if text.startswith("Review and accept"))
    assert_readable(browser.get(link))
    result = browser.submit(world.final_form(browser, page))
    assert_readable(result)
    assert "Confirmed by Avery Synthetic-Physician" in result.text
    after = world.read(browser, browser.get(page.url))
    assert "Written from here" in after.text
    assert_readable(after)
    assert_readable(browser.get(next(target for target, text in after.links if text == "Withdraw it")))


def test_a_nurse_is_told_that_she_cannot_accept_and_not_how_the_site_is_set_up(shared_world, browser):
    page = shared_world.open(browser, PATIENT, user="Practitioner/syn-nurse")
    assert "does not accept charges. You can see what is earned and why." in page.text
    assert_readable(page)


def test_the_answer_is_the_headline_and_stands_before_everything_else(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    assert re.fullmatch(
        r"98980 and 98981 for March, and 98977 for .* can be charged\.", page.by_id["summary"]
    )
    assert page.text.index("can be charged.") < page.text.index("Device data,")


def test_a_choice_between_the_programs_is_said_once(shared_world, browser):
    page = shared_world.open(browser, "both-programs")
    assert page.by_id["summary"].startswith("Decide RTM or RPM first")
    assert page.text.count("only one may be charged") == 1
    (choice,) = [target for target, text in page.links if text == "Say which program is charged"]
    form = browser.get(choice)
    assert "Remote therapeutic monitoring" in form.text
    assert_readable(form)


def test_a_near_miss_is_on_the_page_with_the_way_to_log_what_took_place(shared_world, browser):
    page = shared_world.open(browser, "no-conversation")
    open_part = page.text.partition("Earlier or charged")[0]
    assert "27 minutes counted, no live conversation recorded. If one took place, log it." in open_part
    target = next(target for target, text in page.links if text == "Log a call that took place")
    assert target.endswith("/time")


def test_a_month_that_nobody_logged_anything_for_is_one_line_that_is_not_hidden(shared_world, browser):
    page = shared_world.open(browser, "calls-not-in-the-ehr")
    open_part = page.text.partition("Earlier or charged")[0]
    assert "Time and calls, March No time recorded. Log time that took place" in open_part


def test_a_day_on_a_ward_is_marked_and_says_what_was_measured_and_why_it_does_not_count(
    shared_world, browser
):
    page = shared_world.open(browser, "hospital-stay")
    assert "in a facility, not counted" in page.body
    assert re.search(
        r"\d+/\d+ mmHg Synthetic blood pressure cuff no: taken while the patient was in a facility",
        days_in_full(browser, page).text,
    )
    assert re.search(r"Not met: 99454 for .* \(13 of 16 days; 5 days left out: taken while", page.text)


def test_minutes_name_person_role_activity_start_and_end(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    assert re.search(
        r"\d\d:\d\d to \d\d:\d\d 14 minutes Phone call, live Devon Synthetic-Therapist "
        r"\(physical therapist\)",
        page.text,
    )


def test_a_rule_is_a_sentence_with_its_number_since_when_and_linked_sources(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    assert "98980 needs 20 minutes in a calendar month, and a live conversation in it. Since" in page.text
    outside = [target for target, _ in page.links if not target.startswith(shared_world.settings.base_url)]
    assert outside
    assert all(target.startswith("https://") for target in outside)
    assert 'rel="noreferrer noopener"' in page.body


def test_what_was_left_out_has_its_coding_day_and_value(shared_world, browser):
    page = shared_world.open(browser, "hospital-stay")
    left_out = page.text.partition("Records left out, and why")[2]
    assert re.search(
        r"Taken while the patient was in a facility Home blood pressure 11 \d+ \w+ 2026, \d\d:\d\d "
        r"\d+/\d+ mmHg",
        left_out,
    )


def test_a_doubt_names_whom_or_what_it_is_about(shared_world, browser):
    page = shared_world.open(browser, "messy-chart")
    assert re.search(
        r"The contact of \d+ \w+ 2026 \(11:00 to 17:00\) was left out as too long: check its end time",
        page.text,
    )
    again = shared_world.open(browser, "back-after-a-break")
    assert re.search(r"Did care end before \d+ \w+ 2026\? There are no data", again.text)
    assert "Confirm the episode of care" in again.text


def test_a_certified_month_is_not_ready_and_says_so(make_world, browser):
    world = make_world(site_more="lock_certified_months: true\n")
    page = world.open(browser, PATIENT)
    months = browser.get(next(target for target, text in page.links if text == "Certified months"))
    month = next(target for target, _ in months.links if target.endswith("2026-03"))
    world.certified(browser, browser.get(month))
    page = world.read(browser, browser.get(page.url))
    assert "98980 and 98981 for March are earned and not charged, and the month is certified." in page.text
    assert "Earned, month certified" in page.text
    assert_readable(page)


def test_what_awaits_approval_is_not_called_ready(make_world, browser):
    world = make_world(site_more="second_approval: true\n")
    page = world.open(browser, PATIENT)
    browser.submit(
        world.final_form(
            browser,
            page,
            next(
                target.rsplit("/", 1)[1] for target, text in page.links if text == "Review and accept 98977"
            ),
        )
    )
    page = world.read(browser, browser.get(page.url))
    assert "98977" not in page.by_id["summary"]
    assert re.search(r"98977 for .* awaits a second person's approval\.", page.text)


def test_the_page_without_scripts_says_where_to_look_again(world, browser):
    with held(world.ehr, "/Observation"):
        page = world.launch(browser, PATIENT)
    assert "Look again" in page.text
    assert 'hx-trigger="load delay:150ms"' in page.body
    assert "reading.js" in page.body


def test_a_period_that_runs_shows_today_and_the_days_to_come(shared_world, browser):
    page = shared_world.open(browser, "one-day-short")
    labels = re.findall(r'aria-label="(\d+ \w+ \d+: [^"]*)"', page.body)
    assert [label for label in labels if label.startswith("15 Apr 2026:") and label.endswith(", today")]
    assert sum(label.endswith("still to come") for label in labels) == 5
    assert "for 98977 it is 15 of 16 days, and the period ends" in page.text
