"""A calendar month of charges for whoever does billing, of all patients of the session's EHR: page and CSV.

Only for roles that the site's file lets `bill`, and only of the EHR that the session was launched from. What
nobody knows, or waits for somebody, stands first. A patient's name is asked of the EHR with the viewer's own
token, or left out; none is kept.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.charge_item import PERFORMING, performer_in
from launch.errors import HttpError, LaunchError
from launch.scopes import Scopes
from smartapp.configuration.handover import Method
from smartapp.ehr.handover.worksheet import as_cell, line_in
from smartapp.ehr.reading.asking import AT_ONCE, NotAnswered, may_ask
from smartapp.ehr.reading.display import Banner
from smartapp.services import services
from smartapp.store.billing import WAITS, MonthFilter, MonthGroup, MonthRow
from smartapp.store.claims import ChargeState
from smartapp.store.denials import Denial, DenialState
from smartapp.store.months import month_of
from smartapp.store.vault import SealBroken
from smartapp.web import billing_words, own_pages, words
from smartapp.web.access import needs
from smartapp.web.permission import Action
from smartapp.web.waiting import client_here

pages = Blueprint("billing", __name__, url_prefix="/s/<sid>/billing")

MAY = needs(Action.BILL, title="The charges of all patients are not shown here")

PAGE_SIZE = 50
MOST_AT_ONCE = 500
"""Rows from before revision 0007 that one opening fills in."""
MOST_IN_A_FILE = 50_000
COLUMNS = (
    "Service date",
    "Code",
    "Units",
    "State",
    "How it was handed over",
    "Clinician",
    "Payer",
    "Patient (number in the EHR)",
    "Denied",
    "Last changed",
    "Key",
)


@dataclass(frozen=True)
class Option:
    """One value of a filter, and how many charges of the month have it."""

    value: str
    text: str
    charges: int
    chosen: bool


@dataclass(frozen=True)
class Waiting:
    """A state in which something waits for somebody. `value`: of the filter."""

    value: str
    text: str
    charges: int
    what: str


@dataclass(frozen=True)
class RowView:
    """One charge in words. `patient`: what the EHR calls them; None where it was not asked or said nothing"""

    row: MonthRow
    state: str
    way: str
    clinician: str
    payer: str
    patient: Banner | None
    denied: tuple[str, ...]
    waits: bool


@dataclass(frozen=True)
class MonthView:
    """The month, whole and as it is filtered."""

    first_day: date
    groups: tuple[MonthGroup, ...]
    chosen: MonthFilter
    people: dict[str, str]
    address_of: Callable[[str], str]

    @property
    def key(self) -> str:
        return f"{self.first_day:%Y-%m}"

    @property
    def name(self) -> str:
        return f"{self.first_day:%B %Y}"

    @property
    def charges(self) -> int:
        return sum(group.charges for group in self.groups)

    def states(self) -> list[Option]:
        return self._options(
            "state", lambda one: one.state.value, lambda one: billing_words.STATES[one.state]
        )

    def ways(self) -> list[Option]:
        return self._options("method", lambda one: one.method, lambda one: billing_words.way(one.method))

    def payers(self) -> list[Option]:
        return self._options(
            "payer", lambda one: one.payer, lambda one: words.payer(one.payer, services().site.policies)
        )

    def clinicians(self) -> list[Option]:
        return self._options(
            "performer",
            lambda one: one.performer and self.address_of(one.performer),
            lambda one: self.people.get(one.performer or "", billing_words.NOT_TOLD),
        )

    def _options(
        self, name: str, value: Callable[[MonthGroup], str | None], text: Callable[[MonthGroup], str]
    ) -> list[Option]:
        numbers, texts = Counter[str](), dict[str, str]()
        for group in self.groups:
            if (of := value(group)) is not None:
                numbers[of] += group.charges
                texts[of] = text(group)
        chosen = getattr(self.chosen, name)
        if name == "performer" and chosen is not None:
            chosen = self.address_of(chosen)
        return [
            Option(of, texts[of], numbers[of], of == chosen)
            for of in sorted(numbers, key=lambda of: (texts[of].lower(), of))
        ]


@pages.get("")
@MAY
def latest() -> AnyResponse:
    """The latest month that is over and holds a charge; else the present one."""
    present = month_of(own_pages.chart().today)
    months = services().store.billing.months(g.session.issuer_id)
    over = next((day for day in months if day < present), None)
    key = f"{over or next(iter(months), present):%Y-%m}"
    return redirect(url_for("billing.month", sid=g.session.id, key=key))


@pages.get("/<key>")
@MAY
def month(key: str) -> Response:
    """One month, a page of it at a time."""
    here, first_day = services(), first_day_of(key)
    undated = _filled_in()
    view = _view(first_day)
    found = here.store.billing.count(view.chosen)
    last_page = max(1, -(-found // PAGE_SIZE))
    number = min(max(1, request.args.get("page", 1, type=int)), last_page)
    rows = here.store.billing.rows(view.chosen, PAGE_SIZE, (number - 1) * PAGE_SIZE)
    denials = here.store.denials.of_charges(row.identifier for row in rows)
    names, why_no_names = names_of(rows)
    _audit("billing-month-opened", view, len(rows))
    chosen = {name: value for name, value in request.args.items() if name != "page" and value}
    return make_response(
        render_template(
            "billing/month.html",
            view=view,
            waiting=_waiting(view),
            rows=[_row_view(row, view, names, denials.get(row.identifier, ())) for row in rows],
            why_no_names=why_no_names,
            undated=undated,
            found=found,
            page=number,
            last_page=last_page,
            before=_address(chosen, number - 1) if number > 1 else None,
            after=_address(chosen, number + 1) if number < last_page else None,
            csv=url_for("billing.as_csv", sid=g.session.id, key=key)
            + (f"?{urlencode(chosen)}" if chosen else ""),
            months=here.store.billing.months(g.session.issuer_id),
            only_denied=view.chosen.denied,
            only_waiting=view.chosen.waiting,
        )
    )


@pages.get("/<key>.csv")
@MAY
def as_csv(key: str) -> Response:
    """The same charges for a spreadsheet, all pages of them. No name stands in it, and no cell begins a
    formula."""
    here = services()
    _filled_in()
    view = _view(first_day_of(key))
    rows = here.store.billing.rows(view.chosen, MOST_IN_A_FILE + 1)
    if len(rows) > MOST_IN_A_FILE:
        abort(413)
    denials = here.store.denials.of_charges(row.identifier for row in rows)
    views = (_row_view(row, view, {}, denials.get(row.identifier, ())) for row in rows)
    response = make_response(csv_of(views))
    _audit("billing-month-downloaded", view, len(rows))
    response.headers["Content-Type"] = "text/csv; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="charges-{view.key}.csv"'
    return response


def csv_of(rows: Iterable[RowView]) -> str:
    """One line a charge, in the order of the page."""
    out = io.StringIO()
    table = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(COLUMNS)
    for one in rows:
        row = one.row
        cells = (
            "" if row.service_date is None else row.service_date.isoformat(),
            row.code,
            "" if row.units is None else str(row.units),
            one.state,
            one.way,
            one.clinician,
            one.payer,
            row.patient,
            "; ".join(one.denied),
            row.changed_at.astimezone(services().site.zone).date().isoformat(),
            row.key,
        )
        table.writerow([as_cell(cell) for cell in cells])
    return out.getvalue()


def first_day_of(key: str) -> date:
    """The month of an address; 404 for what is none."""
    try:
        day = date.fromisoformat(f"{key}-01")
    except ValueError:
        abort(404)
    return day


def people_of(performers: Iterable[str], issuer_id: str, first_day: date) -> dict[str, str]:
    """What the open chart, or the last thing that was kept of their charges, calls people. Nobody else's
    charge is opened for it than one of each."""
    billing, found = services().store.billing, dict[str, str]()
    for reference in performers:
        name = own_pages.name_of(reference)
        if name == reference:
            wanted = MonthFilter(issuer_id, first_day, performer=reference)
            try:
                charge = next(billing.charges(wanted), None)
            except SealBroken:
                charge = None
            name = ""
            if charge is not None:
                line = line_in(charge)
                if line is not None and performer_in(charge.content.resource, PERFORMING) == reference:
                    name = line.performing if line.performing != reference else ""
                if not name and charge.content.confirmed_by == reference:
                    name = charge.content.confirmed_by_name
        found[reference] = name or "somebody without a name here"
    return found


def _view(first_day: date) -> MonthView:
    groups = services().store.billing.groups(g.session.issuer_id, first_day)
    performers = sorted({group.performer for group in groups if group.performer})
    people = people_of(performers, g.session.issuer_id, first_day)

    def address_of(reference: str) -> str:
        return own_pages.address_of(reference, g.session.id)

    asked = request.args
    by_address = {address_of(reference): reference for reference in performers}
    waits = asked.get("state") == "waiting"
    chosen = MonthFilter(
        g.session.issuer_id,
        first_day,
        state=None if waits else _among(asked.get("state"), {one.value for one in ChargeState}),
        method=_among(asked.get("method"), {one.value for one in Method}),
        performer=by_address.get(asked.get("performer", "")),
        payer=_among(asked.get("payer"), {group.payer for group in groups if group.payer}),
        denied=asked.get("denied") == "yes",
        waiting=waits,
    )
    return MonthView(first_day, groups, chosen, people, address_of)


def _among(value: str | None, known: set[str]) -> str | None:
    return value if value in known else None


def _waiting(view: MonthView) -> list[Waiting]:
    numbers = Counter[ChargeState]()
    for group in view.groups:
        numbers[group.state] += group.charges
    found = [
        Waiting(state.value, billing_words.STATES[state], numbers[state], billing_words.WAITS[state])
        for state in WAITS
        if numbers[state]
    ]
    opened = services().store.billing.count(
        MonthFilter(view.chosen.issuer_id, view.first_day, denied_and=DenialState.OPEN)
    )
    if opened:
        what = "Correct the claim, appeal, or write it off, and say here which it was."
        found.append(Waiting("denied", billing_words.DENIED[DenialState.OPEN], opened, what))
    return found


def _filled_in() -> int:
    """Rows of before say where they belong; how many still do not."""
    billing = services().store.billing
    undated = billing.undated(g.session.issuer_id)
    if undated:
        try:
            undated -= billing.fill_in(g.session.issuer_id, MOST_AT_ONCE)
        except SealBroken:
            undated = billing.undated(g.session.issuer_id)
    return undated


def names_of(rows: Iterable[MonthRow]) -> tuple[dict[str, Banner], str | None]:
    """What the EHR calls these patients; and why it could not be asked."""
    ids = {row.patient for row in rows}
    own = own_pages.chart()
    known = {own.patient: own.findings.patient} if own.patient in ids else {}
    others = ids - known.keys()
    if not others:
        return known, None
    scopes = Scopes.parse(g.session.granted_scope)
    if not may_ask(scopes, "Patient"):
        return known, (
            "The EHR lets this session read one patient alone, so that others stand here by their number in "
            "the EHR."
        )
    try:
        asked = [f"Patient/{patient}" for patient in sorted(others)[:AT_ONCE]]
        given = services().asking.patients(client_here(), scopes, asked)
    except (LaunchError, HttpError, NotAnswered):
        given = {}
    found = {name.partition("/")[2]: person for name, person in given.items()}
    if others - found.keys():
        return known | found, "Whom the EHR did not name stands here by their number in the EHR."
    return known | found, None


def _row_view(
    row: MonthRow, view: MonthView, names: dict[str, Banner], denials: tuple[Denial, ...]
) -> RowView:
    standing = [one for one in denials if one.stands]
    return RowView(
        row,
        billing_words.STATES[row.state],
        billing_words.way(row.method),
        view.people.get(row.performer or "", billing_words.NOT_TOLD),
        words.payer(row.payer, services().site.policies),
        names.get(row.patient),
        tuple(f"{one.reason}: {billing_words.DENIED[one.state]}" for one in standing),
        row.state in WAITS or any(one.state is DenialState.OPEN for one in standing),
    )


def _address(chosen: dict[str, str], number: int) -> str:
    return "?" + urlencode({**chosen, "page": str(number)})


def _audit(event: str, view: MonthView, rows: int) -> None:
    here = services()
    here.store.audit.add(
        here.clock.now(),
        event,
        issuer=g.session.issuer_id,
        month=view.key,
        rows=rows,
        **own_pages.facts(),
    )
