"""The next step that a window offers: to log what took place.

A step leads to a page on which a person says what is true. None fills anything in, and none is there to make
a code be met. What settles a doubt is `ways_out.ways_out`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What a link says, and the endpoint behind it."""

    label: str
    endpoint: str


LOG_A_CALL = Step("Log a call that took place", "time_log.page")
LOG_TIME = Step("Log time that took place", "time_log.page")
