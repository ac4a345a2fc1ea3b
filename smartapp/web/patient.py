"""The patient page: a shell at once, progress while the chart is read, then one card a code."""

from __future__ import annotations

from datetime import date, timedelta

from flask import Blueprint, Response, g, jsonify, make_response, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.local_time import LocalClock
from fhir_mappings.needs import oldest_day
from launch.errors import LaunchError
from smartapp.ehr.reading.display import decode
from smartapp.ehr.reading.findings import Findings
from smartapp.ehr.reading.notices import NoticeKind
from smartapp.ehr.reading.one_day import OBSERVATION, readings_of
from smartapp.ehr.reading.seen import Names, seen
from smartapp.plain import laid_out
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.months import Month
from smartapp.store.reading import ATTEMPTS, JobState, ReadingJob, Snapshot
from smartapp.web import own_pages, reading_words, words
from smartapp.web.access import Open, needs
from smartapp.web.anchor_history import anchor_history
from smartapp.web.blocks import DayView
from smartapp.web.changes_view import changes_view
from smartapp.web.errors import error_page
from smartapp.web.leaving import told_on_the_page
from smartapp.web.months import certified_months
from smartapp.web.patient_view import Blocks, patient_view
from smartapp.web.permission import (
    Action,
    looking_refusal,
    present_findings,
    refusal,
    refused_here,
    role_of,
)
from smartapp.web.records import of_others, record_view, why_left_out
from smartapp.web.security import drop_cookie, session_cookie_name
from smartapp.web.waiting import take_seat
from smartapp.windows import WindowOfCodes

READINGS_A_PAGE = 100
MOST_PAGES = 10_000

WAITS_MS = (150, 150, 250, 400, 700)
"""How long the page waits before it looks again: most charts are read at once, and a long one takes long."""

pages = Blueprint("patient", __name__, url_prefix="/s/<sid>")


@pages.get("/")
@needs(Open.SIGNED_IN)
def page() -> str:
    """The whole page: the cards if the chart has been read, else the shell that waits for them."""
    return render_template("patient/patient.html", **_content())


@pages.get("/content")
@needs(Open.SIGNED_IN)
def content() -> Response:
    """What the page waits for, as a fragment: progress, failure or the cards."""
    return make_response(render_template("patient/_content.html", fragment=True, **_content()))


@pages.post("/read")
@needs(Open.SIGNED_IN)
def read_again() -> AnyResponse:
    """Read the chart once more; `whole`: with the months before the last charged period."""
    services().jobs.read_again(g.session, whole="whole" in request.form)
    return redirect(url_for("patient.page", sid=g.session.id), 303)


@pages.post("/end")
@needs(Open.SIGNED_IN)
def end() -> Response:
    """End the session here and, where the EHR offers it and has a seat free, there."""
    try:
        take_seat()
        revoke = True
    except LaunchError:
        revoke = False  # ending never waits
    services().keeper.log_out(g.session.id, revoke=revoke)
    response = make_response(render_template("patient/ended.html"))
    drop_cookie(response, session_cookie_name(g.session.id))
    return response


@pages.get("/decisions.json")
@needs(Open.SIGNED_IN)
def decisions() -> tuple[Response, int]:
    """The page's twin: exactly what `smartapp evaluate --json` says of the same resources."""
    here = services()
    found = here.jobs.findings(g.session)
    if found is None:
        job = here.jobs.state(g.session)
        if job.state is JobState.FAILED:
            return jsonify(error=reading_words.failure(job.failure)), 502
        return jsonify(status="reading"), 202
    snapshot, findings = found
    response = jsonify(findings.contract)
    response.headers["X-Snapshot-Id"] = snapshot.id
    response.headers["X-Snapshot-Sha256"] = snapshot.sha256
    return response, 200


@pages.get("/evidence/<address>")
@needs(Open.SIGNED_IN)
def evidence(address: str) -> Response:
    """One source record, counted or left out: in words, and as the EHR sent it."""
    here = services()
    found = here.jobs.findings(g.session)
    if found is None:
        raise NotFound
    snapshot, findings = found
    g.findings = findings
    for resource in here.store.reading.resources(snapshot.id):
        reference = resource.reference
        if not resource.raw or not _may_be_opened(reference, findings):
            continue
        if own_pages.address_of(reference, g.session.id) != address:
            continue
        here.store.audit.add(
            here.clock.now(),
            "evidence-opened",
            **own_pages.facts(),
            issuer=g.session.issuer_id,
            patient=g.session.patient,
            snapshot=snapshot.id,
            record=reference,
        )
        told = findings.seen.get(reference)
        if told is None:
            told = seen(decode(resource.raw), LocalClock(here.site.zone), Names())
        return make_response(
            render_template(
                "patient/evidence.html",
                person=findings.patient,
                record=record_view(reference, findings, why_left_out(reference, findings), told),
                raw=laid_out(resource.raw),
            )
        )
    raise NotFound


def _may_be_opened(reference: str, findings: Findings) -> bool:
    """Evidence, what was left out, and each reading: whatever the page or that of a day lists."""
    if reference in findings.versions or reference in findings.seen:
        return True
    return reference.startswith(f"{OBSERVATION}/") and reference not in of_others(findings)


@pages.get("/windows/<address>")
@needs(Open.SIGNED_IN)
def window(address: str) -> str:
    """One window: its days or minutes, and the rule and evidence of each code."""
    here = services()
    with here.store.database.reading():
        found = present_findings()
        if found is None:
            raise NotFound
        g.findings = findings = found[1]
        charges = _charges()
        months = certified_months(g.session.issuer_id, g.session.patient or "")
        closed = [month.first_day for month in months]
        blocks = Blocks(findings, here.site, charges, _refused(findings), closed)
        sid = g.session.id
        named = {own_pages.window_address(one.key, sid): one for one in blocks.windows}
        one = named.get(address)
        if one is None:
            raise NotFound
        return render_template(
            "patient/window.html",
            person=findings.patient,
            block=blocks.whole(one),
            changes=changes_view(findings, charges) if looking_refusal(g.session) is None else None,
        )


@pages.get("/days/<address>")
@needs(Open.SIGNED_IN)
def day(address: str) -> AnyResponse:
    """One day of a window's strip: its readings, and why one does not count. The patient page opens it in
    place."""
    found = present_findings()
    if found is None:
        return _no_such_day()
    g.findings = findings = found[1]
    blocks = Blocks(findings, services().site, (), None)
    named = _day_named(address, blocks)
    if named is None:
        return _no_such_day()
    return make_response(
        render_template(
            "patient/day.html",
            person=findings.patient,
            title=blocks.title(named[0]),
            key=named[0].key,
            day=named[1],
        )
    )


def _day_named(address: str, blocks: Blocks) -> tuple[WindowOfCodes, DayView] | None:
    """Which day of which window an address of this session means, among those that are there now."""
    for one in blocks.windows:
        for number in range((one.window.end - one.window.start).days + 1):
            that_day = one.window.start + timedelta(days=number)
            if own_pages.strip_day_address(that_day, one.key, g.session.id) == address:
                days = blocks.days(one)
                return (one, days[number]) if days and days[number].opens else None
    return None


def _no_such_day() -> Response:
    return error_page(
        404,
        "That day is not here",
        "This address names no day of the chart as it was read last.",
        "Go back to the patient page and open the day from what it shows now.",
    )


@pages.get("/readings/<address>")
@needs(Open.SIGNED_IN)
def readings(address: str) -> str:
    """Every reading of one day, a page at a time."""
    here = services()
    found = here.jobs.findings(g.session)
    if found is None:
        raise NotFound
    snapshot, findings = found
    g.findings = findings
    days = {day.day for day in findings.assessment.days}
    day = next((one for one in days if own_pages.day_address(one, g.session.id) == address), None)
    number = request.args.get("page", 1, type=int)
    if day is None or not 1 <= number <= MOST_PAGES:
        raise NotFound
    some = readings_of(
        here.store.reading.resources(snapshot.id),
        day,
        LocalClock(here.site.zone),
        of_others(findings),
        (number - 1) * READINGS_A_PAGE,
        READINGS_A_PAGE,
    )
    why = {entry.resource: words.excluded(entry.reason) for entry in findings.assessment.excluded}
    return render_template(
        "patient/readings.html",
        person=findings.patient,
        day=day,
        address=address,
        records=[
            record_view(one.reference, findings, why.get(one.reference, ""), one.told)
            for one in some.readings
        ],
        number=number,
        pages=max(1, -(-some.total // READINGS_A_PAGE)),
        total=some.total,
    )


def _content() -> dict[str, object]:
    here = services()
    look = max(0, request.args.get("look", 0, type=int))
    job = here.jobs.state(g.session)
    found = present_findings() if job.state is JobState.DONE else None
    with here.store.database.reading():
        return _told(found, job, look)


def _told(found: tuple[Snapshot, Findings] | None, job: ReadingJob, look: int) -> dict[str, object]:
    here = services()
    view = changes = handing_over = None
    months: tuple[Month, ...] = ()
    if found is not None:
        g.findings = found[1]
        handing_over = told_on_the_page(found[1])
        refused = _refused(found[1])
        charges = _charges()
        if looking_refusal(g.session) is None:
            changes = changes_view(found[1], charges)
        months = certified_months(g.session.issuer_id, g.session.patient or "")
        blocks = Blocks(found[1], here.site, charges, refused, [month.first_day for month in months])
        view = patient_view(*found, here.site, refused, blocks)
    return {
        "view": view,
        "job": job,
        "zone": here.site.zone,
        "most_attempts": ATTEMPTS,
        "place": here.jobs.place_in_line(g.session),
        "changes": changes,
        "anchor_history": ()
        if found is None
        else anchor_history(g.session.issuer_id, g.session.patient or ""),
        "handing_over": handing_over,
        "more_months": found is not None and _was_read_in_part(found[1]),
        "may_bill": found is not None and refused_here(Action.BILL) is None,
        "months": months,
        "locks_months": here.site.lock_certified_months,
        "missing_records": [] if found is None else _missing_records(found[1]),
        "look": look,
        "wait_ms": WAITS_MS[min(look, len(WAITS_MS) - 1)],
    }


def _was_read_in_part(findings: Findings) -> bool:
    """Whether there are months that nobody needs any more, and that can be read all the same."""
    as_of = date.fromisoformat(findings.said["as_of"])
    return findings.history_from > oldest_day(as_of, services().settings.history_months)


def _refused(findings: Findings) -> str | None:
    """Why no charge may be written."""
    role = role_of(g.session, services().site, findings)
    return refusal(Action.ACCEPT, g.session, role, services().site, findings.writes)


def _charges() -> tuple[Charge, ...]:
    """The patient's outbox rows, for those who may see them."""
    if looking_refusal(g.session) is not None:
        return ()
    return services().store.charges.of_patient(g.session.issuer_id, g.session.patient or "")


def _missing_records(findings: Findings) -> list[str]:
    """Names of records that something points to and the EHR did not give: for audit, not for reading."""
    return [one.detail for one in findings.notices if one.kind is NoticeKind.MISSING and one.detail]
