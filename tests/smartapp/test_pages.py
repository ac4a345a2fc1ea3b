"""Pages over real HTTP: whose session it is, what the headers say, what a person sees."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import requests

from launch.ports import SessionEnd
from smartapp import create_app
from smartapp.commands.demo_check import Browser
from smartapp.web.security import content_security_policy, session_cookie_name
from tests.pages import app_of_pages, of_a_session
from tests.support.sandbox import held
from tests.support.strips import days_in_full

PATIENT = "ready-musculoskeletal"


@pytest.fixture
def opened(shared_world, browser):
    return shared_world.open(browser, PATIENT)


def netloc(world):
    return urlsplit(world.settings.base_url).netloc


def technical(browser, page):
    """The address of the first reading that can be opened as the EHR sent it."""
    return next(
        target
        for target, text in days_in_full(browser, page).links
        if text.startswith("Technical") and "Home exercise done" in text
    )


def with_cookies(world, browser):
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies(netloc(world)).items())}


# The session


def test_the_address_alone_opens_nothing(shared_world, opened):
    stranger = requests.get(opened.url, timeout=60)
    assert stranger.status_code == 401
    assert "Synthetic" not in stranger.text


def test_an_unknown_session_and_anothers_session_look_the_same(shared_world, opened):
    other = requests.get(opened.url, timeout=60).text
    unknown = requests.get(f"{shared_world.settings.base_url}/s/nothing/", timeout=60).text
    assert re.sub("<code>.*?</code>", "", other) == re.sub("<code>.*?</code>", "", unknown)


def test_another_sessions_cookie_does_not_open_this_one(shared_world, browser, opened):
    second = Browser()
    try:
        shared_world.open(second, "nothing")
        cookies = with_cookies(shared_world, second)
    finally:
        second.close()
    assert requests.get(opened.url, headers=cookies, timeout=60).status_code == 401


def test_every_cookie_is_kept_from_scripts_and_other_hosts_and_survives_in_a_frame(shared_world):
    first = requests.get(
        f"{shared_world.settings.base_url}/launch",
        params={"iss": shared_world.fhir_base, "launch": "x"},
        allow_redirects=False,
        timeout=60,
    )
    cookie = first.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    for part in ("Secure", "HttpOnly", "SameSite=None", "Partitioned", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie


def test_two_charts_in_one_browser_are_two_sessions(shared_world, browser):
    one = shared_world.open(browser, PATIENT)
    two = shared_world.open(browser, "ready-respiratory")
    assert one.url != two.url
    assert "Musculoskeletal" in browser.get(one.url).text
    assert "Respiratory" in browser.get(two.url).text


def test_a_form_of_one_chart_writes_nothing_into_the_other(shared_world, browser):
    one = shared_world.open(browser, PATIENT)
    form = shared_world.final_form(browser, one)
    for control in form.controls:
        if control.name == "patient":
            control.value = "ready-respiratory"
    page = browser.submit(form)
    assert page.status == 409
    assert "Nothing was written" in page.text


def test_a_form_made_from_an_older_reading_is_refused(shared_world, browser, opened):
    form = shared_world.final_form(browser, opened)
    shared_world.read(browser, browser.submit(opened.form("/read")))
    page = browser.submit(form)
    assert page.status == 409
    assert "moved on" in page.text


@pytest.mark.parametrize("spoilt", ["", "0" * 64])
def test_a_form_without_the_sessions_own_token_is_refused(shared_world, browser, opened, spoilt):
    form = opened.form("/read")
    for control in form.controls:
        if control.name == "form_token":
            control.value = spoilt
    assert browser.submit(form).status == 400


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_from_another_site_is_refused_even_with_the_token(shared_world, browser, opened, header):
    form = opened.form("/read")
    sent = {control.name: control.value for control in form.controls if control.kind == "hidden"}
    answer = requests.post(
        form.action, data=sent, headers={**with_cookies(shared_world, browser), **header}, timeout=60
    )
    assert answer.status_code == 400


def test_ending_the_session_closes_every_page_of_it(world, browser):
    page = world.open(browser, "nothing")
    assert "session is over" in browser.submit(page.form("/end")).text
    assert browser.get(page.url).status == 401


# A launch from our own front page


def test_without_an_ehrs_click_a_clinician_signs_in_from_the_front_page_and_chooses_the_patient(
    world, browser
):
    front = browser.get(f"{world.settings.base_url}/")
    (way,) = [target for target, text in front.links if text == "General <Sandbox> Hospital"]
    assert "launch=" not in way
    picker = browser.get(way)
    form = next(form for form in picker.forms if any(c.name == "picker_patient" for c in form.controls))
    page = world.read(
        browser, browser.submit(form, picker_user="Practitioner/syn-physician", picker_patient=PATIENT)
    )
    assert "Ready to charge" in page.text
    assert "Synthetic-Ready-Musculoskeletal" in page.text
    (entry,) = [one for one in world.store.audit.entries() if one["event"] == "chart-opened"]
    assert entry["patient"] == PATIENT


def test_an_ehr_is_on_the_front_page_only_if_it_is_given_a_name_there(world):
    text = world.settings.issuers_file.read_text()
    named = [line for line in text.splitlines() if line.startswith("front_page")]
    assert len(named) == 1
    world.settings.issuers_file.write_text(text.replace(named[0], ""))
    app = create_app(world.settings)
    try:
        assert "sign in from here" not in app.test_client().get("/").text
    finally:
        app.extensions["smartapp"].close()


# Headers


def test_no_page_may_be_kept_sniffed_or_framed_by_strangers(shared_world, opened):
    policy = opened.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert f"frame-ancestors {shared_world.ehr.base_url}" in policy
    assert "unsafe" not in policy
    assert opened.headers["Cache-Control"] == "no-store"
    assert opened.headers["Referrer-Policy"] == "no-referrer"
    assert opened.headers["X-Content-Type-Options"] == "nosniff"
    assert "X-Frame-Options" not in opened.headers


def test_a_page_without_a_session_cannot_be_framed_at_all(shared_world, browser):
    page = browser.get(f"{shared_world.settings.base_url}/")
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]


def test_there_is_no_inline_script_style_or_handler_on_any_page(shared_world, browser, opened):
    link = next(target for target, text in opened.links if text.startswith("Review and accept"))
    for page in (opened, browser.get(link)):
        assert "style=" not in page.body
        assert not re.search(r"\son\w+=", page.body)
        assert not re.search(r"<script(?![^>]*\ssrc=)", page.body)


# What is shown


def test_the_shell_answers_at_once_and_refreshes_itself_without_scripts(world, browser):
    with held(world.ehr, "/Observation"):
        page = world.launch(browser, PATIENT)
        assert "Reading the chart" in page.text
        assert page.refresh
    assert "summary" in world.read(browser, page).by_id


def test_the_json_twin_is_the_contract_and_names_its_snapshot(shared_world, browser, opened):
    twin = browser.get(opened.url + "decisions.json")
    answer = json.loads(twin.body)
    assert answer["patient"] == f"Patient/{PATIENT}"
    assert {"code", "outcome", "requirements", "unverified"} <= answer["decisions"][0].keys()
    assert twin.headers["X-Snapshot-Id"][:12] in opened.text


def test_a_row_says_state_numbers_days_evidence_and_rule(opened):
    for words in (
        "Ready to charge",
        "18 days (needs 16)",
        "18 of 30 days",
        "98977 needs 16 days with data in a period of 30 days",
        "last checked 22 Nov 2026",
    ):
        assert words in opened.text


def test_evidence_opens_in_words_and_as_the_record_the_ehr_sent(browser, opened):
    record = browser.get(technical(browser, opened))
    assert "Patient Synthetic-Ready-Musculoskeletal" in record.text
    assert "Synthetic home exercise app" in record.text
    raw = record.text[record.text.index("{") : record.text.rindex("}") + 1]
    assert json.loads(raw)["resourceType"] == "Observation"
    assert "Back to the patient" in record.text


def test_a_record_that_is_no_evidence_cannot_be_fetched(browser, opened):
    assert browser.get(opened.url + "evidence/Patient/somebody-else").status == 404


def test_excluded_records_are_listed_with_reasons_in_words(shared_world, browser):
    page = shared_world.open(browser, "messy-chart")
    assert "Records left out, and why" in page.text
    assert "Entered in error" in page.text
    left_out = [
        link for link, text in page.links if "/evidence/" in link and not text.startswith("Technical")
    ]
    record = browser.get(left_out[0])
    assert record.status == 200
    assert "Left out" in record.text
    assert '"resourceType"' in record.text


def test_what_they_were_left_out_for_stands_beside_them(world, browser):
    readings = world.resources("Observation", "ready-physiologic")
    odd = {
        "coding": [{"system": "http://loinc.org", "code": "2160-0", "display": "Creatinine <b>in</b> serum"}]
    }
    for one in sorted(readings, key=lambda one: str(one["effectiveDateTime"]))[-3:]:
        world.ehr_changes("Observation", one["id"], code=odd, component=[], valueQuantity={"value": 60})
    page = world.open(browser, "ready-physiologic")
    assert "LOINC 2160-0 (Creatinine <b>in</b> serum) 3" in page.text
    assert "<b>in" not in page.body


def test_a_record_that_was_replaced_says_which_chart_to_open(world, browser):
    link = [{"type": "replaced-by", "other": {"reference": "Patient/p9", "display": "Ada <i>Miller</i>"}}]
    world.ehr_changes("Patient", "ready-physiologic", link=link)
    page = world.open(browser, "ready-physiologic")
    assert (
        "This record was replaced. Nothing is decided on it. Open the chart of Ada <i>Miller</i>."
        in page.text
    )
    assert "<i>Miller" not in page.body
    assert "Nothing to charge now" not in page.text
    assert json.loads(browser.get(page.url + "decisions.json").body)["decisions"] == []


def test_a_chart_without_monitoring_says_so(shared_world, browser):
    assert "no remote monitoring was found" in shared_world.open(browser, "nothing").text


def test_names_from_the_chart_are_text_never_markup(world, browser):
    stored = world.ehr.sandbox.store.read("Patient", "nothing")
    body = json.loads(stored.body)
    world.ehr.sandbox.store.update({**body, "name": [{"text": "<script>alert(1)</script>"}]}, None)
    page = world.open(browser, "nothing")
    assert "<script>alert" not in page.body
    assert "<script>alert(1)</script>" in page.text


def test_demo_is_said_in_the_demo_only(opened):
    assert "DEMO" not in opened.text


# Errors


def test_an_ehr_that_is_not_listed_is_refused_before_anything_is_sent(shared_world, browser):
    page = browser.get(f"{shared_world.settings.base_url}/launch?iss=https://evil.example/fhir&launch=x")
    assert page.status == 403
    assert "not registered" in page.text


@pytest.mark.parametrize("query", ["", "?state=unknown&code=x", "?error=access_denied&state=unknown"])
def test_a_callback_without_a_launch_of_ours_is_refused(shared_world, browser, query):
    page = browser.get(f"{shared_world.settings.base_url}/callback/sandbox{query}")
    assert page.status == 400
    assert "Open the app again" in page.text


def test_an_ehr_that_is_down_is_a_sentence_and_a_way_back(world, browser):
    page = world.open(browser, "nothing")
    world.ehr.close()
    page = world.read(browser, browser.submit(page.form("/read")))
    assert "No connection to the EHR could be made." in page.text
    assert "Traceback" not in page.body
    assert page.form("/read")


def test_a_page_that_does_not_exist_says_so_with_a_number_to_quote(shared_world, browser):
    page = browser.get(f"{shared_world.settings.base_url}/nowhere")
    assert page.status == 404
    assert "quote" in page.text


def test_health_says_alive_and_ready_and_nothing_else(shared_world, browser):
    for name in ("live", "ready"):
        page = browser.get(f"{shared_world.settings.base_url}/health/{name}")
        assert (page.status, json.loads(page.body)) == (200, {"status": "ok"})


# Who may charge


def test_without_the_permission_to_create_charges_go_on_a_worksheet(make_world, browser):
    scope = "openid fhirUser launch online_access patient/Patient.rs patient/Observation.rs patient/Device.rs"
    world = make_world(
        client={"scope": f"{scope} patient/Encounter.rs patient/ChargeItem.rs user/Practitioner.rs"}
    )
    page = world.open(browser, PATIENT)
    assert "no permission to write charges" in page.text
    assert "This EHR takes charges as: a worksheet" in page.text
    decisions = json.loads(browser.get(page.url + "decisions.json").body)["decisions"]
    key = next(f"{d['code']}-{d['period']['start']}" for d in decisions if d["outcome"] == "suggest")
    assert "worksheet" in browser.get(f"{page.url}charges/{key}").text


def as_user(world, browser, page, user):
    """The address of a session like that of the page, in which somebody else is signed in."""
    session_id = urlsplit(page.url).path.split("/")[2]
    launches = world.store.launches
    session = replace(launches.get_session(session_id), id="another", fhir_user=user)
    launches.create_session(session, launches.get_tokens(session_id))
    cookies = browser.cookies(netloc(world))
    cookies[session_cookie_name("another")] = cookies[session_cookie_name(session_id)]
    return page.url.replace(session_id, "another")


@pytest.mark.threat("5.11")
@pytest.mark.parametrize("user", ["Patient/p1", "RelatedPerson/r1", "Person/x"])
def test_patients_and_relatives_get_no_page_of_the_chart_at_all(world, browser, user):
    address = as_user(world, browser, world.open(browser, PATIENT), user)
    for page in of_a_session(app_of_pages()).keys() - {"style.css"}:
        answer = browser.get(address + page)
        assert answer.status == 403, page
        assert "for clinicians" in answer.text, page
        assert "9897" not in answer.text, page
    assert world.store.reading.latest("another") is None, "nothing is read for them"
    form = browser.get(address).form("/end")
    assert "session is over" in browser.submit(form).text


@pytest.mark.threat("5.11")
def test_an_unknown_user_may_look_and_sees_nothing_of_a_charge(world, browser):
    page = world.open(browser, PATIENT)
    browser.submit(world.final_form(browser, page))
    assert "Written from here" in world.read(browser, browser.get(page.url)).text
    other = world.read(browser, browser.get(as_user(world, browser, page, None)))
    assert "only be accepted by a clinician" in other.text
    assert "Review and accept" not in other.text
    assert "Written from here" not in other.text
    assert browser.get(f"{other.url}charges/98977-2026-01-01").status == 403


@pytest.mark.threat("5.13")
def test_the_ehrs_ids_of_charges_stand_in_no_address(world, browser):
    page = world.open(browser, PATIENT)
    browser.submit(world.final_form(browser, page))
    page = world.read(browser, browser.get(page.url))
    ids = {charge["id"] for charge in world.charges(PATIENT)}
    link = next(target for target, text in page.links if text == "Withdraw it")
    assert not [name for name in ids for target, _ in page.links if name in target]
    assert browser.get(link).status == 200
    assert browser.get(link.replace(link.split("/")[-2], next(iter(ids)))).status in {403, 404}


def test_opening_evidence_is_audited(world, browser):
    page = world.open(browser, PATIENT)
    browser.get(technical(browser, page))
    (entry,) = [one for one in world.store.audit.entries() if one["event"] == "evidence-opened"]
    assert entry["user"] == "Practitioner/syn-physician"
    assert entry["record"].startswith("Observation/")


@pytest.mark.threat("5.11")
def test_what_a_renewed_token_does_not_grant_any_more_is_not_offered_any_more(world, browser):
    page = world.open(browser, PATIENT)
    assert "Review and accept" in page.text
    form = world.final_form(browser, page)
    session_id = urlsplit(page.url).path.split("/")[2]
    tokens = world.store.launches.get_tokens(session_id)
    narrowed = replace(tokens, granted_scope="openid fhirUser patient/Patient.r", version=tokens.version + 1)
    assert world.store.launches.replace_tokens(session_id, narrowed, tokens.version)
    later = browser.get(page.url)
    assert "no permission to write charges" in later.text
    assert "This EHR takes charges as: a worksheet" in later.text
    before = world.charges(PATIENT)
    refused = browser.submit(form)
    assert refused.status == 409
    assert "Nothing was written" in refused.text
    assert world.charges(PATIENT) == before
    assert "ChargeItem" in browser.get(f"{page.url}scopes").text


# Cookies


@pytest.mark.threat("5.9")
def test_a_sessions_cookie_ends_with_it(world, browser):
    page = world.open(browser, "nothing")
    name = session_cookie_name(urlsplit(page.url).path.split("/")[2])
    assert name in browser.cookies(netloc(world))
    ended = browser.submit(page.form("/end"))
    assert f"{name}=;" in ended.headers["Set-Cookie"]
    assert "Max-Age=0" in ended.headers["Set-Cookie"]


@pytest.mark.threat("5.9")
def test_a_cookie_of_a_session_that_is_over_is_dropped_when_it_comes(world, browser):
    page = world.open(browser, "nothing")
    session_id = urlsplit(page.url).path.split("/")[2]
    world.store.launches.end_session(session_id, world.now(), SessionEnd.IDLE)
    over = browser.get(page.url)
    assert over.status == 401
    assert f"{session_cookie_name(session_id)}=;" in over.headers["Set-Cookie"]


# The way to the EHR


def test_a_form_to_the_ehr_may_be_forwarded_to_its_login_hosts():
    policy = content_security_policy(None, ("https://ehr.example", "https://login.example"))
    assert "form-action 'self' https://ehr.example https://login.example" in policy
