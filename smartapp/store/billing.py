"""The charges of a calendar month, of all patients of one EHR, as billing looks for them.

Nothing is unsealed for it: a month of twenty thousand charges is a few short queries over what the rows say
in the open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select, update

from fhir_mappings.charge_item import IDENTIFIER_SYSTEM
from smartapp.store.charges import Charge, ChargeStore, found_by, key_in
from smartapp.store.claims import ChargeState
from smartapp.store.database import Database
from smartapp.store.denials import DenialState, denied_charges
from smartapp.store.months import last_day, month_of
from smartapp.store.tables import OUTBOX

WAITS = (
    ChargeState.UNKNOWN,
    ChargeState.TAKING_BACK,
    ChargeState.TAKEN_BACK,
    ChargeState.SENT,
    ChargeState.REFUSED,
    ChargeState.AWAITING,
    ChargeState.TO_ENTER,
)
"""Nobody knows what became of it, or somebody must do something about it; the most pressing first."""
COUNTS = (
    ChargeState.CONFIRMED,
    ChargeState.HANDED_OVER,
    ChargeState.ENTERED,
    ChargeState.TAKING_BACK,
    ChargeState.UNKNOWN,
    ChargeState.SENT,
)
"""Charged, or perhaps charged."""
_BATCH = 200


@dataclass(frozen=True, slots=True)
class MonthFilter:
    """Which charges of a month; None is all. `waiting`: only what nobody knows or somebody must see to."""

    issuer_id: str
    first_day: date
    state: str | None = None
    method: str | None = None
    performer: str | None = None
    payer: str | None = None
    patient: str | None = None
    denied: bool = False
    denied_and: DenialState | None = None
    """Only those with a denial that stands so."""
    waiting: bool = False


@dataclass(frozen=True, slots=True)
class MonthRow:
    """One charge. `service_date` None: from before rows said it, and nobody has filled it in."""

    identifier: str
    patient: str
    code: str
    state: ChargeState
    method: str | None
    performer: str | None
    payer: str | None
    units: int | None
    service_date: date | None
    changed_at: datetime

    @property
    def key(self) -> str:
        """The charge's own key, as worksheets and messages carry it."""
        return key_in(self.identifier)


@dataclass(frozen=True, slots=True)
class MonthGroup:
    """How many charges and units of a month share state, way, person and payer."""

    state: ChargeState
    method: str | None
    performer: str | None
    payer: str | None
    charges: int
    units: int


class Billing:
    """Months of charges of one database."""

    def __init__(self, database: Database, charges: ChargeStore) -> None:
        self._database = database
        self._charges = charges

    def rows(self, wanted: MonthFilter, limit: int, offset: int = 0) -> tuple[MonthRow, ...]:
        """What nobody knows and what waits for somebody first; then by day, code and key."""
        columns = OUTBOX.c
        pressing = case(
            *((columns.state == state.value, number) for number, state in enumerate(WAITS)),
            (columns.identifier.in_(denied_charges(DenialState.OPEN)), len(WAITS)),
            else_=len(WAITS) + 1,
        )
        query = (
            _columns()
            .where(_of(wanted))
            .order_by(pressing, columns.service_date, columns.code, columns.identifier)
            .limit(limit)
            .offset(offset)
        )
        with self._database.read() as connection:
            return tuple(_row(row) for row in connection.execute(query))

    def count(self, wanted: MonthFilter) -> int:
        query = select(func.count()).select_from(OUTBOX).where(_of(wanted))
        with self._database.read() as connection:
            return connection.execute(query).scalar_one()

    def groups(self, issuer_id: str, first_day: date) -> tuple[MonthGroup, ...]:
        """The whole month, in numbers."""
        columns = OUTBOX.c
        by = (columns.state, columns.method, columns.performer, columns.payer)
        query = (
            select(*by, func.count(), func.coalesce(func.sum(columns.units), 0))
            .where(_of(MonthFilter(issuer_id, first_day)))
            .group_by(*by)
        )
        with self._database.read() as connection:
            return tuple(
                MonthGroup(ChargeState(row[0]), row[1], row[2], row[3], row[4], int(row[5]))
                for row in connection.execute(query)
            )

    def named(self, issuer_id: str | None, key: str) -> MonthRow | None:
        """A charge by its key, or by the beginning of it that a message carries, where it is one
        alone. `issuer_id` None: of any EHR."""
        name = f"{IDENTIFIER_SYSTEM}|{key}"
        # Whatever follows in a key is a letter or a figure, and so before "~".
        like = (
            OUTBOX.c.identifier.between(name, f"{name}~")
            if len(key) >= SHORTEST_KEY
            else OUTBOX.c.identifier == name
        )
        # The EHR is asked for afterwards: with it, SQLite would walk through every charge of that EHR.
        query = _columns().add_columns(OUTBOX.c.issuer_id).where(like).limit(MOST_ALIKE)
        with self._database.read() as connection:
            found = [_row(row) for row in connection.execute(query) if issuer_id in {None, row.issuer_id}]
        exact = [one for one in found if one.key == key]
        among = exact or found
        return among[0] if len(among) == 1 else None

    def months(self, issuer_id: str) -> tuple[date, ...]:
        """The first days of the months that hold a charge, the latest first."""
        query = (
            select(OUTBOX.c.service_date)
            .distinct()
            .where(OUTBOX.c.issuer_id == issuer_id, OUTBOX.c.service_date.is_not(None))
        )
        with self._database.read() as connection:
            return tuple(sorted({month_of(day) for day in connection.execute(query).scalars()}, reverse=True))

    def issuers(self, first_day: date) -> tuple[str, ...]:
        """The EHRs with a charge of the month."""
        of_month = OUTBOX.c.service_date.between(first_day, last_day(first_day))
        with self._database.read() as connection:
            found = connection.execute(select(OUTBOX.c.issuer_id).distinct().where(of_month)).scalars()
            return tuple(sorted(found))

    def patients(self, issuer_id: str, states: Iterable[str]) -> dict[date, int]:
        """How many patients have a charge in one of these states, by the first day of the month."""
        query = (
            select(OUTBOX.c.service_date, OUTBOX.c.patient)
            .distinct()
            .where(OUTBOX.c.issuer_id == issuer_id, OUTBOX.c.service_date.is_not(None))
            .where(OUTBOX.c.state.in_(list(states)))
        )
        found: dict[date, set[str]] = {}
        with self._database.read() as connection:
            for day, patient in connection.execute(query):
                found.setdefault(month_of(day), set()).add(patient)
        return {day: len(named) for day, named in found.items()}

    def undated(self, issuer_id: str | None = None) -> int:
        """Charges from before rows said their day, in whatever month: nobody knows until they are opened."""
        with self._database.read() as connection:
            return connection.execute(
                select(func.count()).select_from(OUTBOX).where(_undated(issuer_id))
            ).scalar_one()

    def fill_in(self, issuer_id: str | None = None, most: int | None = None) -> int:
        """Have rows from before say their day, way, person, payer and units; how many now do. Raises
        SealBroken."""
        done, after = 0, ""
        while most is None or done < most:
            query = (
                select(OUTBOX)
                .where(_undated(issuer_id), OUTBOX.c.identifier > after)
                .order_by(OUTBOX.c.identifier)
                .limit(_BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                break
            after = rows[-1].identifier
            told = [(row.identifier, found_by(self._charges.opened(row).content)) for row in rows]
            with self._database.write() as connection:
                for identifier, values in told:
                    if values["service_date"] is not None:
                        same = and_(OUTBOX.c.identifier == identifier, OUTBOX.c.service_date.is_(None))
                        done += connection.execute(update(OUTBOX).where(same).values(**values)).rowcount
        return done

    def charges(self, wanted: MonthFilter) -> Iterator[Charge]:
        """Every charge of the filter, opened, in the order of their keys. Raises SealBroken."""
        after = ""
        while True:
            query = (
                select(OUTBOX)
                .where(_of(wanted), OUTBOX.c.identifier > after)
                .order_by(OUTBOX.c.identifier)
                .limit(_BATCH)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            if not rows:
                return
            yield from map(self._charges.opened, rows)
            after = rows[-1].identifier


MOST_ALIKE = 20
SHORTEST_KEY = 12
"""Characters of a key that FT1-2 of a message carries: fewer name no charge."""


def _undated(issuer_id: str | None) -> ColumnElement[bool]:
    undated = OUTBOX.c.service_date.is_(None)
    return undated if issuer_id is None else and_(undated, OUTBOX.c.issuer_id == issuer_id)


def _of(wanted: MonthFilter) -> ColumnElement[bool]:
    columns = OUTBOX.c
    conditions: list[ColumnElement[bool]] = [
        columns.issuer_id == wanted.issuer_id,
        columns.service_date.between(wanted.first_day, last_day(wanted.first_day)),
    ]
    for name in ("state", "method", "performer", "payer", "patient"):
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(columns[name] == value)
    if wanted.denied:
        conditions.append(columns.identifier.in_(denied_charges()))
    if wanted.denied_and is not None:
        conditions.append(columns.identifier.in_(denied_charges(wanted.denied_and)))
    if wanted.waiting:
        conditions.append(
            or_(
                columns.state.in_([state.value for state in WAITS]),
                columns.identifier.in_(denied_charges(DenialState.OPEN)),
            )
        )
    return and_(*conditions)


def _columns() -> Select[Any]:
    names = (
        "identifier",
        "patient",
        "code",
        "state",
        "method",
        "performer",
        "payer",
        "units",
        "service_date",
        "changed_at",
    )
    return select(*(OUTBOX.c[name] for name in names))


def _row(row: Any) -> MonthRow:
    told = row._asdict()
    told.pop("issuer_id", None)
    return MonthRow(**{**told, "state": ChargeState(told["state"])})
