"""Time logged here: by a person, signed, kept for good, counted once, written back where that is allowed."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import SimpleNamespace
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from fhir_mappings.decision import Assessment
from fhir_mappings.record import Excluded
from fhir_mappings.time_log import TIME_LOG, LoggedTime
from fhir_mappings.vocabulary import Activity, ExcludedReason, Program, Role
from smartapp import create_app
from smartapp.commands.demo_check import Browser
from smartapp.ehr.charges.guards import Guards
from smartapp.serving import AppServer
from smartapp.store.time_log import EntryContent, EntryState, Measured
from smartapp.web.entry_words import counts_for
from tests.smartapp.test_approval import ROLE
from tests.support.sandbox import DAY

PATIENT = "calls-not-in-the-ehr"
PHYSICIAN = "Practitioner/syn-physician"
NURSE = "Practitioner/syn-nurse"
NOTE = "Spacer technique rehearsed with the daughter"
ZONE = ZoneInfo("America/New_York")
WRITE_BACK = ("patient/DeviceMetric.rs", "patient/CarePlan.rs", "patient/Encounter.cu")


def last_month(day=10):
    """A day of the calendar month that is over."""
    first = DAY.replace(day=1)
    return (first - timedelta(days=1)).replace(day=day)


def typed(**changes):
    """A phone call of 25 minutes last month, as somebody types it."""
    return {
        "day": last_month().isoformat(),
        "start": "10:00",
        "end": "10:25",
        "person": PHYSICIAN,
        "program": "rtm",
        "activity": "phone-call",
        "live": "yes",
        "note": NOTE,
        **changes,
    }


def time_page(browser, page):
    return browser.get(f"{page.url}time")


def entered(browser, page, **changes):
    """The page of an entry that was typed and is not signed."""
    return browser.submit(time_page(browser, page).form("/time"), **typed(**changes))


def signed(browser, page, **changes):
    entry = entered(browser, page, **changes)
    assert entry.status == 200, entry.text
    return browser.submit(entry.form("/sign"), confirm="yes")


def decisions(browser, page):
    return json.loads(browser.get(f"{page.url}decisions.json").body)


def month_code(browser, page, code="98980"):
    """Last month's decision of a management code; None where there is none."""
    start = last_month(1).isoformat()
    return next(
        (
            decision
            for decision in decisions(browser, page)["decisions"]
            if (decision["code"], decision["period"]["start"]) == (code, start)
        ),
        None,
    )


def seconds(decision):
    return next(
        part["found"] for part in decision["requirements"] if part["requirement"] == "management-time"
    )


def entry_id(page):
    return urlsplit(page.url).path.split("/")[4]


def encounters(world):
    """The Encounters of ours that the EHR holds."""
    with world.ehr.sandbox.database.read() as connection:
        rows = connection.execute(
            "SELECT body FROM resource WHERE type = 'Encounter' AND patient = ?", (PATIENT,)
        ).fetchall()
    held = [json.loads(body) for (body,) in rows]
    return [one for one in held if any(i["system"] == TIME_LOG for i in one.get("identifier", ()))]


# The whole way


def test_a_call_is_logged_signed_and_charged_and_the_charge_says_where_its_minutes_come_from(world, browser):
    page = world.open(browser, PATIENT)
    assert seconds(month_code(browser, page)) == 0
    signed(browser, page)
    decision = month_code(browser, page)
    assert decision["outcome"] == "suggest"
    (record,) = decision["requirements"][0]["evidence"]
    assert record.startswith("urn:uuid:")
    (told,) = decisions(browser, page)["time_log"]
    assert (told["resource"], told["origin"]) == (record, "logged in this app")

    card = browser.get(page.url)
    assert "RTM phone call, logged in this app" in card.text
    key = f"98980-{last_month(1).isoformat()}"
    written = browser.submit(world.final_form(browser, card, key)).by_id["charge-item"]
    (charge,) = [one for one in world.charges(PATIENT) if f"ChargeItem/{one['id']}" == written]
    assert charge["code"]["coding"][0]["code"] == "98980"
    assert "Rests on 1 entry logged in this app" in charge["note"][0]["text"]
    assert "urn:uuid" not in json.dumps(charge)
    (row,) = world.store.charges.of_patient("sandbox", PATIENT)
    packet = json.loads(world.store.charges.packet(row.identifier))
    (kept,) = [one for one in packet["evidence"]["records"] if one["reference"] == record]
    assert kept["resource"]["type"][0]["text"] == "RTM phone call, logged in this app"
    assert packet["evidence"]["time_log"][0]["signed_by"] == PHYSICIAN


def test_a_signed_entry_says_what_it_counts_toward(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    assert re.search(r"minutes of it count\. .*98980, .*: \d+ minutes \(needs 20\)\.", entry.by_id["counts"])


def test_what_counts_for_nothing_is_never_said_to_count():
    logged = LoggedTime(
        start=datetime(2026, 3, 10, 10, tzinfo=ZONE),
        end=datetime(2026, 3, 10, 10, 25, tzinfo=ZONE),
        person=PHYSICIAN,
        program=Program.RPM,
        activity=Activity.PHONE_CALL,
        live=True,
    )
    nothing = SimpleNamespace(
        logged={"urn:uuid:1": "1"},
        assessment=Assessment((), (Excluded("urn:uuid:1", ExcludedReason.PROGRAM_NOT_SHOWN),)),
    )
    said = counts_for("1", logged, nothing, last_month())
    assert said == "It counts for nothing: it was logged for RPM, and the patient has no RPM data."
    assert counts_for("2", logged, nothing, last_month()) == "Nothing was decided with it yet."


def test_the_program_is_preset_where_the_patient_has_only_one(world, browser):
    form = browser.get(f"{world.open(browser, PATIENT).url}time")
    assert '<option value="rtm" selected>' in form.body
    assert '<option value="rpm" selected>' not in form.body


# Who and when


def test_an_entry_that_nobody_signed_counts_nothing(world, browser):
    page = world.open(browser, PATIENT)
    assert "Logged time: not signed" in entered(browser, page).text
    assert seconds(month_code(browser, page)) == 0


def test_signing_needs_the_statement_and_exactly_what_was_shown(world, browser):
    page = world.open(browser, PATIENT)
    entry = entered(browser, page)
    form = entry.form("/sign")
    assert browser.submit(form).status == 422
    for control in form.controls:
        if control.name == "shown":
            control.value = "0" * 64
    assert browser.submit(form, confirm="yes").status == 409
    assert seconds(month_code(browser, page)) == 0


def test_a_form_of_an_earlier_version_signs_nothing(world, browser):
    page = world.open(browser, PATIENT)
    entry = entered(browser, page)
    old = entry.form("/sign")
    browser.submit(browser.get(f"{entry.url}/correct").form("/correct"), **typed(end="10:30"))
    assert browser.submit(old, confirm="yes").status == 409


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"end": "09:59"}, "The end lies before the start."),
        ({"end": "10:00"}, "the same moment"),
        ({"end": "14:01"}, "Longer than 4 hours"),
        ({"day": "2199-01-05"}, "in the future"),
        ({"live": "no"}, "logged as a message"),
        ({"activity": "data-review"}, "no live conversation"),
        ({"start": "ten"}, "times such as 14:05"),
        ({"start": "24:00"}, "times such as 14:05"),
        ({"end": "24:00"}, "times such as 14:05"),
        ({"program": ""}, "which program"),
        ({"person": "Practitioner/stranger"}, "whose time"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(shared_world, browser, changes, sentence):
    page = entered(browser, shared_world.open(browser, PATIENT), **changes)
    assert page.status == 422
    assert sentence in page.text


def test_four_hours_can_be_logged_and_a_second_more_cannot(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    assert entered(browser, page, end="14:00:00").status == 200
    assert entered(browser, page, end="14:00:01").status == 422


def test_an_entry_for_another_patient_is_refused(world, browser):
    page = world.open(browser, PATIENT)
    form = time_page(browser, page).form("/time")
    for control in form.controls:
        if control.name == "patient":
            control.value = "nothing"
    refused = browser.submit(form, **typed())
    assert refused.status == 409
    assert "another patient" in refused.text
    entry = entered(browser, page)
    other = world.open(browser, "nothing")
    assert browser.get(f"{other.url}time/{entry_id(entry)}").status == 404


@pytest.mark.parametrize("where", ["/time", "/clock/start"])
def test_a_form_without_the_sessions_token_is_refused(world, browser, where):
    form = time_page(browser, world.open(browser, PATIENT)).form(where)
    for control in form.controls:
        if control.name == "form_token":
            control.value = "0" * 64
    assert browser.submit(form, **(typed() if where == "/time" else {})).status == 400


def test_a_form_of_an_older_reading_is_refused(world, browser):
    page = world.open(browser, PATIENT)
    form = time_page(browser, page).form("/time")
    world.read(browser, browser.submit(page.form("/read")))
    assert browser.submit(form, **typed()).status == 409


def test_a_nurse_logs_her_own_time_and_cannot_sign_the_physicians(world, browser):
    page = world.open(browser, PATIENT, user=NURSE)
    own = entered(browser, page, person=NURSE)
    assert own.form("/sign")
    others = entered(browser, page, person="Practitioner/syn-pulmonologist")
    assert "only they, or somebody who may accept charges" in others.text
    assert not any(form.action.endswith("/sign") for form in others.forms)


def test_nobody_states_another_role_than_the_one_the_sites_file_gives_them(make_world, browser):
    world = make_world(serve=False)
    users = f"users: [{{user: {NURSE}, role: clinical-staff}}]"
    with served(world, "payer: medicare\n", f"payer: medicare\n{users}\n"):
        page = world.open(browser, PATIENT, user=NURSE)
        refused = entered(browser, page, person=NURSE, role="physician")
        assert "says in which role this person works: clinical staff" in refused.text
        assert "role stated: clinical staff" in entered(browser, page, person=NURSE).text


def test_patients_never_reach_the_log(world, browser):
    from dataclasses import replace

    from smartapp.web.security import session_cookie_name

    page = world.open(browser, PATIENT)
    session_id = urlsplit(page.url).path.split("/")[2]
    launches = world.store.launches
    session = replace(launches.get_session(session_id), id="another", fhir_user="Patient/p1")
    launches.create_session(session, launches.get_tokens(session_id))
    cookies = browser.cookies(urlsplit(world.settings.base_url).netloc)
    cookies[session_cookie_name("another")] = cookies[session_cookie_name(session_id)]
    other = world.read(browser, browser.get(page.url.replace(session_id, "another")))
    for where in ("time", "statements", "anchor"):
        assert browser.get(f"{other.url}{where}").status == 403


def test_nobody_is_signed_for_with_two_patients_at_once(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    other = world.open(browser, "ready-respiratory")
    refused = entered(browser, other, start="10:24", end="10:40")
    assert "has a signed entry with another patient at the same time" in refused.text
    assert not any(form.action.endswith("/sign") for form in refused.forms)
    assert entered(browser, other, start="10:25", end="10:40").form("/sign"), (
        "one after the other is no overlap"
    )
    browser.submit(browser.get(entry.url).form("/withdraw"))
    assert browser.get(refused.url).form("/sign"), "what was withdrawn stands in nobody's way"


# Corrections


def test_nor_by_their_role_where_roles_cannot_be_searched(make_world, browser, signed_in):
    users = ", ".join(f"{{user: {name}, role: physician}}" for name in (ROLE, PHYSICIAN))
    world = make_world(site_more=f"users: [{users}]\n")
    world.ehr.sandbox.quirks.refused = "PractitionerRole"
    signed_in(ROLE)
    signed(browser, world.open(browser, PATIENT), person=ROLE)
    signed_in(PHYSICIAN)
    refused = entered(browser, world.open(browser, "ready-respiratory"), start="10:24", end="10:40")
    assert "has a signed entry with another patient at the same time" in refused.text


def test_a_correction_keeps_the_original_and_counts_only_once_it_is_signed(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    assert seconds(month_code(browser, page)) == 25 * 60
    corrected = browser.submit(
        browser.get(f"{entry.url}/correct").form("/correct"), **typed(end="10:21", note="Hung up at 10:21")
    )
    assert seconds(month_code(browser, page)) == 0, "the correction is not signed"
    assert "10:00 to 10:25" in corrected.text
    assert NOTE in corrected.text
    browser.submit(corrected.form("/sign"), confirm="yes")
    assert seconds(month_code(browser, page)) == 21 * 60
    states = [one.state for one in world.store.time_log.get("sandbox", PATIENT, entry_id(entry)).versions]
    assert states == [EntryState.DRAFT, EntryState.SIGNED, EntryState.DRAFT, EntryState.SIGNED]


def test_a_withdrawn_entry_counts_nothing_and_stays_visible(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    gone = browser.submit(entry.form("/withdraw"))
    assert "Logged time: withdrawn" in gone.text
    assert "10:00 to 10:25" in gone.text
    assert seconds(month_code(browser, page)) == 0
    assert "Withdrawn" in time_page(browser, page).text
    assert browser.get(f"{entry.url}/correct").status == 409


def test_the_database_itself_refuses_to_change_what_was_logged(store, now):
    logged = LoggedTime(start=now - timedelta(minutes=9), end=now, person=PHYSICIAN)
    store.time_log.enter("sandbox", "p1", EntryContent(logged=logged, by=PHYSICIAN), now)
    for statement in ("UPDATE time_entries SET state = 'signed'", "DELETE FROM time_entries"):
        with pytest.raises(DatabaseError, match="never changed"), store.database.write() as connection:
            connection.execute(text(statement))


def test_of_two_who_change_one_version_the_second_is_told(store, now):
    logged = LoggedTime(start=now - timedelta(minutes=9), end=now, person=PHYSICIAN)
    content = EntryContent(logged=logged, by=PHYSICIAN)
    name = store.time_log.enter("sandbox", "p1", content, now)
    one = store.time_log.append("sandbox", "p1", name, 1, EntryState.SIGNED, content, now, "time-signed")
    two = store.time_log.append(
        "sandbox", "p1", name, 1, EntryState.WITHDRAWN, content, now, "time-withdrawn"
    )
    assert (one, two) == (True, False)
    assert [item.state for item in store.time_log.get("sandbox", "p1", name).versions] == [
        EntryState.DRAFT,
        EntryState.SIGNED,
    ]


# At rest


def test_neither_the_note_nor_a_name_can_be_read_in_the_database(world, browser, owner):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    browser.submit(
        browser.get(f"{entry.url}/correct").form("/correct"), **typed(note="Second note of the call")
    )
    content = owner.stored()
    assert PATIENT.encode() in content
    for secret in (NOTE, "Second note", "Avery", "Synthetic-Physician", "Synthetic-Calls", "phone-call"):
        assert secret.encode() not in content, secret


# Spans


def test_a_call_across_midnight_is_whole_and_one_across_months_is_split(world, browser):
    page = world.open(browser, PATIENT)
    day = last_month(10)
    signed(
        browser,
        page,
        start="23:50",
        end="00:15",
        end_day=(day + timedelta(days=1)).isoformat(),
        day=day.isoformat(),
    )
    assert seconds(month_code(browser, page)) == 25 * 60
    first = last_month(1)
    before = first - timedelta(days=1)
    signed(browser, page, day=before.isoformat(), start="23:58", end_day=first.isoformat(), end="00:05")
    assert seconds(month_code(browser, page)) == (25 + 5) * 60


def test_entries_that_overlap_are_counted_once(world, browser):
    page = world.open(browser, PATIENT)
    signed(browser, page)
    signed(browser, page, start="10:20", end="10:30", activity="data-review", live="no")
    assert seconds(month_code(browser, page)) == 30 * 60


# The clock


def ran_for(world, minutes, user=PHYSICIAN, patient=PATIENT):
    """As if the person had started the clock so long ago."""
    log, now = world.store.time_log, world.now()
    if (clock := log.clock_of("sandbox", user)) is not None:
        log.stop_clock("sandbox", user, clock, now, None)
    log.start_clock("sandbox", user, patient, now - timedelta(minutes=minutes, milliseconds=300))


def test_the_clock_runs_only_between_the_two_presses_of_a_person(world, browser):
    page = world.open(browser, PATIENT)
    log = time_page(browser, page)
    assert world.store.time_log.clock_of("sandbox", PHYSICIAN) is None, "no page starts it"
    running = browser.submit(log.form("/clock/start"))
    assert "Running since" in running.text
    ran_for(world, 12)
    stopped = browser.submit(running.form("/clock/stop"))
    assert urlsplit(stopped.url).path.endswith("/correct")
    assert world.store.time_log.clock_of("sandbox", PHYSICIAN) is None
    (version,) = world.store.time_log.get("sandbox", PATIENT, entry_id(stopped)).versions
    assert version.content.measured is Measured.CLOCK
    assert 12 * 60 - 1 <= version.content.logged.seconds <= 12 * 60 + 5
    assert version.content.logged.activity is None
    assert version.content.by_name == "Avery Synthetic-Physician"
    assert "Say what was done." in browser.get(stopped.url.removesuffix("/correct")).text


def test_a_clock_stopped_at_once_logs_nothing(world, browser):
    page = world.open(browser, PATIENT)
    running = browser.submit(time_page(browser, page).form("/clock/start"))
    stopped = browser.submit(running.form("/clock/stop"))
    assert stopped.status in {200, 422}
    entries = world.store.time_log.of_patient("sandbox", PATIENT)
    assert all(entry.latest.content.logged.seconds >= 1 for entry in entries)


def test_a_clock_somebody_forgot_logs_nothing_and_says_since_when_it_ran(world, browser):
    page = world.open(browser, PATIENT)
    running = browser.submit(time_page(browser, page).form("/clock/start"))
    ran_for(world, 4 * 60 + 1)
    stopped = browser.submit(running.form("/clock/stop"))
    assert stopped.status == 422
    assert "Longer than 4 hours" in stopped.text
    assert "Nothing was logged" in stopped.text
    assert world.store.time_log.of_patient("sandbox", PATIENT) == ()


def test_one_person_has_one_clock_and_two_people_have_two(world, browser):
    page = world.open(browser, PATIENT)
    log = time_page(browser, page)
    browser.submit(log.form("/clock/start"))
    first = world.store.time_log.clock_of("sandbox", PHYSICIAN)
    browser.submit(log.form("/clock/start"))
    assert world.store.time_log.clock_of("sandbox", PHYSICIAN) == first, "pressed in a second tab"
    other = Browser()
    world.stack.callback(other.close)
    nurse = world.open(other, PATIENT, user=NURSE)
    assert "Start the clock" in time_page(other, nurse).body
    other.submit(time_page(other, nurse).form("/clock/start"))
    assert world.store.time_log.clock_of("sandbox", NURSE) is not None
    ran_for(world, 9, NURSE)
    ran_for(world, 9)
    stop = time_page(browser, page).form("/clock/stop")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(browser.submit, (stop,)))
        list(pool.map(other.submit, (time_page(other, nurse).form("/clock/stop"),)))
    browser.submit(stop)
    people = {entry.latest.content.by for entry in world.store.time_log.of_patient("sandbox", PATIENT)}
    assert people == {PHYSICIAN, NURSE}
    assert len(world.store.time_log.of_patient("sandbox", PATIENT)) == 2, "a second press adds nothing"


def test_a_clock_that_runs_for_another_patient_is_said_and_can_be_discarded(world, browser):
    page = world.open(browser, PATIENT)
    ran_for(world, 3, patient="nothing")
    log = time_page(browser, page)
    assert "running for another patient" in log.text
    assert not any(form.action.endswith(("/clock/start", "/clock/stop")) for form in log.forms)
    assert "Start the clock" in browser.submit(log.form("/clock/discard")).body
    assert world.store.time_log.of_patient("sandbox", "nothing") == ()


def test_times_of_a_clock_that_were_corrected_by_hand_say_so(world, browser):
    page = world.open(browser, PATIENT)
    running = browser.submit(time_page(browser, page).form("/clock/start"))
    ran_for(world, 12)
    form = browser.submit(running.form("/clock/stop")).form("/correct")
    kept = {
        control.name: control.value for control in form.controls if control.name in {"day", "start", "end"}
    }
    entry = browser.submit(form, **typed(**kept))
    assert "by a clock that was started and stopped by hand" in entry.text
    form = browser.get(f"{entry.url}/correct").form("/correct")
    assert "by a clock, corrected by hand" in browser.submit(form, **typed()).text


def measured(world):
    """A contact of 21 minutes and 45 seconds that a clock measured; the start of its pages' addresses."""
    day = last_month()
    logged = LoggedTime(
        start=datetime(day.year, day.month, day.day, 10, 0, 7, tzinfo=ZONE),
        end=datetime(day.year, day.month, day.day, 10, 21, 52, tzinfo=ZONE),
        person=PHYSICIAN,
        activity=Activity.PHONE_CALL,
        program=Program.RTM,
        live=True,
    )
    content = EntryContent(logged=logged, measured=Measured.CLOCK, by=PHYSICIAN)
    return logged, world.store.time_log.enter("sandbox", PATIENT, content, world.now())


def left_alone(form):
    """What a browser sends of a form that nobody changed."""
    return {one.name: one.value for one in form.controls if one.name in typed()}


@pytest.mark.parametrize(
    ("changes", "lost", "how"),
    [
        ({}, 0, Measured.CLOCK),
        ({"note": "Only the note is new"}, 0, Measured.CLOCK),
        ({"end": "10:20"}, 60 + 52, Measured.CLOCK_CHANGED),
        ({"start": "10:02"}, 60 + 53, Measured.CLOCK_CHANGED),
        ({"start": "10:00", "end": "10:21"}, 0, Measured.CLOCK),
    ],
)
def test_a_correction_shows_minutes_and_keeps_the_seconds_of_what_nobody_changed(
    world, browser, changes, lost, how
):
    page = world.open(browser, PATIENT)
    logged, entry = measured(world)
    form = browser.get(f"{page.url}time/{entry}/correct").form("/correct")
    shown = {control.name: control.value for control in form.controls}
    assert (shown["start"], shown["end"]) == ("10:00", "10:21")
    told = browser.submit(form, **(left_alone(form) | changes))
    assert told.status == 200, told.text
    assert lost or "10:00:07 to 10:21:52" in told.text
    content = world.store.time_log.get("sandbox", PATIENT, entry).latest.content
    assert content.logged.seconds == logged.seconds - lost
    assert content.measured is how


def test_opening_and_saving_a_correction_again_and_again_loses_and_gains_nothing(world, browser):
    page = world.open(browser, PATIENT)
    logged, entry = measured(world)
    for _ in range(3):
        form = browser.get(f"{page.url}time/{entry}/correct").form("/correct")
        browser.submit(form, **left_alone(form))
    found = world.store.time_log.get("sandbox", PATIENT, entry)
    assert len(found.versions) == 4
    last = found.latest.content.logged
    assert (last.start, last.end) == (logged.start, logged.end)


def test_no_page_has_a_button_that_fills_in_missing_minutes_or_an_inline_script(world, browser):
    page = world.open(browser, PATIENT)
    entry = entered(browser, page)
    pages = (time_page(browser, page), entry, browser.get(f"{entry.url}/correct"))
    for one in (*pages, browser.get(f"{page.url}statements"), browser.get(f"{page.url}anchor")):
        assert one.status == 200
        assert "style=" not in one.body
        assert not re.search(r"\son\w+=", one.body)
        assert not re.search(r"<script(?![^>]*\ssrc=)", one.body)
        assert not re.search(r"missing minutes|fill in|add the rest", one.text, re.IGNORECASE)
    empty = time_page(browser, page).form("/time")
    prefilled = [c for c in empty.controls if c.kind in {"date", "time"} and c.value]
    assert prefilled == []


# Written back


def served(world, line, instead):
    """The app with another line in its site's file."""
    site = world.settings.site_file
    assert line in site.read_text()
    site.write_text(site.read_text().replace(line, instead))
    return AppServer(create_app(world.settings), "127.0.0.1", urlsplit(world.settings.base_url).port)


@pytest.fixture
def open_ehr(make_world):
    """A world whose site and EHR let Encounters be written."""
    return make_world(extra_scopes=WRITE_BACK)


def test_by_default_nothing_is_written_back(world, browser):
    signed(browser, world.open(browser, PATIENT))
    assert encounters(world) == []


def test_a_site_that_does_not_want_it_keeps_logged_time_here(make_world, browser):
    world = make_world(extra_scopes=WRITE_BACK, serve=False)
    with served(world, "write_back_encounters: true", "write_back_encounters: false"):
        entry = signed(browser, world.open(browser, PATIENT))
        assert "Logged time: signed" in entry.text
    assert encounters(world) == []


def test_a_signed_entry_is_written_once_and_counted_once(open_ehr, browser):
    world = open_ehr
    page = world.open(browser, PATIENT)
    world.read(browser, signed(browser, page))
    (encounter,) = encounters(world)
    assert encounter["status"] == "finished"
    assert encounter["identifier"][0]["value"] == world.store.time_log.of_patient("sandbox", PATIENT)[0].id
    decision = month_code(browser, page)
    assert seconds(decision) == 25 * 60
    live = next(part for part in decision["requirements"] if part["requirement"] == "live-contact")
    assert live["found"] == 1
    assert decision["requirements"][0]["evidence"] == [f"Encounter/{encounter['id']}"]
    card = browser.get(page.url)
    assert "logged in this app" in card.text
    key = f"98980-{last_month(1).isoformat()}"
    browser.submit(world.final_form(browser, card, key))
    charge = next(one for one in world.charges(PATIENT) if one["code"]["coding"][0]["code"] == "98980")
    assert {"reference": f"Encounter/{encounter['id']}"} in charge["supportingInformation"]
    assert "logged in this app" in charge["note"][0]["text"]


def test_a_lost_answer_and_a_second_try_leave_one_encounter(open_ehr, browser):
    world = open_ehr
    page = world.open(browser, PATIENT)
    entry = entered(browser, page)
    world.ehr.sandbox.quirks.fail_after_commit = 1
    told = browser.submit(entry.form("/sign"), confirm="yes")
    if "Not written to the EHR" in told.text:
        browser.submit(told.form("/write"))
    assert len(encounters(world)) == 1
    assert world.store.time_log.of_patient("sandbox", PATIENT)[0].state is EntryState.WRITTEN


def test_a_correction_changes_the_same_encounter_and_a_withdrawal_marks_it_in_error(open_ehr, browser):
    world = open_ehr
    page = world.open(browser, PATIENT)
    world.read(browser, signed(browser, page))
    (before,) = encounters(world)
    (entry,) = world.store.time_log.of_patient("sandbox", PATIENT)
    address = f"{page.url}time/{entry.id}"
    corrected = browser.submit(browser.get(f"{address}/correct").form("/correct"), **typed(end="10:21"))
    assert seconds(month_code(browser, page)) == 0, "the EHR's copy is of the earlier version"
    world.read(browser, browser.submit(corrected.form("/sign"), confirm="yes"))
    (after,) = encounters(world)
    assert after["id"] == before["id"]
    assert after["period"]["end"] != before["period"]["end"]
    assert seconds(month_code(browser, page)) == 21 * 60
    world.read(browser, browser.submit(browser.get(address).form("/withdraw")))
    (gone,) = encounters(world)
    assert gone["status"] == "entered-in-error"
    assert seconds(month_code(browser, page)) == 0


def test_an_ehr_that_only_lets_create_is_told_of_and_the_old_copy_never_counts(make_world, browser):
    world = make_world(extra_scopes=("patient/DeviceMetric.rs", "patient/Encounter.c"))
    page = world.open(browser, PATIENT)
    world.read(browser, signed(browser, page))
    (entry,) = world.store.time_log.of_patient("sandbox", PATIENT)
    told = browser.submit(browser.get(f"{page.url}time/{entry.id}").form("/withdraw"))
    assert "Mark it as entered in error there" in told.text
    world.read(browser, browser.submit(browser.get(page.url).form("/read")))
    assert encounters(world)[0]["status"] == "finished"
    assert seconds(month_code(browser, page)) == 0


def test_what_the_ehr_marks_in_error_does_not_count_here_either(open_ehr, browser):
    world = open_ehr
    page = world.open(browser, PATIENT)
    world.read(browser, signed(browser, page))
    (encounter,) = encounters(world)
    world.ehr.sandbox.store.update({**encounter, "status": "entered-in-error"}, None)
    world.read(browser, browser.submit(browser.get(page.url).form("/read")))
    assert seconds(month_code(browser, page)) == 0


# Between the page and the charge


def test_nothing_is_logged_corrected_signed_or_withdrawn_in_a_certified_month(make_world, browser):
    world = make_world(serve=False)
    with served(world, "payer: medicare\n", "payer: medicare\nlock_certified_months: true\n"):
        page = world.open(browser, PATIENT)
        entry = signed(browser, page)
        draft = entered(browser, page, start="11:00", end="11:05")
        world.store.months.certify("sandbox", PATIENT, last_month(1), PHYSICIAN, "", world.now())
        refused = (
            entered(browser, page, start="12:00", end="12:05"),
            browser.submit(browser.get(f"{entry.url}/correct").form("/correct"), **typed(end="10:21")),
            browser.submit(browser.get(entry.url).form("/withdraw")),
            browser.submit(draft.form("/sign"), confirm="yes"),
        )
        for told in refused:
            assert told.status == 422
            assert "is certified for this patient" in told.text
        assert seconds(month_code(browser, page)) == 25 * 60


def test_a_month_that_is_certified_after_the_first_look_is_found_by_the_transaction_that_writes(
    make_world, browser, monkeypatch
):
    """As if it were certified between the two: what was asked before the write says that it is open."""
    world, looked = make_world(serve=False), []

    def first_look_misses(self, issuer_id, patient, days):
        looked.append(days)
        return None if len(looked) == 1 else really(self, issuer_id, patient, days)

    really = Guards.locked
    with served(world, "payer: medicare\n", "payer: medicare\nlock_certified_months: true\n"):
        page = world.open(browser, PATIENT)
        entry = signed(browser, page)
        draft = entered(browser, page, start="11:00", end="11:05")
        world.store.months.certify("sandbox", PATIENT, last_month(1), PHYSICIAN, "", world.now())
        before = world.store.months.seen("sandbox", PATIENT)
        acts = (
            (time_page(browser, page).form("/time"), typed(start="12:00", end="12:05")),
            (browser.get(f"{entry.url}/correct").form("/correct"), typed(end="10:21")),
            (browser.get(entry.url).form("/withdraw"), {}),
            (draft.form("/sign"), {"confirm": "yes"}),
        )
        monkeypatch.setattr(Guards, "locked", first_look_misses)
        for form, values in acts:
            looked.clear()
            told = browser.submit(form, **values)
            assert told.status == 422
            assert "is certified for this patient" in told.text
        assert world.store.months.seen("sandbox", PATIENT) == before


def test_an_entry_that_was_corrected_elsewhere_meanwhile_stops_the_charge(world, browser):
    page = world.open(browser, PATIENT)
    signed(browser, page)
    key = f"98980-{last_month(1).isoformat()}"
    form = world.final_form(browser, browser.get(page.url), key)
    log = world.store.time_log
    (entry,) = log.of_patient("sandbox", PATIENT)
    content = entry.latest.content
    assert log.append(
        "sandbox", PATIENT, entry.id, 2, EntryState.WITHDRAWN, content, world.now(), "time-withdrawn"
    )
    refused = browser.submit(form)
    assert refused.status == 409
    assert world.charges(PATIENT) == []


def test_what_somebody_else_logged_is_decided_on_when_the_page_is_next_opened(world, browser):
    page = world.open(browser, PATIENT)
    day = datetime.combine(last_month(), datetime.min.time(), ZONE).replace(hour=9)
    logged = LoggedTime(
        start=day,
        end=day + timedelta(minutes=22),
        person=PHYSICIAN,
        program=Program.RTM,
        activity=Activity.PHONE_CALL,
        live=True,
    )
    log, now = world.store.time_log, world.now()
    content = EntryContent(logged=logged, by=PHYSICIAN)
    name = log.enter("sandbox", PATIENT, content, now)
    log.append("sandbox", PATIENT, name, 1, EntryState.SIGNED, content, now, "time-signed")
    assert seconds(month_code(browser, page)) == 22 * 60


def test_everything_that_was_done_stands_in_the_audit_trail(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page)
    browser.submit(entry.form("/withdraw"))
    events = [one for one in world.store.audit.entries() if one["event"].startswith("time-")]
    assert [one["event"] for one in events] == ["time-logged", "time-signed", "time-withdrawn"]
    assert all(one["user"] == PHYSICIAN for one in events)
    assert NOTE not in json.dumps(events)
    assert world.store.audit.verify() is None


# A length alone, and what a conversation was

TALK = {"with_whom": "a caregiver", "data": "Inhaler use of March", "decided": "Spacer ordered"}


def test_a_length_with_a_day_counts_on_that_day_and_the_times_must_be_stated(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page, start="", end="", length="25")
    assert "a length, without times" in entry.text
    decision = month_code(browser, page)
    assert (decision["outcome"], seconds(decision)) == ("suggest", 25 * 60)
    assert "time" in decision["unverified"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": "", "end": "", "length": "0"}, "length in whole minutes"),
        ({"start": "", "end": "", "length": "a while"}, "length in whole minutes"),
        ({"start": "", "end": "", "length": "241"}, "4 hours"),
        ({"length": "25"}, "or the length in whole minutes"),
        ({"start": "", "end": ""}, "or the length in whole minutes"),
        ({"start": "", "end": "", "length": "25", "day": (DAY + timedelta(days=1)).isoformat()}, "future"),
    ],
)
def test_a_length_is_whole_minutes_instead_of_times(shared_world, browser, changes, said):
    refused = entered(browser, shared_world.open(browser, PATIENT), **changes)
    assert refused.status == 422
    assert said in refused.text


def test_a_length_is_corrected_as_a_length_and_in_the_ehr_too_has_no_times(make_world, browser):
    world = make_world(extra_scopes=WRITE_BACK)
    page = world.open(browser, PATIENT)
    entry = entered(browser, page, start="", end="", length="25")
    correction = browser.get(f"{entry.url}/correct").form("/correct")
    assert {one.name: one.value for one in correction.controls}["length"] == "25"
    done = browser.submit(entry.form("/sign"), confirm="yes")
    assert done.status == 200, done.text
    assert "Not written" not in done.text, done.text
    (held,) = encounters(world)
    assert held["period"] == {"start": last_month().isoformat(), "end": last_month().isoformat()}
    assert (held["length"]["value"], held["length"]["code"]) == (25 * 60, "s")
    world.read(browser, browser.get(page.url))
    assert seconds(month_code(browser, page)) == 25 * 60


def test_what_a_conversation_was_is_kept_with_it_and_what_is_none_has_none(world, browser):
    page = world.open(browser, PATIENT)
    entry = signed(browser, page, **TALK)
    for said in ("With a caregiver", "Data talked about Inhaler use of March", "Decided Spacer ordered"):
        assert said in entry.text
    (told,) = decisions(browser, page)["time_log"]
    assert told["talk"] == TALK
    review = entered(browser, page, **TALK, activity="data-review", live="no")
    assert "Spacer ordered" not in review.text


def test_what_is_not_said_of_a_conversation_is_seen(shared_world, browser):
    entry = entered(browser, shared_world.open(browser, PATIENT))
    assert "Decided not said" in entry.text


def test_an_address_fills_in_what_a_row_knows_and_keeps_nothing(shared_world, browser):
    page = shared_world.open(browser, PATIENT)
    before = shared_world.store.time_log.of_patient("sandbox", PATIENT)
    known = {"day": last_month().isoformat(), "length": "12", "program": "rtm", "activity": "phone-call"}
    form = browser.get(f"{page.url}time?" + "&".join(f"{k}={v}" for k, v in known.items())).form("/time")
    shown = {control.name: control.value for control in form.controls}
    assert {name: shown[name] for name in known} == known | {"day": "", "length": ""}, (
        "when something was and how long it took stands in no address"
    )
    assert shown["live"] == ""
    assert shared_world.store.time_log.of_patient("sandbox", PATIENT) == before


@pytest.mark.parametrize(("measured", "days"), [("typed", 9), ("clock-changed", 9), ("clock", 0)])
def test_how_late_minutes_were_typed_is_told_and_a_clock_is_never_late(store, measured, days):
    from smartapp.ehr.reading.own_record import OwnRecord

    end = datetime(2026, 4, 1, 23, 30, tzinfo=ZONE)
    logged = LoggedTime(
        start=end - timedelta(minutes=21),
        end=end,
        person=PHYSICIAN,
        role=Role.PHYSICIAN,
        activity=Activity.PHONE_CALL,
        program=Program.RTM,
        live=True,
    )
    content = EntryContent(logged=logged, measured=Measured(measured), by=PHYSICIAN)
    typed = datetime(2026, 4, 10, 8, tzinfo=ZONE)
    entry = store.time_log.enter("sandbox", "p1", content, typed)
    store.time_log.append(
        "sandbox", "p1", entry, 1, EntryState.SIGNED, content, typed + timedelta(days=20), "time-signed"
    )
    (told,) = OwnRecord.load(store, "sandbox", "p1", ZONE).told({})["time_log"]
    assert told["days_late"] == days
    assert told["role_of_oneself"] == "physician"
