"""One charge as a sheet of paper, as XHTML without script or style and as PDF: equal lines, equal bytes."""

from __future__ import annotations

from datetime import UTC
from xml.etree import ElementTree

from smartapp.ehr.handover.line import ChargeLine
from smartapp.plain import latin, printable

HEADING = "Charge worksheet for billing"
NOTE = "Accepted by a clinician in the remote-monitoring app. A suggestion for billing review, not a claim."
_XHTML = "http://www.w3.org/1999/xhtml"
_NOT_SHOWN = "Some letters of a name cannot be shown in this PDF; the XHTML beside it has them."


def rows_of(line: ChargeLine) -> tuple[tuple[str, str], ...]:
    """What stands on it, in this order; what nobody chose says so."""
    missing = "missing"
    return (
        ("Patient", line.patient or missing),
        ("Date of birth", line.birth_date or missing),
        ("Record number", line.record_number or missing),
        ("Code", f"{line.code} ({line.label})"),
        ("Units", str(line.quantity)),
        ("Modifiers", ", ".join(line.modifiers) or "none"),
        ("Service date", line.service_date.isoformat()),
        ("Period", f"{line.period_start.isoformat()} to {line.period_end.isoformat()}"),
        ("Diagnoses", ", ".join(one.code for one in line.diagnoses) or missing),
        ("Performing practitioner", line.performing or missing),
        ("Ordering practitioner", line.ordering or missing),
        ("Encounter or account", line.place or missing),
        ("Key of the charge", line.key),
    )


def xhtml_of(line: ChargeLine) -> bytes:
    """A whole XHTML document."""
    html = ElementTree.Element("html", xmlns=_XHTML)
    ElementTree.SubElement(ElementTree.SubElement(html, "head"), "title").text = HEADING
    body = ElementTree.SubElement(html, "body")
    ElementTree.SubElement(body, "h1").text = HEADING
    table = ElementTree.SubElement(body, "table")
    for name, value in rows_of(line):
        row = ElementTree.SubElement(table, "tr")
        ElementTree.SubElement(row, "th").text = name
        ElementTree.SubElement(row, "td").text = printable(value)
    ElementTree.SubElement(body, "p").text = NOTE
    return bytes(ElementTree.tostring(html, encoding="utf-8", xml_declaration=True))


def rows_in(xhtml: bytes) -> tuple[tuple[str, str], ...]:
    """What stands on a sheet that `xhtml_of` made; nothing where it is another document."""
    try:
        rows = ElementTree.fromstring(xhtml).iter(f"{{{_XHTML}}}tr")  # noqa: S314 (bytes that were made here)
        return tuple((row[0].text or "", row[1].text or "") for row in rows)
    except (ElementTree.ParseError, IndexError):
        return ()


def pdf_of(line: ChargeLine) -> bytes:
    """One page. Its fonts are those that every reader has, which hold Latin letters only."""
    from fpdf import FPDF  # slow to import, and only documents need it

    rows = rows_of(line)
    pdf = FPDF(format="letter")
    pdf.alias_nb_pages("")  # else a name with {nb} in it would show the number of pages
    pdf.set_creation_date(line.entered_at.astimezone(UTC))
    pdf.set_title(HEADING)
    pdf.add_page()
    pdf.set_font("helvetica", style="B", size=16)
    pdf.cell(text=HEADING, new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    for name, value in rows:
        pdf.set_font("helvetica", style="B", size=11)
        pdf.cell(w=55, h=7, text=name)
        pdf.set_font("helvetica", size=11)
        pdf.multi_cell(w=0, h=7, text=latin(value), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(4)
    pdf.set_font("helvetica", size=9)
    notes = [NOTE, *([_NOT_SHOWN] if any(latin(value) != printable(value) for _, value in rows) else [])]
    for note in notes:
        pdf.multi_cell(w=0, h=5, text=note, new_x="LMARGIN", new_y="NEXT")
    return bytes(pdf.output())
