"""Every way there is, the best first."""

from __future__ import annotations

from launch.http import Limits
from launch.ports import Clock
from smartapp.configuration.handover import HandoverSettings
from smartapp.ehr.handover.charge_item import ChargeItemHandover
from smartapp.ehr.handover.choice import Handovers
from smartapp.ehr.handover.dft import DftHandover
from smartapp.ehr.handover.document import DocumentHandover
from smartapp.ehr.handover.oracle_create import OracleCreateHandover
from smartapp.ehr.handover.task import TaskHandover
from smartapp.ehr.handover.worksheet import WorksheetHandover
from smartapp.ehr.wire.capability import Capabilities


def ways(settings: HandoverSettings, limits: Limits, capabilities: Capabilities, clock: Clock) -> Handovers:
    """`limits`: those of a write."""
    return Handovers(
        [
            ChargeItemHandover(limits, capabilities),
            OracleCreateHandover(settings, limits),
            TaskHandover(settings, limits, capabilities),
            DocumentHandover(settings, limits, capabilities),
            DftHandover(settings, limits, clock),
            WorksheetHandover(),
        ]
    )
