"""The server under test: how it is asked, and whether what it holds is test data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from launch.errors import ConfigurationError, HttpError
from launch.http import EhrClient, EhrClients, Limits
from launch.issuers import Issuer
from launch.issuers_table import load_issuers
from launch.urls import UnsafeUrl, Url, parse_base
from smartapp.commands.checks import Fault
from smartapp.testing.sandboxes import is_loopback, sandbox_at
from smartapp.testing.tag import bears_our_tag

ISSUER = "test-server"
GENERIC = "generic"
VOUCH = "--i-know-this-is-test-data"
MEGABYTE = 1024 * 1024
METADATA = Limits(connect=5.0, read=30.0, total=60.0, max_bytes=16 * MEGABYTE)


def base_of(text: str) -> Url:
    """The FHIR base that somebody typed. Raises Fault."""
    try:
        return parse_base(text)
    except UnsafeUrl as fault:
        raise Fault(f"{text!r} is no FHIR base: it holds {fault}") from None


def profile_of(base: Url) -> str:
    """The profile to begin with: that of a sandbox we know."""
    known = sandbox_at(base)
    return GENERIC if known is None else known.profile


def entry_of(base: Url, **more: Any) -> dict[str, Any]:
    """Its entry in the issuers file: whatever network it is in, since what it holds is nobody's."""
    entry: dict[str, Any] = {
        "fhir_base": base.base,
        "client_id": "smart-remote-monitoring-test",
        "profile": profile_of(base),
        "allow_private": True,
        **more,
    }
    if is_loopback(base):
        entry |= {"max_parallel": 8, "requests_per_minute": 60_000}
    return entry


def issuer_of(base: Url) -> Issuer:
    """The server as one this client may speak to. Raises Fault."""
    try:
        issuers = load_issuers({ISSUER: entry_of(base)}, loopback=True, plain_http=True)
    except ConfigurationError as fault:
        raise Fault(str(fault)) from None
    return next(iter(issuers))


class Target:
    """A server under test, spoken to without a session; `token`: a bearer token, where it wants one."""

    def __init__(self, client: EhrClient, token: str | None = None) -> None:
        self._client = client
        self._token = token
        self.base = client.issuer.base

    def get(self, target: str, limits: Limits | None = None) -> tuple[int, Any]:
        """Status and, if 2xx, the JSON of a GET. Raises HttpError where there was no usable answer."""
        answer = self._client.fhir("GET", target, token=self._token, limits=limits)
        return answer.status, answer.json(METADATA.max_bytes) if answer.ok else None

    def document(self, path: str) -> tuple[int, Any]:
        """The same of a document that is no FHIR. Raises HttpError."""
        answer = self._client.oauth_get(f"{self.base.base}/{path}")
        return answer.status, answer.json() if answer.ok else None

    def send(self, method: str, target: str, body: bytes | None = None, **more: Any) -> Any:
        """A request that changes something; the answer whatever its status. Raises HttpError."""
        return self._client.fhir(method, target, token=self._token, body=body, **more)

    def statement(self) -> dict[str, Any]:
        """Its CapabilityStatement, R4. Raises Fault where it is no FHIR server of that version."""
        where = self.base.base
        try:
            status, found = self.get("metadata", METADATA)
        except HttpError as error:
            raise Fault(f"{where}/metadata: {error.sentence} ({error})") from None
        if found is None:
            raise Fault(f"{where}/metadata answers {status}: is this the FHIR base?")
        if not isinstance(found, dict) or found.get("resourceType") != "CapabilityStatement":
            raise Fault(f"{where}/metadata is no CapabilityStatement: is this the FHIR base?")
        version = str(found.get("fhirVersion", "unknown"))
        if not version.startswith("4."):
            raise Fault(f"{where} speaks FHIR {version}; this app needs R4 (4.0.1)")
        return found

    def page(self, search: str) -> list[dict[str, Any]]:
        """The resources of a search's first page; none where it is refused. Raises HttpError."""
        _, found = self.get(search)
        entries = found.get("entry") if isinstance(found, dict) else None
        resources = [entry.get("resource") for entry in entries or () if isinstance(entry, dict)]
        return [one for one in resources if isinstance(one, dict)]

    def why_test_data(self, *, vouched: bool) -> str:
        """What says that nobody real is on it. Raises Fault where nothing does."""
        known = sandbox_at(self.base)
        if known is not None:
            return f"a public sandbox ({known.title})"
        if is_loopback(self.base):
            return "on this machine"
        try:
            patients = [one for one in self.page("Patient?_count=50") if one.get("resourceType") == "Patient"]
        except HttpError:
            patients = []
        if patients and all(map(bears_our_tag, patients)):
            return "every Patient of its first page was seeded by this app"
        if vouched:
            return "because you say so"
        raise Fault(
            f"nothing says that {self.base.origin} holds test data only: it is neither on this machine nor a "
            f"public sandbox, and its Patients were not seeded by this app. If nobody real is on it: {VOUCH}"
        )


@contextmanager
def target_at(base: Url, token: str | None = None) -> Iterator[Target]:
    """The server at that base."""
    clients = EhrClients()
    try:
        yield Target(clients.of(issuer_of(base)), token)
    finally:
        clients.close()
