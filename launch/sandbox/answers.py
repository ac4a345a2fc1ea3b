"""How this server answers: FHIR JSON, and for what it refuses an OperationOutcome."""

from __future__ import annotations

import json
from typing import Any

from flask import Response

FHIR_JSON = "application/fhir+json; charset=utf-8"


class Refused(Exception):
    """A request that is not served: HTTP status, OperationOutcome issue type, one plain line."""

    def __init__(
        self, status: int, code: str, text: str, headers: dict[str, str] | None = None, expression: str = ""
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.expression = expression


def outcome(
    status: int, code: str, text: str, headers: dict[str, str] | None = None, at: str = ""
) -> Response:
    """An OperationOutcome answer with one issue."""
    issue: dict[str, Any] = {"severity": "error", "code": code, "diagnostics": text}
    if at:
        issue["expression"] = [at]
    return as_json({"resourceType": "OperationOutcome", "issue": [issue]}, status, headers)


def as_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), status, headers, content_type=FHIR_JSON)
