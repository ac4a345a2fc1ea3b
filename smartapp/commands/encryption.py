"""`smartapp keys encryption`: which encryption keys SMARTAPP_KEYS holds, and how they stand in a rotation.

A key is called by its id, eight letters that are derived from it and tell nothing of it. A rotation takes two
steps, because processes are restarted one after the other: whoever writes with a key that another process
does not know yet shuts that process out of what was written.
"""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass

from cryptography.fernet import Fernet
from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import Fault
from smartapp.configuration.settings import read_setting, setting
from smartapp.store.audit import AuditTrail
from smartapp.store.database import Database, SchemaOutdated
from smartapp.store.vault import Vault


@dataclass(frozen=True)
class KeysInUse:
    """The keys of SMARTAPP_KEYS beside what the database says was used last."""

    ids: tuple[str, ...]
    last: int | None
    """The place of the key that sealed the last entry of the audit trail; None where nothing says it."""
    unknown: bool = False
    """None of the keys sealed it."""

    @property
    def unready(self) -> bool:
        """The first key sealed nothing yet: the step that puts it first must come after all know it."""
        return self.unknown or (self.last or 0) > 0

    def says(self) -> str:
        """One line: how the keys stand."""
        if self.unknown:
            return "none of the keys sealed the last entry of the audit trail: bring the missing key back"
        if self.last is None or (self.last == 0 and len(self.ids) == 1):
            return f"{self.ids[0]} seals"
        if self.last == 0:
            return f"{self.ids[0]} seals; {', '.join(self.ids[1:])} opens what is older, or comes next"
        new, old = self.ids[0], self.ids[self.last]
        return (
            f"{old} sealed last, {new} is to seal from now on: before a process starts like this,"
            f" every process must have been restarted with {new} behind {old}"
        )


def keys_in_use(database: Database, vault: Vault) -> KeysInUse:
    """How the vault's keys stand beside the database."""
    found, key = AuditTrail(database, vault).last_key()
    return KeysInUse(vault.key_ids, key, unknown=found and key is None)


def encryption(*, new: bool) -> int:
    """Exit status 0; 1 where a key is missing, or another one sealed last. Raises Fault."""
    if new:
        print(Fernet.generate_key().decode())
        print("Step 1: put it LAST in SMARTAPP_KEYS everywhere, and restart every process.", file=sys.stderr)
        print("Step 2: put it first everywhere, and restart; then `smartapp keys reseal`.", file=sys.stderr)
        return 0
    vault = Vault(read_setting(setting("keys")))
    try:
        with closing(Database(read_setting(setting("database_url")))) as database:
            database.check_schema()
            found = keys_in_use(database, vault)
    except SchemaOutdated as fault:
        raise Fault(f"{fault} Run `smartapp migrate` first.") from None
    except SQLAlchemyError as fault:
        raise Fault(f"the database: {type(fault).__name__}") from None
    for place, id_ in enumerate(found.ids):
        print(f"{place + 1}  {id_}  {'seals and opens' if place == 0 else 'opens'}")
    print(f"{found.says()}.")
    return 1 if found.unready else 0
