"""Addresses, names, proxies, certificates: what stands between the client and the wrong machine."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from launch.errors import ConfigurationError, HttpError, HttpProblem
from launch.http import EhrClient, Limits
from launch.issuers_table import load_issuers
from launch.lookups import Lookups
from tests.support.sandbox import LONG

from .test_http import TOKEN, failure, issuer_of

ONCE = Limits(connect=LONG, read=LONG, total=LONG, tries=1)


class Names:
    """What names resolve to, and where connections went: no test leaves this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: tuple[str, ...]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.connected: list[str] = []
        monkeypatch.setattr("launch.connections.socket.getaddrinfo", self._resolve)
        monkeypatch.setattr("launch.connections.create_connection", self._connect)

    def _resolve(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    def _connect(self, address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        self.connected.append(address[0])
        raise ConnectionRefusedError


def get(fhir_base: str, **settings: Any) -> HttpError:
    """A read of an EHR registered at this base, as in production; how it fails."""
    table = {"fhir_base": fhir_base, "client_id": "app", **settings}
    [issuer] = load_issuers({"hospital": table})
    with EhrClient(issuer) as client:
        return failure(client.fhir, "GET", "Patient/p1", token=TOKEN, limits=ONCE)


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "100.100.100.200",
        "127.0.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "2852039166",  # 169.254.169.254 as one number
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "127.1",
        "[::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
    ],
)
def test_a_literal_address_nobody_allowed_is_refused_before_a_socket_is_opened(monkeypatch, host):
    names = Names(monkeypatch, ("93.184.215.14",))
    error = get(f"https://{host}/fhir")
    assert (error.problem, error.maybe_acted) == (HttpProblem.REFUSED_ADDRESS, False)
    assert names.asked == names.connected == []


@pytest.mark.threat("5.1")
@pytest.mark.parametrize("name", ["metadata.google.internal", "instance-data", "localhost", "ehr.example"])
@pytest.mark.parametrize(
    "address", ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "127.0.0.1"]
)
def test_a_name_that_resolves_to_metadata_or_to_ourselves_is_refused(monkeypatch, name, address):
    names = Names(monkeypatch, (address,))
    error = get(f"https://{name}/fhir", allow_private=True)
    assert (error.problem, error.maybe_acted) == (HttpProblem.REFUSED_ADDRESS, False)
    assert names.asked == [name]
    assert names.connected == []


def test_a_name_that_resolves_to_a_public_address_is_connected_to_by_that_address(monkeypatch):
    names = Names(monkeypatch, ("93.184.215.14",))
    assert get("https://ehr.example/fhir").problem is HttpProblem.CONNECTION
    assert names.connected == ["93.184.215.14"]


def test_an_ehr_inside_the_hospital_needs_the_administrators_word(monkeypatch):
    names = Names(monkeypatch, ("10.1.2.3",))
    assert get("https://ehr.hospital.example/fhir").problem is HttpProblem.REFUSED_ADDRESS
    assert names.connected == []
    assert get("https://ehr.hospital.example/fhir", allow_private=True).problem is HttpProblem.CONNECTION
    assert names.connected == ["10.1.2.3"]


@pytest.mark.threat("5.1")
def test_one_bad_address_among_good_ones_spoils_them_all(monkeypatch):
    names = Names(monkeypatch, ("93.184.215.14", "169.254.169.254"))
    assert get("https://ehr.example/fhir").problem is HttpProblem.REFUSED_ADDRESS
    assert names.connected == []


@pytest.mark.threat("5.1")
def test_a_name_is_looked_up_once_so_that_a_second_answer_cannot_differ(monkeypatch):
    names = Names(monkeypatch, ("93.184.215.14",), ("169.254.169.254",))
    assert get("https://ehr.example/fhir").problem is HttpProblem.CONNECTION
    assert names.asked == ["ehr.example"]
    assert names.connected == ["93.184.215.14"]


@pytest.mark.threat("5.1")
def test_every_new_connection_is_checked_anew(monkeypatch):
    names = Names(monkeypatch, ("93.184.215.14",), ("169.254.169.254",))
    [issuer] = load_issuers({"hospital": {"fhir_base": "https://ehr.example/fhir", "client_id": "app"}})
    with EhrClient(issuer) as client:
        assert failure(client.fhir, "GET", "a", limits=ONCE).problem is HttpProblem.CONNECTION
        assert failure(client.fhir, "GET", "a", limits=ONCE).problem is HttpProblem.REFUSED_ADDRESS
    assert names.connected == ["93.184.215.14"]


def test_a_refused_address_is_not_tried_again(monkeypatch):
    names = Names(monkeypatch, ("127.0.0.1",))
    [issuer] = load_issuers({"hospital": {"fhir_base": "https://ehr.example/fhir", "client_id": "app"}})
    with EhrClient(issuer) as client:
        assert failure(client.fhir, "GET", "a").problem is HttpProblem.REFUSED_ADDRESS
    assert names.asked == ["ehr.example"]


def test_the_next_address_is_tried_where_the_first_does_not_answer(monkeypatch):
    names = Names(monkeypatch, tuple(f"93.184.215.{last}" for last in range(9)))
    assert get("https://ehr.example/fhir").problem is HttpProblem.CONNECTION
    assert names.connected == [f"93.184.215.{last}" for last in range(4)]


def test_a_name_nobody_knows_is_a_failed_connection(monkeypatch):
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "ehr.example is not known")

    monkeypatch.setattr("launch.connections.socket.getaddrinfo", unknown)
    error = get("https://ehr.example/fhir")
    assert (error.problem, error.maybe_acted) == (HttpProblem.CONNECTION, False)


# A name server that does not answer


class Stalled:
    """A resolver that answers nothing until it is let go. Counts who asks, and who still waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stalled: str) -> None:
        self.let_go = threading.Event()
        self.asked: list[str] = []
        self._stalled = stalled
        monkeypatch.setattr("launch.lookups.socket.getaddrinfo", self._resolve)
        monkeypatch.setattr("launch.connections._LOOKUPS", Lookups())

    def _resolve(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host in self._stalled:
            self.let_go.wait(2 * LONG)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    @staticmethod
    def waiting() -> int:
        """Threads that look something up."""
        return sum(thread.name == "lookup" for thread in threading.enumerate())


@pytest.fixture
def stalled(monkeypatch) -> Iterator[Stalled]:
    resolver = Stalled(monkeypatch, "stalled.example", "localhost")
    yield resolver
    resolver.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "lookup":
            thread.join(LONG)


def timed(fhir_base: str, limits: Limits, **settings: Any) -> tuple[HttpError, float]:
    """How a read fails, and after how many seconds."""
    [issuer] = load_issuers(
        {"hospital": {"fhir_base": fhir_base, "client_id": "app", **settings}}, loopback=True
    )
    began = time.monotonic()
    with EhrClient(issuer) as client:
        return failure(client.fhir, "GET", "Patient/p1", limits=limits), time.monotonic() - began


@pytest.mark.threat("5.1", "5.12")
@pytest.mark.parametrize("base", ["https://stalled.example/fhir", "http://localhost:9/fhir"])
def test_a_lookup_that_stalls_ends_as_a_connection_that_comes_too_late(stalled, base):
    error, seconds = timed(base, Limits(connect=0.2, read=LONG, total=LONG))
    assert (error.problem, error.maybe_acted) == (HttpProblem.TIMEOUT, False)
    assert 0.2 <= seconds < LONG / 2
    assert len(stalled.asked) == 1


def test_a_connection_that_comes_too_late_ends_the_same_way(monkeypatch):
    def nobody_answers(_: tuple[str, int], timeout: float, **__: Any) -> None:
        time.sleep(timeout)
        raise TimeoutError("timed out")

    Names(monkeypatch, ("93.184.215.14",))
    monkeypatch.setattr("launch.connections.create_connection", nobody_answers)
    error, seconds = timed("https://ehr.example/fhir", Limits(connect=0.2, read=LONG, total=LONG))
    assert (error.problem, error.maybe_acted) == (HttpProblem.TIMEOUT, False)
    assert 0.2 <= seconds < LONG / 2


def test_the_total_deadline_ends_a_lookup_before_the_connect_limit_does(stalled):
    error, seconds = timed("https://stalled.example/fhir", Limits(connect=LONG, read=LONG, total=0.2))
    assert error.problem is HttpProblem.TIMEOUT
    assert seconds < LONG / 2


def test_many_addresses_that_do_not_answer_take_no_longer_than_the_deadline(monkeypatch):
    waited: list[float] = []

    def nobody_answers(_: tuple[str, int], timeout: float, **__: Any) -> None:
        waited.append(timeout)
        time.sleep(timeout)
        raise TimeoutError("timed out")

    Names(monkeypatch, tuple(f"93.184.215.{last}" for last in range(4)))
    monkeypatch.setattr("launch.connections.create_connection", nobody_answers)
    error, _ = timed("https://ehr.example/fhir", Limits(connect=0.2, read=LONG, total=0.3))
    assert error.problem is HttpProblem.TIMEOUT
    assert sum(waited) <= 0.3


def test_a_proxys_name_is_looked_up_within_the_same_limit(stalled):
    error, seconds = timed(
        "https://ehr.example/fhir",
        Limits(connect=0.2, read=LONG, total=LONG),
        proxy="http://stalled.example:3128",
    )
    assert error.problem is HttpProblem.TIMEOUT
    assert seconds < LONG / 2
    assert stalled.asked == ["stalled.example"]


@pytest.mark.threat("5.12")
def test_a_stalled_name_holds_four_threads_at_most_and_no_other_name_up(stalled, ehr):
    ehr.answer("/fhir/metadata", {})
    impatient = Limits(connect=0.05, read=LONG, total=LONG)
    for _ in range(9):
        assert timed("https://stalled.example/fhir", impatient)[0].problem is HttpProblem.TIMEOUT
    assert stalled.waiting() == len(stalled.asked) == 4
    with EhrClient(issuer_of(ehr)) as client:
        assert client.fhir("GET", "metadata", limits=ONCE).ok


def test_a_name_that_stalled_is_looked_up_anew_when_the_name_server_is_back(stalled):
    impatient = Limits(connect=0.05, read=LONG, total=LONG)
    for _ in range(5):
        timed("https://stalled.example/fhir", impatient)
    stalled.let_go.set()
    error, _ = timed("https://stalled.example:1/fhir", ONCE)
    assert error.problem is HttpProblem.CONNECTION  # looked up, and nobody listens there
    assert stalled.asked.count("stalled.example") == 5


def test_a_lookup_under_way_does_not_hold_up_the_end_of_the_program():
    program = """if True:
        import socket, threading
        from launch.lookups import Lookups
        socket.getaddrinfo = lambda *_, **__: threading.Event().wait(600)
        try:
            Lookups().addresses("stalled.example", 443, 0.05)
        except TimeoutError:
            print("too late")
    """
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "too late\n", "")
    assert time.monotonic() - began < 5 * LONG


def test_a_name_that_cannot_be_asked_for_is_a_failed_connection():
    """Each part of a name has 63 characters at most."""
    with pytest.raises(OSError, match="no name"):
        Lookups().addresses(f"{'a' * 64}.example", 443, 5)


# http


@pytest.mark.smart(1, 230, 232, 318)
@pytest.mark.parametrize(
    "base", ["http://ehr.example/fhir", "http://localhost/fhir", "http://127.0.0.1/fhir"]
)
def test_production_accepts_no_ehr_over_plain_http(base):
    with pytest.raises(ConfigurationError, match="must use https"):
        load_issuers({"hospital": {"fhir_base": base, "client_id": "app"}})


@pytest.mark.smart(1)
@pytest.mark.parametrize(
    "base", ["http://ehr.example/fhir", "http://10.0.0.1/fhir", "http://localhost.example/f"]
)
def test_the_demo_accepts_plain_http_to_this_machine_only(base):
    with pytest.raises(ConfigurationError, match="must use https"):
        load_issuers({"hospital": {"fhir_base": base, "client_id": "app"}}, loopback=True)
    assert load_issuers({"h": {"fhir_base": "http://[::1]:8080/fhir", "client_id": "app"}}, loopback=True)


@pytest.mark.smart(1)
def test_an_issuer_that_no_configuration_would_make_is_refused_by_the_client_too(monkeypatch):
    names = Names(monkeypatch, ("93.184.215.14",))
    [issuer] = load_issuers({"hospital": {"fhir_base": "https://ehr.example/fhir", "client_id": "app"}})
    clear = replace(issuer, fhir_base="http://ehr.example/fhir", oauth_hosts=("http://login.example",))
    with EhrClient(clear) as client:
        assert failure(client.fhir, "GET", "Patient/p1", token=TOKEN).problem is HttpProblem.FOREIGN_URL
        error = failure(client.oauth_post, "http://login.example/token", (("code", "c"),))
    assert error.problem is HttpProblem.FOREIGN_URL
    assert names.asked == names.connected == []


# The environment and proxies


@pytest.mark.threat("5.3")
def test_nothing_in_the_environment_changes_where_requests_go(ehr, other_host, monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, other_host.origin)
        monkeypatch.setenv(name.lower(), other_host.origin)
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password netrc-secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    ehr.answer("/fhir/metadata", {})
    with EhrClient(issuer_of(ehr)) as client:
        assert client.fhir("GET", "metadata").ok
    assert other_host.requests == []
    assert "authorization" not in ehr.requests[0].headers


def test_a_configured_proxy_is_used_whatever_the_environment_excepts(ehr, other_host, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    other_host.answer("/fhir/metadata", {"through": "proxy"})
    with EhrClient(issuer_of(ehr, proxy=other_host.origin)) as client:
        assert client.fhir("GET", "metadata").json() == {"through": "proxy"}
    assert ehr.requests == []
    assert other_host.requests[0].path == f"{ehr.base}/metadata"


def test_a_proxy_is_told_who_asks_and_the_ehr_is_not(ehr, other_host):
    other_host.answer("/fhir/metadata", {})
    address = other_host.origin.replace("//", "//user:proxy%2Dword@")
    with EhrClient(issuer_of(ehr, proxy=address)) as client:
        client.fhir("GET", "metadata")
    told = base64.b64encode(b"user:proxy-word").decode()
    assert other_host.requests[0].headers["proxy-authorization"] == f"Basic {told}"
    assert "authorization" not in other_host.requests[0].headers


def test_a_proxy_may_be_named_without_its_scheme(ehr, other_host):
    other_host.answer("/fhir/metadata", {})
    with EhrClient(issuer_of(ehr, proxy=other_host.origin.removeprefix("http://"))) as client:
        assert client.fhir("GET", "metadata").ok


def test_a_proxy_that_nobody_can_speak_to_is_a_connection_that_fails(ehr):
    issuer = issuer_of(ehr, proxy="socks5://proxy.example:1080")
    with EhrClient(issuer) as client, pytest.raises(HttpError) as caught:
        client.fhir("GET", "metadata")
    assert caught.value.problem is HttpProblem.CONNECTION


@pytest.mark.threat("5.1")
def test_a_proxy_is_not_asked_for_an_address_that_is_refused(other_host):
    error = get("https://169.254.169.254/fhir", proxy=other_host.origin)
    assert error.problem is HttpProblem.REFUSED_ADDRESS
    assert other_host.requests == []


def test_a_proxys_password_is_in_no_repr(ehr):
    issuer = issuer_of(ehr, proxy="http://user:proxy-word@proxy.example:3128")
    assert "proxy-word" not in repr(issuer)
    assert "proxy-word" not in repr(EhrClient(issuer))


# Certificates


def certificate(folder: Path, *names: str) -> Path:
    """A fresh self-signed certificate for these names, with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    alternatives: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


class _Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def tls_server(context: ssl.SSLContext) -> Iterator[str]:
    """An https server on loopback; its FHIR base."""
    server = HTTPServer(("127.0.0.1", 0), _Hello)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/fhir"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def read_over_tls(base: str, ca_bundle: Path | None) -> HttpProblem | None:
    table = {"fhir_base": base, "client_id": "app"}
    if ca_bundle:
        table["ca_bundle"] = str(ca_bundle)
    [issuer] = load_issuers({"hospital": table}, loopback=True)
    with EhrClient(issuer) as client:
        try:
            client.fhir("GET", "metadata", token=TOKEN, limits=ONCE).require_ok()
        except HttpError as error:
            return error.problem
    return None


@pytest.mark.smart(1, 230, 318)
def test_a_certificate_of_the_hospitals_own_authority_is_believed_where_it_is_configured(tmp_path):
    pem = certificate(tmp_path, "127.0.0.1")
    with tls_server(server_context(pem)) as base:
        assert read_over_tls(base, pem) is None


@pytest.mark.smart(1, 230, 318)
def test_a_certificate_nobody_vouches_for_is_refused(tmp_path):
    pem = certificate(tmp_path, "127.0.0.1")
    with tls_server(server_context(pem)) as base:
        assert read_over_tls(base, None) is HttpProblem.TLS


@pytest.mark.smart(1, 230, 318)
def test_a_certificate_for_another_name_is_refused(tmp_path):
    pem = certificate(tmp_path, "other.example")
    with tls_server(server_context(pem)) as base:
        assert read_over_tls(base, pem) is HttpProblem.TLS


@pytest.mark.smart(230, 232, 318)
def test_a_server_that_speaks_no_tls_1_2_is_refused(tmp_path):
    pem = certificate(tmp_path, "127.0.0.1")
    server, lenient = server_context(pem), ssl.create_default_context(cafile=str(pem))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for context in (server, lenient):
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
        server.maximum_version = ssl.TLSVersion.TLSv1_1
    with tls_server(server) as base:
        port = int(base.rsplit(":", 1)[1].split("/")[0])
        with (
            socket.create_connection(("127.0.0.1", port), 2) as plain,
            lenient.wrap_socket(plain, server_hostname="127.0.0.1") as spoken,
        ):
            assert spoken.version() == "TLSv1.1"  # the server does answer who still asks so
        assert read_over_tls(base, pem) is HttpProblem.TLS
