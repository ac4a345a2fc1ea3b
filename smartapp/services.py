"""What the pages work with: settings, site, store, and the way to the EHRs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from flask import current_app

from launch.authorization import Launcher
from launch.http import EhrClients
from launch.issuers import Issuers
from launch.ports import Clock, LaunchSession, SessionEnd
from launch.scopes import CORE_FEATURES, Feature
from launch.seats import Seats
from launch.tokens import SessionClient, TokenKeeper
from smartapp.cds_hooks.guard import Guard
from smartapp.configuration.settings import Settings
from smartapp.configuration.site import Site
from smartapp.ehr.charges.create import ChargeWriter
from smartapp.ehr.charges.guards import Guards
from smartapp.ehr.charges.revise import ChargeChanger
from smartapp.ehr.encounters import EncounterWriter
from smartapp.ehr.handover.after import AfterHandover
from smartapp.ehr.handover.choice import Handovers
from smartapp.ehr.reading.asking import Asking
from smartapp.ehr.reading.fresh import FreshLook
from smartapp.ehr.reading.jobs import ReadingJobs
from smartapp.health import Health
from smartapp.metrics import Metrics
from smartapp.store import Store
from smartapp.worklist.lists import Lists

FEATURES = (
    *CORE_FEATURES,
    Feature.ENROLMENT,
    Feature.CONSENT,
    Feature.ORDERS,
    Feature.DIAGNOSES,
    Feature.SURGERY,
    Feature.COVERAGE,
    Feature.ACCOUNTS,
    Feature.STAFF_ROLES,
)
"""What is asked for at launch: exactly what the reader reads and the writer writes."""

KEEP_ENDED = timedelta(hours=1)
"""So long an ended session's page still says that it is over."""


@dataclass(frozen=True)
class Services:
    """Everything the pages work with."""

    settings: Settings
    site: Site
    store: Store
    health: Health
    metrics: Metrics
    clock: Clock
    issuers: Issuers
    launcher: Launcher
    keeper: TokenKeeper
    clients: EhrClients
    seats: Seats
    jobs: ReadingJobs
    fresh: FreshLook
    guards: Guards
    handovers: Handovers
    after: AfterHandover
    writer: ChargeWriter
    changer: ChargeChanger
    encounters: EncounterWriter
    lists: Lists
    asking: Asking
    guard: Guard
    """Who may ask for cards."""
    cds_seats: Seats
    """So many of these may wait for an EHR at a time: fewer than people may."""
    background: ThreadPoolExecutor
    """For files that take longer than a page may."""

    def client_of(self, session: LaunchSession) -> SessionClient:
        """FHIR calls of one session. Raises LaunchError if its EHR is not registered any more."""
        issuer = self.issuers.bound(session.issuer_id, session.iss)
        return SessionClient(self.clients.of(issuer), self.keeper, session.id)

    def tidy(self) -> None:
        """End sessions nobody uses, and delete what is past its time. Each launch calls it."""
        now = self.clock.now()
        for session_id in self.store.launches.idle_sessions(now - self.settings.session_idle):
            self.store.launches.end_session(session_id, now, SessionEnd.IDLE)
        self.store.launches.purge(now, KEEP_ENDED)

    def close(self) -> None:
        """Give everything back: threads, connections, the database."""
        self.background.shutdown(wait=False, cancel_futures=True)
        self.jobs.close()
        self.clients.close()
        self.store.close()


def services() -> Services:
    """The services of the app that handles this request."""
    found: Services = current_app.extensions["smartapp"]
    return found
