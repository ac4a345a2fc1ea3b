"""`smartapp purge`: remove what is past its time. For a nightly job.

Sessions that are over; what is older than the retention time (`smartapp.store.retention` says what exactly);
and the content of audit entries that old. Their digests stay, so that the chain can be verified as before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from smartapp.commands.checks import CANNOT, Fault, Parser, listed
from smartapp.configuration.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from smartapp.store.retention import PastItsTime

KINDS = {
    "packets": "packets",
    "charges": "charges and changes under way or done",
    "time_entries": "time entries",
    "statements": "statements and episodes",
    "denials": "denials of charges that went",
    "months": "certified months",
    "clocks": "forgotten clocks",
    "marks": "marks of a worklist",
    "enrolments": "enrolments",
}
"""What is removed, in the order in which it is told."""


def run(arguments: Sequence[str]) -> int:
    """The command. Exit status 0; 2 and one line where it can't be carried out."""
    parser = Parser(prog="smartapp purge", description=__doc__, allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true", help="only say how much is past its time")
    try:
        options = parser.parse_args(list(arguments))
        _purge(Settings.from_environment(), datetime.now(UTC), dry_run=options.dry_run)
    except (Fault, ConfigurationError) as fault:
        print(f"smartapp purge: {fault}", file=sys.stderr)
        return CANNOT
    except SQLAlchemyError as fault:
        print(f"smartapp purge: the database: {type(fault).__name__}", file=sys.stderr)
        return CANNOT
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    return 0


def _sentence(past: PastItsTime) -> str:
    counts = [f"{getattr(past, name)} {words}" for name, words in KINDS.items() if getattr(past, name)]
    return listed(counts or ["no records"])


def _purge(settings: Settings, now: datetime, *, dry_run: bool) -> None:
    from launch.ports import SessionEnd
    from smartapp.services import KEEP_ENDED
    from smartapp.store import Store
    from smartapp.store.database import SchemaOutdated
    from smartapp.store.retention import Retention

    cutoff = years_before(now, settings.retention_years)
    with closing(Store(settings.database_url, settings.keys)) as store:
        try:
            store.database.check_schema()
        except SchemaOutdated as fault:
            raise Fault(f"{fault} Run `smartapp migrate` first.") from None
        retention = Retention(store.database, store.vault, store.audit)
        if dry_run:
            past = retention.past(now, cutoff)
            print(f"Past their time: {_sentence(past)}; {past.audit_entries} audit entries.")
            return
        for session_id in store.launches.idle_sessions(now - settings.session_idle):
            store.launches.end_session(session_id, now, SessionEnd.IDLE)
        sessions = store.launches.purge(now, KEEP_ENDED)
        past = retention.purge(now, cutoff)
    print(f"Removed {sessions} launches and sessions; {_sentence(past)}.")
    print(f"Emptied {past.audit_entries} audit entries older than {cutoff.date().isoformat()}.")
    if past.unopened:
        print(
            f"{past.unopened} statements are opened by no key of SMARTAPP_KEYS: whether they are over, nobody"
        )
        print("knows, so they stay. `smartapp keys reseal --check` counts all that no key opens.")


def years_before(now: datetime, years: int) -> datetime:
    """The same day that many years ago; a 29 February becomes the 28th: kept a day longer, never shorter."""
    try:
        return now.replace(year=now.year - years)
    except ValueError:
        return now.replace(year=now.year - years, day=28)
