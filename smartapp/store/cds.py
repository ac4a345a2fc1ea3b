"""Which tokens of CDS clients were taken already."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

from sqlalchemy import delete, insert
from sqlalchemy.exc import IntegrityError

from smartapp.store.database import Database
from smartapp.store.tables import CDS_REQUESTS


class CdsRequests:
    """Each token once, in all processes: a digest of its id, until it is over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, issuer_id: str, token_id: str, until: datetime, now: datetime) -> bool:
        """False for one that was taken before."""
        row = {
            "issuer_id": issuer_id,
            "digest": sha256(token_id.encode()).hexdigest(),
            "expires_at": until,
        }
        with self._database.write() as connection:
            connection.execute(delete(CDS_REQUESTS).where(CDS_REQUESTS.c.expires_at < now))
            try:
                with connection.begin_nested():
                    connection.execute(insert(CDS_REQUESTS).values(**row))
            except IntegrityError:
                return False
        return True
