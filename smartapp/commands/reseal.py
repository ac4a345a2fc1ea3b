"""`smartapp keys reseal`: the whole database under the newest encryption key, and what still needs another.

Unlike the other commands of `smartapp keys` it is about SMARTAPP_KEYS. No key is ever printed: they are
called by their place in the list.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import Fault
from smartapp.configuration.settings import read_setting, setting

if TYPE_CHECKING:
    from smartapp.store import Store
    from smartapp.store.resealing import Need, Standing


def reseal(*, only_check: bool) -> int:
    """Exit status 0 where the newest key opens everything, else 1. Raises Fault and ConfigurationError."""
    from smartapp.store import Store
    from smartapp.store.database import SchemaOutdated

    keys = read_setting(setting("keys"))
    try:
        with closing(Store(read_setting(setting("database_url")), keys)) as store:
            store.database.check_schema()
            return _reseal(store, len(keys), only_check=only_check)
    except SchemaOutdated as fault:
        raise Fault(f"{fault} Run `smartapp migrate` first.") from None
    except SQLAlchemyError as fault:
        raise Fault(f"the database: {type(fault).__name__}") from None


def _reseal(store: Store, keys: int, *, only_check: bool) -> int:
    from smartapp.store.resealing import Resealing

    resealing = Resealing(store.database, store.vault)
    if not only_check:
        count = resealing.run(lambda table, done: print(f"{table}: {done} sealed anew", flush=True))
        print(f"{count} values were sealed with the newest key.")
        if count:
            store.audit.add(datetime.now(UTC), "records-resealed", count=count)
    # Counted anew, from the first row: a process that still has the old settings may have written meanwhile.
    need = resealing.need()
    for line in _told(need, keys):
        print(line)
    return 0 if need.done else 1


def _told(need: Need, keys: int) -> list[str]:
    from smartapp.store.resealing import NEWEST, Absence

    alone = ", which alone opens everything" if need.done else ""
    lines = [f"{need.values[NEWEST]} values need the newest key{alone}."]
    for key in range(1, keys):
        lines.append(f"Key {key + 1} of SMARTAPP_KEYS {_wanted(key, need.values, need.within)}.")
    if plain := need.values[Absence.PLAIN]:
        lines.append(
            f"{plain} values stand in the open, from before they were sealed; `smartapp keys reseal`."
        )
    if unbound := need.values[Absence.UNBOUND]:
        lines.append(
            f"{unbound} values are sealed without their row, by an earlier version; `smartapp keys reseal`."
        )
    elif need.done:
        lines.append("Every seal is bound to its row; none of an earlier version is left.")
    if moved := need.values[Absence.MOVED] + need.within[Absence.MOVED]:
        lines.append(
            f"{moved} values were sealed for another row, or changed: not by this app. They are never shown."
        )
    if lost := need.values[Absence.UNREADABLE] + need.within[Absence.UNREADABLE]:
        lines.append(f"{lost} values are opened by no key of SMARTAPP_KEYS: bring the missing key back.")
    return lines


def _wanted(key: int, values: Counter[Standing], within: Counter[Standing]) -> str:
    if not values[key] and not within[key]:
        return "is needed by nothing in the database any more; a backup may need it"
    said = [f"still needed by {values[key]} values"] if values[key] else []
    if within[key]:
        said.append(
            f"still needed to read {within[key]} reasons inside old audit entries, until those are emptied"
        )
    return f"is {' and '.join(said)}"
