"""`smartapp migrate`: make or update the tables of the configured database."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from smartapp.configuration.settings import SETTINGS, ConfigurationError


def run(arguments: Sequence[str]) -> int:
    """Migrate the database of SMARTAPP_DATABASE_URL. Exit status 2 for a call that cannot be understood or
    carried out."""
    if arguments:
        print("usage: smartapp migrate   (the database is SMARTAPP_DATABASE_URL)", file=sys.stderr)
        return 0 if list(arguments) in (["-h"], ["--help"]) else 2
    try:
        return _migrate()
    except ConfigurationError as fault:
        print(f"smartapp migrate: {fault}", file=sys.stderr)
        return 2


def _migrate() -> int:
    from smartapp.store.audit import AuditTrail
    from smartapp.store.database import Database

    setting = next(setting for setting in SETTINGS if setting.name == "database_url")
    url = os.environ.get(setting.variable) or setting.default
    if url is None:
        raise ConfigurationError(f"{setting.variable} is missing")
    database = Database(url)
    try:
        database.migrate()
        database.check_schema()
        plain = AuditTrail(database).plain()
    finally:
        database.close()
    print("The database is up to date.")
    if plain:
        print(f"{plain} audit entries are older than their encryption: `smartapp keys reseal` seals them.")
    return 0
