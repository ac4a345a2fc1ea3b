"""Whatever a server sends, the doctor says something of it: it neither raises nor repeats what was sent.

Its own readings of discovery documents, keys, the CapabilityStatement and clocks, each on its own.
"""

from __future__ import annotations

import copy
import os
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from launch.errors import HttpError
from launch.http import Response
from launch.issuers_table import load_issuers
from launch.sandbox.capability import capability_statement, openid_configuration, smart_configuration
from launch.sandbox.config import SandboxConfig
from smartapp.commands.checks import Checks
from smartapp.commands.doctor.client import check_keys, check_registration, check_scopes
from smartapp.commands.doctor.connection import check_connection
from smartapp.commands.doctor.discovery import check_discovery, check_identity, check_launch
from smartapp.commands.doctor.examination import Examination
from smartapp.commands.doctor.metadata import check_metadata
from smartapp.commands.register import sheet_of
from smartapp.commands.registered import Registered
from tests.launch.magnitudes import MAGNITUDES, TIMES, written

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
CONFIG = SandboxConfig(base_url="http://127.0.0.1:9", as_of=date(2026, 4, 1))
BASE = CONFIG.fhir_base
ISSUERS = load_issuers({"hospital": {"fhir_base": BASE, "client_id": "app"}}, loopback=True)
HERE = Registered(ISSUERS.match(BASE), ISSUERS, "https://app.example", None, None, loopback=True)
SHEET = sheet_of(HERE)
MARK = "said-by-the-server"

many = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "80")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
ODD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(MARK) | MAGNITUDES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


class Told(Examination):
    """An examination of documents at hand: what is at no address is a 404."""

    def __init__(self, documents: dict[str, Any]) -> None:
        client: Any = None
        super().__init__(HERE, SHEET, client, Checks(), lambda: NOW)
        self._documents = documents

    def oauth_get(self, url: str) -> Response | HttpError:
        found = next((held for end, held in self._documents.items() if url.endswith(end)), None)
        body = written({} if found is None else found)
        return Response(404 if found is None else 200, {}, body, url, "ehr.example", "r1")


def spoilt(document: dict[str, Any], data: st.DataObject) -> Any:
    """The document with another value in some places of its first three levels."""
    bent: Any = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 4))):
        holder = bent
        for _ in range(data.draw(st.integers(0, 5))):
            inner = list(holder.values()) if isinstance(holder, dict) else holder
            nested = [item for item in inner if isinstance(item, dict | list) and item]
            if not nested:
                break
            holder = data.draw(st.sampled_from(nested))
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if keys:
            holder[data.draw(st.sampled_from(keys))] = data.draw(ODD)
    return bent


def answered(exam: Examination) -> None:
    """Every check has a sentence of ours, on one line."""
    assert list(exam.checks)
    for check in exam.checks:
        assert check.says
        assert check.says.isprintable()
        assert MARK not in check.says


DOCUMENTS = {
    "smart-configuration": smart_configuration(CONFIG),
    "openid-configuration": openid_configuration(CONFIG),
    "/jwks": {"keys": [{"kty": "RSA", "kid": "k", "alg": "RS256", "n": "_" * 342, "e": "AQAB"}]},
}


@pytest.mark.threat("5.12", "5.13")
@pytest.mark.parametrize("name", sorted(DOCUMENTS))
@given(data=st.data())
@many
def test_any_discovery_document_and_key_set_is_told_in_our_own_words(name: str, data: st.DataObject) -> None:
    exam = Told({**DOCUMENTS, name: spoilt(DOCUMENTS[name], data)})
    found = check_discovery(exam, capability_statement(CONFIG))
    check_launch(exam, found)
    check_identity(exam, found)
    check_registration(exam, found)
    check_scopes(exam, found)
    check_keys(exam)
    answered(exam)


@pytest.mark.threat("5.12", "5.13")
@given(data=st.data())
@many
def test_any_capability_statement_is_told_in_our_own_words(data: st.DataObject) -> None:
    sent = Response(200, {}, written(spoilt(capability_statement(CONFIG), data)), "", "ehr.example", "r1")
    try:
        statement = sent.json()
    except HttpError:
        return
    exam = Told({})
    check_discovery(exam, statement)
    check_metadata(exam, statement)
    answered(exam)


DATES = st.sampled_from(
    [
        *("Wed, 01 Apr 2026 12:00:00 GMT", "Wed, 01 Apr 2026 12:00:00", "Wed, 01 Apr 2026 12:00:00 -0000"),
        *(
            "Mon, 01 Jan 0001 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Fri, 31 Dec 9999 23:59:59 -2359",
        ),
        *("Mon, 01 Jan 9999999999 00:00:00 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999999999"),
        *("Mon, 01 Jan 2026 99999999999999999999:00:00 GMT", f"Mon, {'9' * 5000} Jan 2026 00:00:00 GMT"),
        *("", " ", ",", "1", "NaN"),
    ]
)


@given(said=DATES | TIMES | st.text(max_size=40))
@example(said="Mon, 01 Jan 9999999999 00:00:00 GMT")
@example(said="Mon, 01 Jan 2026 00:00:00 +99999999999999")
@many
def test_any_date_of_a_server_is_compared_or_said_to_be_none(said: str) -> None:
    exam = Told({})
    exam.first = Response(200, {"date": said}, b"", "", "ehr.example", "r1")
    exam.heard_at = NOW
    check_connection(exam)
    answered(exam)
