"""How much of what the database holds, for whoever watches the app: counts by EHR, kind and state alone."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, Table, func, select

from smartapp.metrics import Counts
from smartapp.store.database import Database
from smartapp.store.tables import (
    CHANGE_PACKETS,
    CHARGE_CHANGES,
    CHARGE_PACKETS,
    LAUNCH_SESSIONS,
    OUTBOX,
    READING_JOBS,
)


def counts(database: Database, now: datetime) -> dict[str, tuple[str, tuple[str, ...], Counts]]:
    """Names with what they mean, their labels and counts. One short look; nothing is unsealed."""
    with database.read() as connection:

        def by(table: Table, *columns: Column[str]) -> Counts:
            rows = connection.execute(select(*columns, func.count()).select_from(table).group_by(*columns))
            return [(tuple(map(str, row[:-1])), float(row[-1])) for row in rows]

        overdue = sum(
            connection.execute(
                select(func.count()).select_from(table).where(table.c.keep_until < now.date())
            ).scalar_one()
            for table in (CHARGE_PACKETS, CHANGE_PACKETS)
        )
        open_sessions = connection.execute(
            select(func.count()).select_from(LAUNCH_SESSIONS).where(LAUNCH_SESSIONS.c.ended_at.is_(None))
        ).scalar_one()
        return {
            "smartapp_charges": (
                "Charges that were accepted, by EHR and what became of them",
                ("issuer", "state"),
                by(OUTBOX, OUTBOX.c.issuer_id, OUTBOX.c.state),
            ),
            "smartapp_charge_changes": (
                "Changes of written charges, by EHR, kind and what became of them",
                ("issuer", "kind", "state"),
                by(CHARGE_CHANGES, CHARGE_CHANGES.c.issuer_id, CHARGE_CHANGES.c.kind, CHARGE_CHANGES.c.state),
            ),
            "smartapp_reading_jobs": (
                "Readings of open sessions by state: `waiting` is the queue",
                ("state",),
                by(READING_JOBS, READING_JOBS.c.state),
            ),
            "smartapp_open_sessions": ("Sessions that have not ended", (), [((), float(open_sessions))]),
            "smartapp_packets_past_retention": (
                "Packets past their time: more than a day's worth means that no purge runs",
                (),
                [((), float(overdue))],
            ),
        }
