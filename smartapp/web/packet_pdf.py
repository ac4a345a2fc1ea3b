"""Packets as PDF: the sections of `packet_view`, page numbers, and the same bytes each time.

Its only date is the day on which the latest of the packets was written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from smartapp.plain import latin, printable
from smartapp.web import words
from smartapp.web.packet_view import PacketView, Section
from smartapp.web.plots import HEIGHT, WIDTH, PlotView

if TYPE_CHECKING:
    from fpdf import FPDF

_SMALL, _TEXT, _HEAD, _TITLE = 7, 9, 11, 15
_PLOT_MM = 20.0
_COLOURS = ((74, 127, 181), (180, 88, 28), (23, 128, 79))
"""Those of the page, in the order of the series."""
_PAGES = "\x1f"
"""Stands for the number of pages until that is known: nothing that `latin` lets out."""
_STROKE = re.compile(r"M(\d+) (\d+)V(\d+)")
_NOT_SHOWN = "Some letters cannot be shown in this PDF: a question mark stands for each. The JSON has them."


def packet_pdf(heading: str, views: Sequence[PacketView]) -> bytes:
    """These packets, one after another. Its fonts are those that every reader has, with Latin letters."""
    pdf = _sheet()
    made = max(view.kept.created_at for view in views)
    pdf.set_creation_date(made.astimezone(UTC))
    pdf.set_title(latin(heading))
    pdf.set_lang("en")
    pdf.add_page()
    _line(pdf, heading, _TITLE, bold=True)
    _line(pdf, views[0].patient, _TEXT)
    for number, view in enumerate(views):
        if number:
            pdf.add_page()
        _line(
            pdf,
            f"{'Change of a charge' if view.kept.kind == 'change' else 'Charge'}: {view.title}",
            _TITLE,
            bold=True,
        )
        kept = view.kept
        _line(pdf, f"{kept.name}, kept until {words.day(kept.keep_until)}. SHA-256 {kept.sha256}", _SMALL)
        for section in view.sections:
            _section(pdf, section)
    if any(latin(text) != printable(text) for text in _texts(views)):
        _line(pdf, _NOT_SHOWN, _SMALL)
    return bytes(pdf.output())


def _sheet() -> FPDF:
    from fpdf import FPDF  # slow to import, and only documents need it

    class Sheet(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font("helvetica", size=_SMALL)
            self.set_text_color(80)
            self.cell(w=0, text=f"Page {self.page_no()} of {_PAGES}", align="R")
            self.set_text_color(0)

    sheet = Sheet(format="letter")
    sheet.alias_nb_pages(_PAGES)
    sheet.set_margins(15, 15)
    sheet.set_auto_page_break(True, margin=16)
    return sheet


def _section(pdf: FPDF, section: Section) -> None:
    pdf.ln(2)
    _line(pdf, section.title, _HEAD, bold=True)
    for sentence in section.sentences:
        _line(pdf, sentence, _TEXT)
    for name, value in section.facts:
        _line(pdf, f"{name}: {value}", _TEXT)
    for item in section.items:
        _line(pdf, f"- {item}", _TEXT)
    for plot in section.plots:
        _draw(pdf, plot)
    if section.rows:
        _table(pdf, section)
    for source in section.sources:
        pdf.set_font("helvetica", size=_TEXT)
        link: Any = source.address or ""
        pdf.multi_cell(w=0, h=4.5, text=latin(f"- {source.title}"), link=link, new_x="LMARGIN", new_y="NEXT")
    if section.code:
        pdf.set_font("courier", size=_SMALL)
        for line in section.code.splitlines():
            pdf.multi_cell(w=0, h=3.2, text=latin(line) or " ", new_x="LMARGIN", new_y="NEXT")


def _line(pdf: FPDF, text: str, size: int, *, bold: bool = False) -> None:
    pdf.set_font("helvetica", style="B" if bold else "", size=size)
    pdf.multi_cell(w=0, h=size * 0.5, text=latin(text), align="L", new_x="LMARGIN", new_y="NEXT")


def _table(pdf: FPDF, section: Section) -> None:
    """Cells as wide as what stands in them asks for, within bounds; a long table goes on on the next page."""
    pdf.set_font("helvetica", size=_SMALL)
    rows = [section.columns, *section.rows]
    longest = [
        min(44, max(7, max(len(row[column]) for row in rows))) for column in range(len(section.columns))
    ]
    with pdf.table(col_widths=tuple(longest), line_height=3.4, text_align="LEFT", padding=0.6) as table:
        for row in rows:
            table.row([latin(cell) for cell in row])
    pdf.ln(1)


def _draw(pdf: FPDF, plot: PlotView) -> None:
    width, height = pdf.epw, _PLOT_MM
    if pdf.will_page_break(height + 10):
        pdf.add_page()
    left, top = pdf.l_margin, pdf.get_y() + 1
    pdf.set_fill_color(243, 246, 249)
    pdf.rect(left, top, width, height, style="F")
    pdf.set_fill_color(255)
    pdf.set_line_width(1.1)
    for series, colour in zip(plot.series, _COLOURS, strict=False):
        pdf.set_draw_color(*colour)
        for x, high, low in _STROKE.findall(series.path):
            across = left + int(x) / WIDTH * width
            ends = [top + int(y) / HEIGHT * height for y in (high, low)]
            pdf.line(across, ends[0] - 0.3, across, ends[1] + 0.3)
    pdf.set_draw_color(0)
    pdf.set_line_width(0.2)
    pdf.set_y(top + height + 1)
    _line(pdf, plot.twin, _SMALL)


def _texts(views: Sequence[PacketView]) -> list[str]:
    return [
        text
        for view in views
        for section in view.sections
        for text in (
            view.patient,
            *section.sentences,
            *section.items,
            *(value for _, value in section.facts),
            *(cell for row in section.rows for cell in row),
            *section.code.splitlines(),
        )
    ]
