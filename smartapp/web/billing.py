"""A calendar month of charges for whoever does billing, of all patients of the session's EHR: page and file.

Only for roles that the site's file lets `bill`, and only of the EHR that the session was launched from. What
nobody knows, or waits for somebody, stands first. The month is counted whole; a charge is shown where the
viewer's own token reads its patient now (`billing_rows`), with or without an open chart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlencode

from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from fhir_mappings.charge_item import PERFORMING, performer_in
from smartapp.configuration.handover import Method
from smartapp.configuration.site import Site
from smartapp.ehr.handover.worksheet import line_in
from smartapp.services import services
from smartapp.store.billing import WAITS, MonthFilter, MonthGroup, MonthRow
from smartapp.store.claims import ChargeState
from smartapp.store.denials import Denial, DenialState
from smartapp.store.months import month_of
from smartapp.store.vault import SealBroken
from smartapp.web import billing_words, own_pages, words
from smartapp.web.access import needs
from smartapp.web.billing_rows import PAGE_SIZE, Looked, look, reads_many, within_reach
from smartapp.web.export import FileOf, begin_export, file_of_session
from smartapp.web.permission import Action

pages = Blueprint("billing", __name__, url_prefix="/s/<sid>/billing")

MAY = needs(
    Action.BILL,
    title="The charges of all patients are not shown here",
    way_back="The site's file says who may see them.",
    besides="with or without a patient; a charge only where the viewer's own token reads its patient now",
)

MOST_AT_ONCE = 500
"""Rows from before revision 0007 that one opening fills in."""
MOST_IN_A_FILE = 50_000
FILTERS = ("state", "method", "performer", "payer", "denied")
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
    """One charge in words."""

    row: MonthRow
    state: str
    way: str
    clinician: str
    payer: str
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
    present = month_of(own_pages.today())
    months = services().store.billing.months(g.session.issuer_id)
    over = next((day for day in months if day < present), None)
    key = f"{over or next(iter(months), present):%Y-%m}"
    return redirect(url_for("billing.month", sid=g.session.id, key=key))


@pages.get("/<key>")
@MAY
def month(key: str) -> Response:
    """One month, a page of it at a time: counts of all, and the charges that are the viewer's to see."""
    here, first_day = services(), first_day_of(key)
    undated = _filled_in()
    view, asked = _view(first_day), _filters()
    billing = here.store.billing
    found, reach = billing.count(view.chosen), within_reach(view.chosen)
    reached = 0 if reach is None else billing.count(reach)
    begin = max(0, request.args.get("from", 0, type=int))
    looked = Looked() if reach is None else look(reach, begin if begin < reached else 0)
    denials = here.store.denials.of_charges(row.identifier for row in looked.rows)
    _told_to_the_trail(view, looked)
    return make_response(
        render_template(
            "billing/month.html",
            view=view,
            waiting=_waiting(view),
            looked=looked,
            rows=[
                (row_view(row, view.people, denials, here.site), looked.names[row.patient])
                for row in looked.rows
            ],
            undated=undated,
            found=found,
            reached=reached,
            reads_many=reads_many(),
            own=own_pages.own_patient(),
            before=_address(asked, max(0, looked.begin - PAGE_SIZE)) if looked.begin else None,
            here=_address(asked, looked.begin),
            after=_address(asked, looked.end) if looked.end < reached else None,
            months=billing.months(g.session.issuer_id),
            filters=asked,
            export=here.store.exports.of_session(g.session.id, here.clock.now()),
            file=_file_name(key),
            only_denied=view.chosen.denied,
            only_waiting=view.chosen.waiting,
            has_worklist=here.lists.has(g.session.issuer_id),
        )
    )


@pages.post("/<key>/file")
@MAY
def make_file(key: str) -> AnyResponse:
    """Begin to make a file of all charges of the filter that this viewer may see."""
    here = services()
    _filled_in()
    view = _view(first_day_of(key))
    reach = within_reach(view.chosen)
    rows = () if reach is None else here.store.billing.rows(reach, MOST_IN_A_FILE + 1)
    if len(rows) > MOST_IN_A_FILE:
        abort(413)
    denials = here.store.denials.of_charges(row.identifier for row in rows)
    own = own_pages.own_patient()
    new = FileOf(
        _file_name(key),
        "billing-month-in-a-file",
        COLUMNS,
        rows,
        lambda row: f"Patient/{row.patient}",
        lambda row, _: _cells(row_view(row, view.people, denials, here.site), here.site),
        known={} if own is None else {f"Patient/{own[0]}": own[1]},
        facts={"month": view.key},
    )
    begin_export(here, g.session, new)
    return own_pages.to("billing.month", key=view.key, **_filters())


@pages.get("/<key>.csv")
@MAY
def file(key: str) -> Response:
    """The file, once it is whole. No name stands in it, and no cell begins a formula."""
    return file_of_session(_file_name(key))


def _file_name(key: str) -> str:
    return f"charges-{first_day_of(key):%Y-%m}.csv"


def _cells(one: RowView, site: Site) -> tuple[str, ...]:
    row = one.row
    return (
        "" if row.service_date is None else row.service_date.isoformat(),
        row.code,
        "" if row.units is None else str(row.units),
        one.state,
        one.way,
        one.clinician,
        one.payer,
        row.patient,
        "; ".join(one.denied),
        row.changed_at.astimezone(site.zone).date().isoformat(),
        row.key,
    )


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

    asked = _filters()
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


def row_view(
    row: MonthRow, people: Mapping[str, str], denials: Mapping[str, tuple[Denial, ...]], site: Site
) -> RowView:
    standing = [one for one in denials.get(row.identifier, ()) if one.stands]
    return RowView(
        row,
        billing_words.STATES[row.state],
        billing_words.way(row.method),
        people.get(row.performer or "", billing_words.NOT_TOLD),
        words.payer(row.payer, site.policies),
        tuple(f"{one.reason}: {billing_words.DENIED[one.state]}" for one in standing),
        row.state in WAITS or any(one.state is DenialState.OPEN for one in standing),
    )


def _filters() -> dict[str, str]:
    """What an address of this page says, of what it may say of charges."""
    given = request.form if request.method == "POST" else request.args
    return {name: given[name] for name in FILTERS if given.get(name)}


def _address(asked: dict[str, str], begin: int) -> str:
    return "?" + urlencode({**asked, "from": str(begin)})


def _told_to_the_trail(view: MonthView, looked: Looked) -> None:
    here = services()
    here.store.audit.add(
        here.clock.now(),
        "billing-month-opened",
        issuer=g.session.issuer_id,
        month=view.key,
        rows=len(looked.rows),
        patients=" ".join(dict.fromkeys(row.patient for row in looked.rows)),
        **own_pages.facts(),
    )
