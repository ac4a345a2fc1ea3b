"""Accepting charges, one or several at once: choose and confirm, see exactly what will be written, write each
once, see what became of each.

Where nothing is open the way begins with what will be written; nothing is ever written by a single click.
What was said so far goes along in the addresses, sealed, and every form leads to a page of its own, so that
Back, reload and a second tab show the truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from flask import Blueprint, Response, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.charge_item import ChargeNotValid
from fhir_mappings.decision import Decision
from smartapp.ehr.charges.create import Acceptance
from smartapp.ehr.charges.workflow import Result, Step
from smartapp.ehr.handover.choice import Chosen
from smartapp.services import services
from smartapp.store.charges import Charge, Leaving
from smartapp.store.claims import HANDED, ChargeState
from smartapp.web import own_pages, words
from smartapp.web.access import Open, needs
from smartapp.web.answer import row_text
from smartapp.web.audit_record import record_of
from smartapp.web.cards import CardView, card_view, rules_not_confirmed
from smartapp.web.charge_form import Case, ChargeForm, case_of, charge_of, chosen_beforehand
from smartapp.web.errors import error_page
from smartapp.web.gaps import gaps_of
from smartapp.web.leaving import Shown, chosen_here, kept, leaving_of, shown
from smartapp.web.permission import Action
from smartapp.web.security import Moved, require_same
from smartapp.web.sent import ACCEPTABLE
from smartapp.web.waiting import client_here
from smartapp.windows import MONTHLY, Code, Standing

pages = Blueprint("charges", __name__, url_prefix="/s/<sid>/charges/<keys>")

MAY = needs(Action.ACCEPT, title="Charges cannot be written here")
"""`keys`: one or several `Decision.key`, with commas between."""

PREVIEW_LIFE = timedelta(minutes=30)
_STOPPED = frozenset({Step.MOVED, Step.OVERLAPS, Step.LOCKED, Step.NOT_ASKED})
"""Nothing was sent, and no row tells of it."""


class Draft(msgspec.Struct, frozen=True):
    """What was said so far of some charges in one session, as it goes along in an address."""

    session: str
    keys: tuple[str, ...]
    attested: tuple[tuple[str, str], ...]
    chosen: dict[str, str]
    entered_at: datetime


class Stop(msgspec.Struct, frozen=True):
    """Why nothing was written of one charge."""

    code: str
    why: str
    differences: tuple[str, ...]
    compared: tuple[tuple[str, str, str], ...] = ()
    """What of the decision is another than it was shown: what it is, before, now."""


class Told(msgspec.Struct, frozen=True):
    """What one press led to where no row tells it, as it goes along in an address."""

    session: str
    at: datetime
    stops: dict[str, Stop]


@dataclass(frozen=True)
class Prepared:
    """One charge as it will be written."""

    case: Case
    card: CardView
    says: str
    """What it rests on, in words."""
    when: str
    resource: dict[str, object]
    leaving: Leaving

    @property
    def digest(self) -> str:
        """Of all that the preview shows: the charge, and what leaves."""
        said = [self.resource, self.leaving]
        return hashlib.sha256(msgspec.json.encode(said, order="deterministic")).hexdigest()

    @property
    def shown(self) -> Shown:
        return shown(self.leaving)


@dataclass(frozen=True)
class Outcome:
    """What became of one charge: its row, or why there is none."""

    key: str
    charge: Charge | None
    stop: Stop | None
    record: str | None = None
    """Where its audit record is."""

    @property
    def state(self) -> str:
        return self.charge.state.value if self.charge is not None else "stopped"


@pages.get("")
@MAY
def preview(keys: str) -> AnyResponse:
    """The choices and statements that these charges need; where none is open, on to what will be written."""
    if (elsewhere := _elsewhere(keys, "charges.preview")) is not None:
        return elsewhere
    own_pages.bring_up_to_date()
    own_pages.fill_form()
    cases = _cases_of(keys)
    if (shut := shut_page(cases)) is not None:
        return shut
    draft = _draft(keys, request.args.get("draft", ""))
    if draft is not None:
        form = _form_of(cases, draft)
        return _choices_page(form, 200 if form.validate() else 422)
    form = ChargeForm(cases, chosen=chosen_beforehand(cases))
    if not form.validate():
        form.forget_errors()
        return _choices_page(form, 200)
    return redirect(url_for("charges.checked", sid=g.session.id, keys=keys, draft=_sealed(keys, form)), 303)


@pages.post("/check")
@MAY
def check(keys: str) -> AnyResponse:
    """On to what will be written; or back to the choices, with what is still open."""
    cases = _posted_cases(keys.split(","))
    if (shut := shut_page(cases)) is not None:
        return shut
    form = ChargeForm(cases, request.form)
    endpoint = "charges.checked" if form.validate() else "charges.preview"
    return redirect(url_for(endpoint, sid=g.session.id, keys=keys, draft=_sealed(keys, form)), 303)


@pages.get("/check")
@MAY
def checked(keys: str) -> AnyResponse:
    """The very resources that will be written. What was written meanwhile is shown as that, and what is open
    again leads back to the choices."""
    if (elsewhere := _elsewhere(keys, "charges.checked")) is not None:
        return elsewhere
    sealed = request.args.get("draft", "")
    draft = _draft(keys, sealed)
    if draft is None:
        return redirect(url_for("charges.preview", sid=g.session.id, keys=keys), 303)
    back = redirect(url_for("charges.preview", sid=g.session.id, keys=keys, draft=sealed), 303)
    cases = _cases_of(keys)
    if (shut := shut_page(cases)) is not None:
        return shut
    form = _form_of(cases, draft)
    if not form.validate() or not is_recent(draft.entered_at):
        return back
    try:
        prepared = _prepared(form, draft)
    except ChargeNotValid as error:
        return error_page(409, "This charge cannot be written", f"{error}.", "Nothing was written.")
    return make_response(
        render_template(
            "charges/check.html",
            keys=keys,
            draft=sealed,
            form=form,
            prepared=prepared,
            without={one.case.decision.key: _without(keys, one.case.decision.key) for one in prepared},
            ways=_ways((one.case, one.resource) for one in prepared),
            gaps=gaps_of(cases[0].findings),
            modifiers=dict(pair for one in prepared for pair in one.card.modifiers),
        )
    )


@pages.post("")
@MAY
def accept(keys: str) -> AnyResponse:
    """Write them. Pressing again leads to what was written the first time."""
    if request.form.get("patient") != g.session.patient:
        raise Moved
    digests = dict(zip(keys.split(","), request.form.get("preview", "").split(","), strict=False))
    if len(digests) != len(keys.split(",")):
        raise Moved
    to_write = [key for key in digests if not _is_written(key)]
    if not to_write:
        return _to_result(keys)
    draft = _draft(keys, request.form.get("draft", ""))
    cases = _posted_cases(to_write)
    if (shut := shut_page(cases)) is not None:
        return shut
    if draft is None or not is_recent(draft.entered_at):
        raise Moved
    form = _form_of(cases, draft)
    if not form.validate():
        return redirect(
            url_for("charges.preview", sid=g.session.id, keys=keys, draft=request.form["draft"]), 303
        )
    prepared = _prepared(form, draft)
    if any(one.digest != digests[one.case.decision.key] for one in prepared):
        raise Moved
    results = _handed_over(form, prepared)
    return told(keys, dict(zip(to_write, results, strict=True)))


@pages.post("/again")
@MAY
def ask_again(keys: str) -> AnyResponse:
    """Find out what became of a charge without an answer."""
    charge = charge_of(keys)
    if charge is None or request.form.get("patient") != g.session.patient:
        raise Moved
    here = services()
    return told(keys, {keys: here.writer.ask_again(client_here(), g.session, charge)})


@pages.get("/result")
@needs(Open.LOOK, title="Charges cannot be written here")
def result(keys: str) -> AnyResponse:
    """What became of each. One that is on its way is looked up in the EHR first."""
    said = own_pages.unsealed(request.args.get("told", ""), Told)
    stops = said.stops if said is not None and said.session == g.session.id else {}
    found = []
    for key in keys.split(","):
        charge, stop = charge_of(key), stops.get(key)
        if charge is not None and charge.state in {ChargeState.SENT, ChargeState.UNKNOWN}:
            charge = services().writer.look_up(client_here(), g.session, charge).row or charge
        if stop is not None and said is not None and (charge is None or charge.changed_at <= said.at):
            found.append(Outcome(key, None, stop))
        elif charge is not None:
            found.append(Outcome(key, charge, None, record_of(charge)))
    if not found:
        return redirect(url_for("patient.page", sid=g.session.id))
    present = services().jobs.findings(g.session)
    g.findings = None if present is None else present[1]
    return make_response(
        render_template("charges/result.html", outcomes=found, person=g.findings and g.findings.patient),
        409 if all(one.stop is not None for one in found) else 200,
    )


# What a request is about


def shut_page(cases: Sequence[Case]) -> Response | None:
    """Says that the rules of a service date must be confirmed first (D37); no form can open it."""
    for case in cases:
        shut = rules_not_confirmed(case.decision, services().site)
        if shut is not None:
            title = f"{case.decision.code} cannot be charged yet"
            return error_page(409, title, shut, "Nothing was written.")
    return None


def _elsewhere(keys: str, endpoint: str) -> AnyResponse | None:
    """Where to go instead, if some of these charges are under way or written already."""
    named = keys.split(",")
    still = [key for key in named if (charge := charge_of(key)) is None or charge.state in ACCEPTABLE]
    if still == named:
        return None
    if not still:
        return _to_result(keys)
    left = ",".join(still)
    draft = request.args.get("draft")
    return redirect(url_for(endpoint, sid=g.session.id, keys=left, draft=draft), 303)


def _cases_of(keys: str) -> tuple[Case, ...]:
    return tuple(map(case_of, keys.split(",")))


def _posted_cases(keys: Sequence[str]) -> tuple[Case, ...]:
    """The same for a form, which must have been made from this very snapshot of this very patient, or from
    one that says the same of each."""
    found = services().jobs.findings(g.session)
    if found is None:
        raise Moved
    as_good = {name for name, same in found[1].same_as.items() if same.issuperset(keys)}
    require_same(g.session.patient, found[0].id, as_good)
    return tuple(map(case_of, keys))


def _is_written(key: str) -> bool:
    charge = charge_of(key)
    return charge is not None and (charge.state is ChargeState.CONFIRMED or charge.state in HANDED)


def _without(keys: str, key: str) -> str:
    """The other charges of a page; "" where there are none."""
    return ",".join(one for one in keys.split(",") if one != key)


# What was said so far


def _form_of(cases: Sequence[Case], draft: Draft) -> ChargeForm:
    return ChargeForm(cases, chosen=draft.chosen, attested=draft.attested)


def _sealed(keys: str, form: ChargeForm) -> str:
    now = services().clock.now().replace(microsecond=0)
    attested = tuple(sorted(form.attested))
    return own_pages.sealed(Draft(g.session.id, tuple(keys.split(",")), attested, form.chosen, now))


def _draft(keys: str, sealed: str) -> Draft | None:
    """What was said of these charges, or of more; None where it says nothing, or nothing of this session."""
    draft = own_pages.unsealed(sealed, Draft)
    if draft is None or draft.session != g.session.id or not set(keys.split(",")) <= set(draft.keys):
        return None
    return draft


def is_recent(entered_at: datetime) -> bool:
    """Whether a preview is one still."""
    return timedelta() <= services().clock.now() - entered_at <= PREVIEW_LIFE


def _prepared(form: ChargeForm, draft: Draft) -> tuple[Prepared, ...]:
    """Raises ChargeNotValid."""
    here = services()
    today = here.site.today(here.clock.now())
    found = []
    for case in form.cases:
        one = case.decision
        code = Code(one, here.site.policy.code(one.code).kind, Standing.READY)
        when = (words.window if code.kind in MONTHLY else words.period)(one.period, today)
        card = card_view(one, case.findings, here.site)
        resource = form.resource(case, draft.entered_at)
        leaving = leaving_of(case.findings, one, resource)
        found.append(Prepared(case, card, row_text(code, today), when, resource, leaving))
    return tuple(found)


def _ways(asked: Iterable[tuple[Case, dict[str, object] | None]]) -> dict[str, Chosen]:
    """In which way each leaves, by the way's title; with the charge, where it is known already."""
    found = (chosen_here(case.findings, case.decision, resource) for case, resource in asked)
    return {one.handover.title: one for one in found}


def _choices_page(form: ChargeForm, status: int) -> Response:
    site = services().site
    findings = form.cases[0].findings
    return make_response(
        render_template(
            "charges/choices.html",
            form=form,
            cards=[card_view(case.decision, case.findings, site) for case in form.cases],
            keys=",".join(case.decision.key for case in form.cases),
            findings=findings,
            snapshot=form.cases[0].snapshot,
            ways=_ways((case, None) for case in form.cases),
            gaps=gaps_of(findings),
        ),
        status,
    )


# What became of it


def _handed_over(form: ChargeForm, prepared: Sequence[Prepared]) -> tuple[Result[Charge], ...]:
    """The one place where accepted charges leave for the EHR."""
    acceptances = [
        Acceptance(
            g.session,
            one.case.snapshot,
            one.case.findings,
            one.case.decision,
            form.attested_for(one.case.decision),
            one.resource,
            kept(one.leaving),
        )
        for one in prepared
    ]
    return services().writer.accept(client_here(), acceptances)


def told(keys: str, results: Mapping[str, Result[Charge]]) -> AnyResponse:
    """Where a finished attempt leads. A written charge makes the snapshot old: the chart is read again,
    unless what was read holds it already."""
    stops = {
        key: Stop(
            key.split("-", 1)[0], one.step.value, one.differences, tuple(_compared(one.before, one.now))
        )
        for key, one in results.items()
        if one.step in _STOPPED
    }
    if any(one.step is Step.WRITTEN and not one.shown for one in results.values()):
        services().jobs.read_again(g.session)
    if not stops:
        return _to_result(keys)
    return _to_result(keys, told=own_pages.sealed(Told(g.session.id, services().clock.now(), stops)))


def _compared(before: Decision | None, now: Decision | None) -> list[tuple[str, str, str]]:
    if before is None or before == now:
        return []
    shown, present = _in_words(before), {} if now is None else _in_words(now)
    rows = [(name, shown.get(name, ""), present.get(name, "")) for name in {**shown, **present}]
    return [row for row in rows if row[1] != row[2]]


def _in_words(decision: Decision) -> dict[str, str]:
    found = {
        words.REQUIREMENTS[part.requirement]: words.amount(part.found, part.unit)
        for part in decision.requirements
    }
    return {
        f"{decision.code}": words.outcome(decision.outcome),
        "Quantity": str(decision.quantity),
        "Service date": words.day(decision.service_date),
        **found,
        "Why": " ".join(map(words.reason, decision.reasons)),
        "To be confirmed": " ".join(words.ATTESTATIONS[entry] for entry in decision.unverified),
    }


def _to_result(keys: str, told: str | None = None) -> AnyResponse:
    return redirect(url_for("charges.result", sid=g.session.id, keys=keys, told=told), 303)
