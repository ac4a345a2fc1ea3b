"""How charges leave for this EHR, and what stands in the way of a better one."""

from __future__ import annotations

from typing import Any

import msgspec

from launch.http import Limits
from launch.scopes import Scopes
from smartapp.clock import SystemClock
from smartapp.commands.doctor.examination import Examination
from smartapp.commands.doctor.ids import CheckId
from smartapp.configuration.handover import HandoverSettings
from smartapp.ehr.handover.method import Where
from smartapp.ehr.handover.ways import ways
from smartapp.ehr.reading.findings import writes_of
from smartapp.ehr.wire.capability import Capabilities, parse_capability


def check_handover(exam: Examination, statement: Any, settings: HandoverSettings) -> None:
    """What the page of a chart says first, as far as it is known without a launch: by the scopes that are
    asked for, and what /metadata declares."""
    declared = parse_capability(b"" if statement is None else msgspec.json.encode(statement))
    where = Where(exam.issuer, Scopes.parse(exam.sheet.scope_v2), writes_of(declared))
    chosen = ways(settings, Limits(), Capabilities(), SystemClock()).chosen(where)
    for way, why in chosen.passed_over:
        exam.checks.ok(CheckId.HANDOVER, f"not as {way.title}: {why}")
    exam.checks.ok(CheckId.HANDOVER, f"this EHR takes charges as: {chosen.handover.title}")
