"""Where the record is elsewhere: a call or a review that nothing counts is shown, and logged by a person."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fhir_mappings.elsewhere import ELSEWHERE
from tests.smartapp.test_few_requests import counted

PATIENT = "ready-musculoskeletal"
GRANTED = tuple(f"patient/{type_}.rs" for type_ in ELSEWHERE)
PHONE = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode", "code": "PHONE"}]
}


@pytest.fixture
def granted(make_world):
    """A world whose app asks for these types, with a call, a note and an appointment of the day before."""
    world = make_world(extra_scopes=GRANTED)
    subject = {"reference": f"Patient/{PATIENT}"}
    day = (world.today - timedelta(days=1)).isoformat()
    world.ehr_creates(
        {
            "resourceType": "Communication",
            "status": "completed",
            "subject": subject,
            "medium": [PHONE],
            "sent": f"{day}T10:00:00-04:00",
            "payload": [{"contentString": "A secret of the patient"}],
        }
    )
    world.ehr_creates(
        {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": subject,
            "description": "RTM call 12 min",
            "date": f"{day}T11:00:00-04:00",
            "content": [{"attachment": {"contentType": "text/plain"}}],
        }
    )
    world.ehr_creates(
        {
            "resourceType": "Appointment",
            "status": "fulfilled",
            "description": "Telephone follow-up",
            "start": f"{day}T12:00:00-04:00",
            "end": f"{day}T12:20:00-04:00",
            "participant": [{"actor": subject, "status": "accepted"}],
        }
    )
    return world


def test_what_looks_like_a_call_is_shown_as_not_counted_and_opens_the_form_filled_in(granted, browser):
    page = granted.open(browser, PATIENT)
    decided = browser.get(f"{page.url}decisions.json").body
    log = browser.get(next(target for target, text in page.links if text == "Log time or a conversation"))
    link = next(target for target, text in log.links if text.startswith("Look in the EHR for calls"))
    shown = browser.get(link)
    assert shown.text.count("Not counted") == 3
    assert "A secret of the patient" not in shown.text
    assert "20 min as planned" in shown.text
    assert browser.get(f"{page.url}decisions.json").body == decided, "looking decides nothing"
    filled = [browser.get(target).form("/time") for target, text in shown.links if text.startswith("Log it")]
    told = [{one.name: one.value for one in form.controls} for form in filled]
    day = (granted.today - timedelta(days=1)).isoformat()
    assert [one["day"] for one in told] == [day] * 3
    assert sorted(one["length"] for one in told) == ["", "", "12"], "a planned length is not what it took"
    links = [target for target, text in shown.links if text.startswith("Log it")]
    assert not any(day in link or "length" in link or "phone-call" in link for link in links)


def test_a_link_that_was_changed_or_is_of_another_session_fills_in_nothing(granted, browser):
    page = granted.open(browser, PATIENT)
    shown = browser.get(f"{page.url}elsewhere")
    link = next(target for target, text in shown.links if text.startswith("Log it"))
    other = granted.open(browser, PATIENT)
    for target in (link[:-6] + "AAAAAA", f"{other.url}time?{link.partition('?')[2]}"):
        form = browser.get(target).form("/time")
        assert {one.value for one in form.controls if one.name in {"day", "length"}} == {""}


def test_nothing_is_logged_until_somebody_fills_in_the_rest_and_signs(granted, browser):
    page = granted.open(browser, PATIENT)
    shown = browser.get(f"{page.url}elsewhere")
    links = [target for target, text in shown.links if text.startswith("Log it")]
    forms = [browser.get(link).form("/time") for link in links]
    assert granted.store.time_log.of_patient("sandbox", PATIENT) == ()
    form = next(
        form for form in forms if ("length", "12") in {(one.name, one.value) for one in form.controls}
    )
    filled = {one.name: one.value for one in form.controls}
    filled = {name: filled[name] for name in ("day", "length", "program", "activity")}
    draft = browser.submit(form, **filled, person="Practitioner/syn-physician", live="yes")
    assert "12 min" in draft.text
    (entry,) = granted.store.time_log.of_patient("sandbox", PATIENT)
    assert not entry.counts, "it is not signed"
    again = browser.get(f"{page.url}elsewhere")
    assert again.text.count("Something of that day is in the time log already.") == 3


def test_it_is_asked_for_when_the_page_is_opened_and_not_before(granted, browser):
    with counted(granted) as ehr:
        page = granted.open(browser, PATIENT)
        before = [target for target in ehr.targets if any(type_ in target for type_ in ELSEWHERE)]
        browser.get(f"{page.url}elsewhere")
        asked = [target for target in ehr.targets if any(type_ in target for type_ in ELSEWHERE)]
    assert before == []
    assert len(asked) == len(ELSEWHERE)


def test_without_the_permissions_nothing_is_offered_and_the_page_says_why(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    assert "Look in the EHR for calls" not in browser.get(f"{page.url}time").text
    assert "gave this app no permission" in browser.get(f"{page.url}elsewhere").text


def test_what_the_ehr_refuses_is_said_and_the_rest_is_shown(granted, browser):
    page = granted.open(browser, PATIENT)
    granted.ehr.sandbox.quirks.refused = "Communication"
    shown = browser.get(f"{page.url}elsewhere").text
    assert "The EHR did not answer about communications: there may be more." in shown
    assert shown.count("Not counted") == 2
