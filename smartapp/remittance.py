"""A remittance as lines of a CSV: which of our charges a payer denied, by which codes, on which day.

Found by the charge's own key, which everything that left carries, and by nothing else: no name, no record
number. What cannot be read or found is named, by its line, and changes nothing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from smartapp.store import Store
from smartapp.store.charges import key_in
from smartapp.store.denials import Added, DenialContent, DenialState, Denied

MOST_BYTES = 2_000_000
MOST_LINES = 5_000
LONGEST_NOTE = 500
_NAMES = {
    "key": {"key", "charge", "charge key", "control number", "our key"},
    "on": {"date", "denied", "denied on", "remittance date"},
    "reason": {"carc", "reason", "reason code"},
    "remark": {"rarc", "remark", "remark code"},
    "note": {"note", "text"},
    "done": {"done", "action"},
}
"""What the columns may be called; the first three must be there."""
_NEEDED = ("key", "on", "reason")
_DONE = {state.value: state for state in DenialState if state is not DenialState.TAKEN_BACK}
_GROUP = re.compile(r"^(?:CO|PR|OA|PI)[ -]?(?=[0-9A-Z])", re.ASCII)
_REASON = re.compile(r"[0-9]{1,3}|[A-Z][0-9]{1,3}", re.ASCII)
_REMARK = re.compile(r"(?:M|MA|N)[0-9]{1,4}", re.ASCII)


class NoRemittance(ValueError):
    """It is no such CSV; the text says why."""


@dataclass(frozen=True, slots=True)
class RemittanceLine:
    """One denied charge, as the file says it. `number`: of the line, from 1."""

    number: int
    key: str
    on: date
    reason: str
    remark: str
    note: str
    done: DenialState


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that says nothing that can be kept, and why."""

    number: int
    why: str


@dataclass(slots=True)
class Imported:
    """What became of each line of a file."""

    added: int = 0
    there: int = 0
    """Denials that stood already."""
    taken_back: int = 0
    """Denials that somebody took back: they stay taken back."""
    not_found: list[RemittanceLine] = field(default_factory=list)
    """No charge of that key left from here."""
    unreadable: list[Unreadable] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.not_found or self.unreadable)


def read_remittance(content: bytes) -> tuple[list[RemittanceLine], list[Unreadable]]:
    """The lines of a CSV in UTF-8, separated by commas, semicolons or tabs. Raises NoRemittance."""
    if len(content) > MOST_BYTES:
        raise NoRemittance(f"more than {MOST_BYTES:,} bytes: hand it in in parts")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise NoRemittance("not UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error:
        raise NoRemittance("no CSV") from None
    if not rows:
        raise NoRemittance("empty")
    columns = _columns(rows[0])
    if len(rows) > MOST_LINES + 1:
        raise NoRemittance(f"more than {MOST_LINES:,} lines: hand it in in parts")
    lines: list[RemittanceLine] = []
    unreadable: list[Unreadable] = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        cells = {name: row[at].strip() if at < len(row) else "" for name, at in columns.items()}
        try:
            lines.append(_line(number, cells))
        except ValueError as fault:
            unreadable.append(Unreadable(number, str(fault)))
    return lines, unreadable


def reason_in(text: str) -> str:
    """A CARC without its group: "CO-97", "CO97" and "97" are one. Raises ValueError."""
    code = _GROUP.sub("", text.strip().upper())
    if not _REASON.fullmatch(code):
        raise ValueError("its reason is no CARC")
    return code.lstrip("0") or code


def remark_in(text: str) -> str:
    """A RARC, or "". Raises ValueError."""
    code = text.strip().upper()
    if code and not _REMARK.fullmatch(code):
        raise ValueError("its remark is no RARC")
    return code


def day_in(text: str) -> date:
    """2026-05-04 or 20260504; of 05/04/2026 nobody can tell the month. Raises ValueError."""
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(text.strip(), form).date()  # noqa: DTZ007
        except ValueError:
            continue
    raise ValueError("its date is not written as 2026-05-04 or 20260504")


def import_remittance(
    store: Store,
    lines: Sequence[RemittanceLine],
    unreadable: Sequence[Unreadable],
    by: tuple[str, str],
    now: datetime,
    issuer_id: str | None = None,
) -> Imported:
    """Keep what is denied, once however often the file is handed in. `by`: reference and name of who did it;
    `issuer_id`: of this EHR's charges alone."""
    found = Imported(unreadable=list(unreadable))
    for line in lines:
        charge = store.billing.named(issuer_id, line.key)
        if charge is None:
            found.not_found.append(line)
            continue
        denied = Denied(charge.identifier, line.on, line.reason, line.remark)
        content = DenialContent(*by, line.note[:LONGEST_NOTE], "file")
        (became,) = store.denials.record([denied], content, now, issuer_id)
        match became:
            case Added.ADDED:
                found.added += 1
                if line.done is not DenialState.OPEN:
                    _follow_up(store, denied, line.done, by, now)
            case Added.THERE:
                found.there += 1
            case Added.WAS_TAKEN_BACK:
                found.taken_back += 1
            case Added.NOT_CHARGED:
                found.not_found.append(line)
    return found


def _follow_up(store: Store, denied: Denied, done: DenialState, by: tuple[str, str], now: datetime) -> None:
    kept = store.denials.of_charges([denied.identifier])[denied.identifier]
    denial = next(one for one in kept if one.id == denied.id)
    store.denials.follow_up(denial, done, DenialContent(*by, "", "file"), now)


def _columns(header: Sequence[str]) -> dict[str, int]:
    told = [" ".join(cell.strip().lower().replace("_", " ").split()) for cell in header]
    found = {name: at for name, names in _NAMES.items() for at, cell in enumerate(told) if cell in names}
    missing = [name for name in _NEEDED if name not in found]
    if missing:
        raise NoRemittance(
            "its first line must name the columns key, date and carc (rarc, note, done may be)"
        )
    return found


def _line(number: int, cells: dict[str, str]) -> RemittanceLine:
    if not cells["key"]:
        raise ValueError("it names no charge")
    done = cells.get("done", "").lower().replace(" ", "-") or DenialState.OPEN.value
    if done not in _DONE:
        raise ValueError("what was done is none of corrected, appealed, written-off")
    return RemittanceLine(
        number,
        key_in(cells["key"]),
        day_in(cells["on"]),
        reason_in(cells["reason"]),
        remark_in(cells.get("remark", "")),
        cells.get("note", ""),
        _DONE[done],
    )
