"""How charges leave, as a site's file says it: which ways are turned on for which EHR."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """A way for a charge to leave, the best first. The first that can be used is used."""

    CHARGE_ITEM = "charge-item"
    WORKSHEET = "worksheet"
