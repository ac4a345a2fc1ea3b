"""How many requests each EHR was sent within a minute, by all processes of an installation together.

A process takes a small block at a time, good for two seconds, so that not every request is a transaction;
what it does not use of a block is lost to all until the minute is over.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from launch.limiter import MINUTE, Lease, Ledger, Turn
from launch.ports import Clock
from smartapp.store.database import Database
from smartapp.store.tables import REQUEST_BUDGETS

GOOD_FOR = 2.0
MOST_IN_A_BLOCK = 32
_ROW = REQUEST_BUDGETS.c.registration == bindparam("of")
_BEGUN = select(REQUEST_BUDGETS.c.begun).where(_ROW).with_for_update()
_KEEP = update(REQUEST_BUDGETS).where(_ROW).values(begun=bindparam("text"))


class SharedBudget:
    """One row an EHR. `clock`: the same for all processes but for a second or two."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def take(self, registration: str, per_minute: int, turn: Turn) -> Lease:
        """See `launch.limiter.Budget`."""
        block = max(1, min(MOST_IN_A_BLOCK, per_minute // 30))
        with self._database.write() as connection:
            kept = connection.execute(_BEGUN, {"of": registration}).scalar()
            begun = [] if kept is None else msgspec.json.decode(kept, type=list[tuple[float, int]])
            # A request may begin some time after it was taken: it counts for as long.
            ledger = Ledger(begun, MINUTE + GOOD_FOR)
            now = self._clock.now().timestamp()
            if turn is Turn.SIGN_IN:
                count, wait = ledger.take(now, 1, per_minute, turn)
            else:
                count, wait = ledger.take(now, block, per_minute, max(turn, Turn.FIRST))
            if turn is Turn.PRESSED and count == 0:
                # Of what is left for what is pressed one at a time: nobody else may have it.
                count, wait = ledger.take(now, 1, per_minute, turn)
            text = msgspec.json.encode(ledger.begun).decode()
            if kept is None:
                try:
                    with connection.begin_nested():
                        connection.execute(
                            insert(REQUEST_BUDGETS).values(registration=registration, begun=text)
                        )
                except IntegrityError:  # another process made the row meanwhile
                    return Lease(0, 0.05, GOOD_FOR)
            else:
                connection.execute(_KEEP, {"of": registration, "text": text})
        return Lease(count, wait, GOOD_FOR)
