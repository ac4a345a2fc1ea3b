"""What payers denied: recorded for a charge by hand or from lines of a remittance, followed up, taken back.

For whoever may see the month of charges; a charge by itself opens where the viewer's own token reads its
patient now. Nothing is sent anywhere: what was done about a denial was done where the claim is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from flask import Blueprint, Response, abort, g, make_response, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from smartapp.ehr.reading.asking import NotAnswered
from smartapp.ehr.reading.display import Banner
from smartapp.remittance import (
    LONGEST_NOTE,
    Imported,
    NoRemittance,
    day_in,
    import_remittance,
    read_remittance,
    reason_in,
    remark_in,
)
from smartapp.services import services
from smartapp.store.billing import MonthRow
from smartapp.store.denials import Added, Denial, DenialContent, DenialState, Denied
from smartapp.store.months import last_day, month_of
from smartapp.web import billing_words, own_pages, words
from smartapp.web.billing import MAY, RowView, first_day_of, people_of, row_view
from smartapp.web.billing_rows import patient_of
from smartapp.web.denial_reasons import REASONS, DenialReason
from smartapp.web.errors import error_page

pages = Blueprint("denials", __name__, url_prefix="/s/<sid>/denials")

MOST_NAMED = 50
"""Lines that could not be kept, of which the page names this many."""
_FOLLOWED = frozenset(billing_words.DONE)


@dataclass(frozen=True)
class CountView:
    reason: str
    told: DenialReason | None
    payer: str
    charges: int
    open: int


@dataclass(frozen=True)
class VersionView:
    """One version of a denial in words."""

    says: str
    by: str
    at: date
    note: str
    from_file: bool


@dataclass(frozen=True)
class DenialView:
    denial: Denial
    told: DenialReason | None
    versions: tuple[VersionView, ...]


@dataclass(frozen=True)
class ChargeView:
    """A charge as billing finds it. `patient`: as the EHR names them."""

    charge: RowView
    patient: Banner
    denials: tuple[DenialView, ...]


@dataclass(frozen=True)
class Seen:
    """A charge whose patient the viewer's own token reads now."""

    row: MonthRow
    patient: Banner


class NotSeen(Exception):
    """It does not; or the EHR did not say so (`silent`)."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        super().__init__()


@pages.errorhandler(NotSeen)
def _not_seen(error: NotSeen) -> Response:
    if error.silent:
        return error_page(
            503,
            "The EHR did not answer",
            "It did not say whether you may read this charge's patient. Nothing is shown, nothing was kept.",
            "Try again in a moment.",
        )
    return error_page(
        403,
        "This charge is not shown here",
        "It is of a patient whom your sign-in does not let you read now. Nothing was kept.",
        "Whoever may open the patient's chart sees it from there.",
    )


@pages.get("/month/<key>")
@MAY
def month(key: str) -> Response:
    """Denials of a month's charges by reason and payer, with the rule that would have prevented them."""
    return _month_page(first_day_of(key), None, "", 200)


@pages.post("/month/<key>/remittance")
@MAY
def remittance(key: str) -> Response:
    """Lines of a remittance, pasted. They are read and not kept."""
    first_day, here = first_day_of(key), services()
    try:
        lines, unreadable = read_remittance(request.form.get("remittance", "").encode())
    except NoRemittance as fault:
        return _month_page(first_day, None, f"Nothing was kept: {fault}.", 422)
    done = import_remittance(
        here.store, lines, unreadable, own_pages.user(), here.clock.now(), g.session.issuer_id
    )
    return _month_page(first_day, done, "", 200)


@pages.get("/charge/<key>")
@MAY
def charge(key: str) -> Response:
    """One charge: what it is, and everything that was recorded of its denials."""
    seen = _seen(key)
    services().store.audit.add(
        services().clock.now(),
        "billing-charge-opened",
        issuer=g.session.issuer_id,
        patient=seen.row.patient,
        identifier=seen.row.identifier,
        **own_pages.facts(),
    )
    return _charge_page(seen, (), 200)


@pages.post("/charge/<key>/record")
@MAY
def record(key: str) -> AnyResponse:
    """Record a denial; the same one again adds nothing."""
    seen, here, form = _seen(key), services(), request.form
    row = seen.row
    problems: list[str] = []
    try:
        denied = Denied(
            row.identifier,
            day_in(form.get("on", "")),
            reason_in(form.get("reason", "")),
            remark_in(form.get("remark", "")),
        )
    except ValueError as fault:
        said = str(fault).removeprefix("its ")
        return _charge_page(seen, (f"The {said}.",), 422)
    if denied.on > own_pages.today():
        problems.append("The day lies ahead.")
    if row.service_date is not None and denied.on < row.service_date:
        problems.append("The day lies before the date of service.")
    if problems:
        return _charge_page(seen, tuple(problems), 422)
    content = DenialContent(*own_pages.user(), form.get("note", "").strip()[:LONGEST_NOTE])
    (became,) = here.store.denials.record([denied], content, here.clock.now(), g.session.issuer_id)
    if became is Added.NOT_CHARGED:
        return _charge_page(
            seen, ("It never left from here as a charge: a payer cannot have denied it.",), 409
        )
    return own_pages.to("denials.charge", key=key)


@pages.post("/charge/<key>/<denial_id>/<int:version>")
@MAY
def follow_up(key: str, denial_id: str, version: int) -> AnyResponse:
    """What was done about it, or that it is taken back, with a reason."""
    seen, here = _seen(key), services()
    row = seen.row
    kept = here.store.denials.of_charges([row.identifier]).get(row.identifier, ())
    denial = next((one for one in kept if one.id == denial_id), None)
    if denial is None:
        abort(404)
    done, note = request.form.get("done", ""), request.form.get("note", "").strip()[:LONGEST_NOTE]
    if done not in {state.value for state in (*_FOLLOWED, DenialState.TAKEN_BACK)}:
        return _charge_page(seen, ("Say what was done.",), 422)
    state = DenialState(done)
    if state is DenialState.TAKEN_BACK and not note:
        return _charge_page(seen, ("Say why it is taken back: the reason is kept.",), 422)
    if denial.state is state and denial.version == version + 1:
        return own_pages.to("denials.charge", key=key)  # pressed twice
    if denial.version != version or not denial.stands:
        return _charge_page(seen, ("Somebody changed it since this page was made. Look again.",), 409)
    content = DenialContent(*own_pages.user(), note)
    if not here.store.denials.follow_up(denial, state, content, here.clock.now()):
        return _charge_page(seen, ("Somebody changed it since this page was made. Look again.",), 409)
    return own_pages.to("denials.charge", key=key)


def sentences_of(identifier: str) -> tuple[str, ...]:
    """What was recorded of a charge's denials, every version of it, in sentences; none where nothing was."""
    return tuple(
        f"{_day(one.on)}, reason {_codes(one)}: {billing_words.DENIED[one.state]} "
        f"({one.content.by_name or _whose(one)}, {_day(_local(one.at))})."
        + (f" {one.content.note}" if one.content.note else "")
        for one in services().store.denials.history(identifier)
    )


def _seen(key: str) -> Seen:
    """Raises NotFound, NotSeen."""
    found = services().store.billing.named(g.session.issuer_id, key)
    if found is None or found.key != key:
        abort(404)
    try:
        patient = patient_of(found)
    except NotAnswered:
        raise NotSeen(silent=True) from None
    if patient is None:
        raise NotSeen(silent=False)
    return Seen(found, patient)


def _charge_page(seen: Seen, problems: tuple[str, ...], status: int) -> Response:
    row = seen.row
    history: dict[str, list[Denial]] = {}
    for one in services().store.denials.history(row.identifier):
        history.setdefault(one.id, []).append(one)
    first_day = month_of(row.service_date or own_pages.today())
    performers = [row.performer] if row.performer else []
    people = people_of(performers, g.session.issuer_id, first_day)
    view = ChargeView(
        row_view(row, people, {}, services().site),
        seen.patient,
        tuple(
            DenialView(versions[-1], REASONS.get(versions[-1].reason), tuple(map(_version, versions)))
            for versions in history.values()
        ),
    )
    page = render_template(
        "denials/charge.html",
        view=view,
        problems=problems,
        typed=request.form if status != 200 else {},
        done={state.value: text for state, text in billing_words.DONE.items()},
        month=f"{first_day:%Y-%m}",
        longest=LONGEST_NOTE,
        today=own_pages.today(),
    )
    return make_response(page, status)


def _version(one: Denial) -> VersionView:
    says = billing_words.DENIED[one.state]
    return VersionView(
        says,
        one.content.by_name or _whose(one),
        _local(one.at),
        one.content.note,
        one.content.source == "file",
    )


def _month_page(first_day: date, done: Imported | None, problem: str, status: int) -> Response:
    counts = services().store.denials.counts(g.session.issuer_id, first_day, last_day(first_day))
    page = render_template(
        "denials/month.html",
        first_day=first_day,
        key=f"{first_day:%Y-%m}",
        counts=[
            CountView(
                one.reason,
                REASONS.get(one.reason),
                words.payer(one.payer, services().site.policies),
                one.charges,
                one.open,
            )
            for one in counts
        ],
        done=done,
        problem=problem,
        most_named=MOST_NAMED,
        pasted=request.form.get("remittance", "") if status != 200 else "",
    )
    return make_response(page, status)


def _codes(one: Denial) -> str:
    return f"{one.reason} {one.remark}".strip()


def _whose(one: Denial) -> str:
    return "a remittance that was read in" if one.content.source == "file" else "somebody without a name here"


def _day(day: date) -> str:
    return words.day(day)


def _local(at: datetime) -> date:
    return at.astimezone(services().site.zone).date()
