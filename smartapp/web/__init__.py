"""The pages. One blueprint a concern; what they share is in `security` and `errors`."""

from __future__ import annotations

from datetime import date, datetime

from flask import Flask

from launch.issuers import Issuers
from smartapp.services import services
from smartapp.web import (
    access,
    anchor,
    approvals,
    arrivals,
    attestations,
    audit_record,
    billing,
    cds_hooks,
    changes,
    charge_words,
    charges,
    compression,
    denials,
    elsewhere,
    episode,
    errors,
    escaping,
    health,
    jwks,
    launch,
    metrics,
    months,
    own_pages,
    patient,
    reading_words,
    record_words,
    resolutions,
    scopes,
    security,
    static_files,
    style,
    time_log,
    tracing,
    waiting,
    ways_out,
    what_if,
    words,
    worklist,
    worksheet,
)


def register(app: Flask, issuers: Issuers) -> None:
    """Add every page to the app. Callbacks are routes of their own: one path an issuer."""
    escaping.register(app)
    tracing.register(app)
    compression.register(app)
    arrivals.register(app)
    security.register(app)
    errors.register(app)
    waiting.register(app)
    static_files.register(app)
    app.register_blueprint(health.pages)
    app.register_blueprint(metrics.pages)
    app.register_blueprint(jwks.blueprint(issuers, app.extensions["smartapp"].settings.signing_keys))
    app.register_blueprint(launch.blueprint(issuers))
    app.register_blueprint(patient.pages)
    app.register_blueprint(charges.pages)
    app.register_blueprint(approvals.pages)
    app.register_blueprint(worksheet.pages)
    app.register_blueprint(billing.pages)
    app.register_blueprint(denials.pages)
    app.register_blueprint(changes.pages)
    app.register_blueprint(months.pages)
    app.register_blueprint(time_log.pages)
    app.register_blueprint(elsewhere.pages)
    app.register_blueprint(attestations.pages)
    app.register_blueprint(resolutions.pages)
    app.register_blueprint(audit_record.pages)
    app.register_blueprint(anchor.pages)
    app.register_blueprint(episode.pages)
    app.register_blueprint(what_if.pages)
    app.register_blueprint(scopes.pages)
    app.register_blueprint(style.pages)
    app.register_blueprint(worklist.pages)
    app.register_blueprint(cds_hooks.pages)
    access.register(app)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.jinja_env.globals.update(
        words=words,
        charge_words=charge_words,
        reading_words=reading_words,
        settled_of=resolutions.settled_of,
        minutes_of=ways_out.minutes_of,
    )
    app.jinja_env.filters.update(
        day=_day,
        readings_address=own_pages.readings_address,
        window_address=own_pages.window_address,
        strip_day_address=own_pages.strip_day_address,
        strip_day_place=own_pages.strip_day_place,
        reason=words.reason,
        address=own_pages.address_of,
        record_address=own_pages.record_address,
        in_words=record_words.in_words,
        all_in_words=record_words.all_in_words,
    )


def _day(value: date | str | None) -> str:
    """A day as it is told; of a moment, the day that it was at the site, whatever day it was in UTC."""
    return words.day(services().site.today(value) if isinstance(value, datetime) else value)
