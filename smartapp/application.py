"""Puts the app together: settings, site, store, the way to the EHRs, and the pages."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from launch.authorization import Launcher
from launch.discovery import Discovery
from launch.http import EhrClients
from launch.identity import IdentityVerifier
from launch.issuers import Issuers
from launch.ports import LaunchSession
from launch.seats import Seats
from launch.tokens import SessionClient, TokenKeeper
from smartapp.cds_hooks.guard import Guard
from smartapp.clock import AuditedEvents, SystemClock
from smartapp.configuration.issuers_file import read_issuers
from smartapp.configuration.settings import ConfigurationError, Mode, Settings
from smartapp.configuration.site import Site, load_site
from smartapp.ehr.charges.create import ChargeWriter
from smartapp.ehr.charges.guards import Guards
from smartapp.ehr.charges.present import PresentCharges
from smartapp.ehr.charges.revise import ChargeChanger
from smartapp.ehr.encounters import EncounterWriter
from smartapp.ehr.handover.after import AfterHandover
from smartapp.ehr.handover.ways import ways
from smartapp.ehr.reading.asking import Asking
from smartapp.ehr.reading.charts import Charts
from smartapp.ehr.reading.fresh import FreshLook
from smartapp.ehr.reading.jobs import ReadingJobs
from smartapp.ehr.wire.capability import Capabilities
from smartapp.ehr.wire.observed import ObservedClient
from smartapp.ehr.wire.sending import limits_of_writes
from smartapp.health import Health
from smartapp.metrics import Metrics, Prometheus
from smartapp.prepared import prepare_types, spare_the_collector
from smartapp.services import FEATURES, Services
from smartapp.store import Store
from smartapp.store.budgets import SharedBudget
from smartapp.store.database import SchemaOutdated
from smartapp.web import register
from smartapp.web.arrivals import source
from smartapp.worklist.lists import Lists

MOST_CARDS_AT_ONCE = 4
MAX_FORM_BYTES = 64 * 1024


def load_issuers_file(settings: Settings, secrets: Mapping[str, str]) -> Issuers:
    """The EHRs of the issuers file. Raises ConfigurationError."""
    return read_issuers(
        settings.issuers_file,
        settings.signing_keys,
        secrets,
        now=SystemClock(settings.clock_ahead).now(),
        loopback=settings.mode is not Mode.PRODUCTION,
        plain_http=settings.mode is Mode.CONNECT,
    )


def build(settings: Settings | None = None, clients: EhrClients | None = None) -> Flask:
    """See `smartapp.create_app`. `clients`: the way to the EHRs, where it is another than the usual."""
    settings = settings or Settings.from_environment()
    prepare_types()
    # At DEBUG it writes every address with its query, and a search names its patient there.
    logging.getLogger("urllib3").setLevel(logging.INFO)
    site = load_site(settings)
    issuers = load_issuers_file(settings, os.environ)
    site.check_users(issuers)
    store = Store(settings.database_url, settings.keys)
    try:
        store.database.check_schema()
    except SchemaOutdated as error:
        raise ConfigurationError(f"{error} Run `smartapp migrate` first.") from None

    app = Flask("smartapp", static_folder=None, template_folder="templates")
    app.config.update(MAX_CONTENT_LENGTH=MAX_FORM_BYTES, SECRET_KEY=None, TRUSTED_HOSTS=None)
    metrics = Prometheus() if settings.metrics else Metrics()
    clients = clients or EhrClients(
        make=partial(ObservedClient, metrics=metrics),
        budget=SharedBudget(store.database, SystemClock(settings.clock_ahead)),
    )
    app.extensions["smartapp"] = _services(settings, site, issuers, store, clients, metrics)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, hops, hops)  # type: ignore[method-assign]
    register(app, issuers)
    spare_the_collector()
    return app


def _services(
    settings: Settings,
    site: Site,
    issuers: Issuers,
    store: Store,
    clients: EhrClients,
    metrics: Metrics,
) -> Services:
    clock = SystemClock(settings.clock_ahead)
    events = AuditedEvents(store.audit, clock, metrics, source)
    seats = Seats()
    discovery = Discovery(clock, events, seats)
    keeper = TokenKeeper(issuers, clients, discovery, store.launches, clock, events)
    launcher = Launcher(
        issuers,
        clients,
        discovery,
        IdentityVerifier(clock),
        store.launches,
        clock,
        events,
        app_url=settings.base_url,
        features=FEATURES,
        session_life=settings.session_lifetime,
        seats=seats,
    )

    def client_of(session: LaunchSession) -> SessionClient:
        issuer = issuers.bound(session.issuer_id, session.iss)
        return SessionClient(clients.of(issuer), keeper, session.id)

    capabilities = Capabilities()
    lists = Lists(site.worklist, settings.keys)
    charts = Charts(settings, site, store, clock, client_of, capabilities, lists.first_to_do)
    fresh = FreshLook(settings, store, clock, charts)
    present = PresentCharges(site, store, clock)
    guards = Guards(site, store, present)
    handovers = ways(site.handover, limits_of_writes(settings), capabilities, clock)
    writer = ChargeWriter(settings, site, store, clock, fresh, present, guards, handovers, capabilities)
    return Services(
        settings=settings,
        site=site,
        store=store,
        health=Health(store.database),
        metrics=metrics,
        clock=clock,
        issuers=issuers,
        launcher=launcher,
        keeper=keeper,
        clients=clients,
        seats=seats,
        jobs=ReadingJobs(settings, store, clock, charts, metrics),
        fresh=fresh,
        guards=guards,
        handovers=handovers,
        after=AfterHandover(settings, store, clock, guards, handovers),
        writer=writer,
        changer=ChargeChanger(settings, site, store, clock, writer, fresh, present, guards),
        encounters=EncounterWriter(site, store, clock),
        lists=lists,
        asking=Asking(),
        guard=Guard.of(site.cds_hooks, store.cds_requests, clock),
        cds_seats=Seats(MOST_CARDS_AT_ONCE),
        background=ThreadPoolExecutor(2, "background"),
    )
