"""What became of our own charges, as it goes before what the chart said when it was read."""

from __future__ import annotations

from collections.abc import Iterable

from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, NEVER_SENT, ChargeState
from smartapp.windows import Standing

SENT_FROM_HERE = {
    ChargeState.AWAITING: Standing.AWAITING,
    ChargeState.SENT: Standing.ON_ITS_WAY,
    ChargeState.UNKNOWN: Standing.UNANSWERED,
    ChargeState.CONFIRMED: Standing.WRITTEN,
    ChargeState.TO_ENTER: Standing.TO_ENTER,
    **dict.fromkeys(HANDED, Standing.WRITTEN),
}
ACCEPTABLE = frozenset({*NEVER_SENT, ChargeState.WITHDRAWN})
"""States of our own charge in which what it stands for may be accepted (again)."""


def sent_standings(charges: Iterable[Charge]) -> dict[str, Standing]:
    """`Decision.key` -> how our charge for it stands; without those that are as good as never made."""
    return {
        charge.content.decision: SENT_FROM_HERE[charge.state]
        for charge in charges
        if charge.state in SENT_FROM_HERE
    }
