"""The audit record of a charge, or of a month's charges: the packets that were kept when they were written,
as a page, as PDF, and as they are kept.

Everything is what the packets say, whatever the chart has become since; only names that they leave out are
taken from the chart that is open. That one was opened is audited.
"""

from __future__ import annotations

from datetime import date

from flask import Blueprint, Response, abort, g, make_response, render_template

from smartapp.ehr.charges.month_of_packets import month_document, months_with_packets, packets_of_month
from smartapp.services import services
from smartapp.store.charges import Charge
from smartapp.store.months import month_of
from smartapp.store.packets import Kept
from smartapp.web import own_pages
from smartapp.web.access import Open, needs
from smartapp.web.denials import sentences_of
from smartapp.web.packet_pdf import packet_pdf
from smartapp.web.packet_view import PacketView, packet_view

pages = Blueprint("audit_record", __name__, url_prefix="/s/<sid>/records")

MAY = needs(Open.LOOK, title="Audit records cannot be opened here", chart=True)


@pages.get("")
@MAY
def months() -> Response:
    """The months that hold a charge of this patient."""
    patient, issuer_id = g.session.patient or "", g.session.issuer_id
    found = months_with_packets(services().store.packets, patient, issuer_id)
    return make_response(render_template("audit_record/months.html", chart=own_pages.chart(), months=found))


@pages.get("/<name>")
@MAY
def page(name: str) -> Response:
    """The packet, for a person to read or print."""
    found = [_opened(name)]
    kept = found[0][0]
    return _page(
        found,
        name=name,
        month=None,
        beside=[one for one in _of_charge(kept.charge_item) if one.name != kept.name],
    )


@pages.get("/<name>.json")
@MAY
def as_kept(name: str) -> Response:
    """The packet, byte for byte: its SHA-256 is the one in the audit trail."""
    kept, content = _opened(name)
    return _file(content, "application/json", f"{kept.name}.json")


@pages.get("/<name>.pdf")
@MAY
def as_pdf(name: str) -> Response:
    """The packet as PDF: the same one has the same bytes."""
    (view,) = _views([_opened(name)])
    return _file(
        packet_pdf(f"Audit record of {view.title}", [view]), "application/pdf", f"{view.kept.name}.pdf"
    )


@pages.get("/month/<month>")
@MAY
def month_page(month: str) -> Response:
    """Every charge of a calendar month."""
    return _page(_of_month(month), name=month, month=_first_day(month), beside=[])


@pages.get("/month/<month>.json")
@MAY
def month_as_kept(month: str) -> Response:
    """The packets of the month in one document, each byte for byte."""
    found = _of_month(month)
    patient, issuer_id = g.session.patient or "", g.session.issuer_id
    content = month_document(patient, issuer_id, _first_day(month), found)
    return _file(content, "application/json", f"charges-{month}.json")


@pages.get("/month/<month>.pdf")
@MAY
def month_as_pdf(month: str) -> Response:
    """The month as PDF."""
    heading = f"Audit record of {_first_day(month):%B %Y}"
    return _file(packet_pdf(heading, _views(_of_month(month))), "application/pdf", f"charges-{month}.pdf")


def record_of(charge: Charge) -> str | None:
    """The name of a charge's packet; None where none is kept (any more)."""
    if charge.name is None:
        return None
    return next((one.name for one in _of_charge(charge.name) if one.identifier == charge.identifier), None)


def _page(found: list[tuple[Kept, bytes]], *, name: str, month: date | None, beside: list[Kept]) -> Response:
    chart = own_pages.chart()
    return make_response(
        render_template(
            "audit_record/record.html",
            chart=chart,
            views=_views(found),
            name=name,
            month=month,
            beside=beside,
            denied=[
                (_title(kept), sentences)
                for kept, _ in found
                if kept.identifier is not None and (sentences := sentences_of(kept.identifier))
            ],
        )
    )


def _views(found: list[tuple[Kept, bytes]]) -> list[PacketView]:
    zone = services().site.zone
    return [packet_view(kept, content, zone, own_pages.name_of) for kept, content in found]


def _title(kept: Kept) -> str:
    row = services().store.charges.get(kept.identifier or "")
    return "The charge" if row is None else row.code


def _file(content: bytes, kind: str, name: str) -> Response:
    response = make_response(content)
    response.headers["Content-Type"] = kind
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _of_charge(charge_item: str) -> tuple[Kept, ...]:
    """The packets of one charge of this session's patient: its own, and those of its changes."""
    found = services().store.packets.all(g.session.patient, g.session.issuer_id)
    return tuple(one for one in found if one.charge_item == charge_item)


def _opened(name: str) -> tuple[Kept, bytes]:
    """A packet of this session's patient; 404 for any other."""
    packets = services().store.packets
    kept = packets.named(name, packets.all(g.session.patient or "", g.session.issuer_id))
    if kept is None:
        abort(404)
    content = packets.content(kept)
    _audited(kept)
    return kept, content


def _of_month(month: str) -> list[tuple[Kept, bytes]]:
    """The packets of one month of this session's patient; 404 where there are none."""
    patient, issuer_id = g.session.patient or "", g.session.issuer_id
    found = packets_of_month(services().store.packets, patient, issuer_id, _first_day(month))
    if not found:
        abort(404)
    for kept, _ in found:
        _audited(kept)
    return found


def _first_day(month: str) -> date:
    try:
        day = date.fromisoformat(f"{month}-01")
    except ValueError:
        abort(404)
    return month_of(day)


def _audited(kept: Kept) -> None:
    here = services()
    here.store.audit.add(
        here.clock.now(),
        "packet-opened",
        issuer=kept.issuer_id,
        patient=kept.patient,
        packet=kept.name,
        packet_sha256=kept.sha256,
        **own_pages.facts(),
    )
