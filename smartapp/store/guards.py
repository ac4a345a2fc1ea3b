"""The triggers that keep rows from being changed or deleted, and the one place where they are lifted.

`<table>_no_update`, `<table>_no_delete` and, on PostgreSQL, `<table>_no_truncate` (made by the migrations).
What the retention rule removes, and what a new key seals again, goes through `lifted`, and nothing else does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from sqlalchemy import Connection, Table, text

from smartapp.store.tables import ATTESTATIONS, AUDIT, CHANGE_PACKETS, CHARGE_PACKETS, DENIALS, TIME_ENTRIES

GUARDED = (AUDIT, CHARGE_PACKETS, CHANGE_PACKETS, TIME_ENTRIES, ATTESTATIONS, DENIALS)


@contextmanager
def lifted(connection: Connection, act: Literal["update", "delete"], *tables: Table) -> Iterator[None]:
    """Without the guards against `act` on these tables (those that have any), for this transaction only.

    Nobody else ever sees the tables without them: SQLite has one writer at a time, and PostgreSQL holds other
    writers of these tables back until the transaction ends. If anything fails, the transaction is undone and
    the lifting with it; an exception must reach `Database.write`.
    """
    guards = [(table.name, f"{table.name}_no_{act}") for table in tables if table in GUARDED]
    if connection.dialect.name == "sqlite":
        made = [_definition(connection, trigger) for _, trigger in guards]
        for _, trigger in guards:
            connection.exec_driver_sql(f"DROP TRIGGER {trigger}")
        yield
        for statement in made:
            connection.exec_driver_sql(statement)
        return
    for name, trigger in guards:
        connection.exec_driver_sql(f"ALTER TABLE {name} DISABLE TRIGGER {trigger}")
    yield
    for name, trigger in guards:
        connection.exec_driver_sql(f"ALTER TABLE {name} ENABLE TRIGGER {trigger}")


def _definition(connection: Connection, trigger: str) -> str:
    made: str = connection.execute(
        text("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = :name"), {"name": trigger}
    ).scalar_one()
    return made
