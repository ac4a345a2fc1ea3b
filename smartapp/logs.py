"""The log of `smartapp serve`: one JSON object a line, on standard error.

`at`, `level`, `logger`, `message`; `request` where a request was being answered, the same number that an
error page shows; and what a line says beside its message. Of an exception the type and the place, never its
text: it may quote what was read from a chart.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

FACTS = "facts"
"""What a line says beside its message: `log.info(..., extra={FACTS: {...}})`."""


class JsonLines(logging.Formatter):
    """`request_id`: the number of the request that this thread answers, if it answers one."""

    def __init__(self, request_id: Callable[[], str | None]) -> None:
        super().__init__()
        self._request_id = request_id

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (number := self._request_id()) is not None:
            said["request"] = number
        if record.exc_info is not None and record.exc_info[0] is not None:
            said |= _of_exception(*record.exc_info[:2])
        # ASCII: a control or bidirectional character in a name is written out, not shown.
        return json.dumps({**getattr(record, FACTS, {}), **said}, default=str)


def _of_exception(kind: type[BaseException], error: BaseException | None) -> dict[str, str]:
    trace = None if error is None else error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "?" if trace is None else f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}"
    return {"exception": kind.__name__, "place": place}


def write_json_lines(request_id: Callable[[], str | None]) -> None:
    """Log like that from now on, from INFO up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(request_id))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
