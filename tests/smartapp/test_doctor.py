"""`smartapp doctor` against the sandbox EHR, each of its quirks, and servers that are set up wrong or lie."""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from joserfc.jwk import RSAKey

from launch.sandbox import Client, RunningSandbox
from launch.sandbox.capability import capability_statement, openid_configuration, smart_configuration
from launch.sandbox.config import ClientType, SandboxConfig
from launch.sandbox.credentials import CredentialKind
from launch.sandbox.quirks import Quirks
from smartapp.commands.config_check import CheckId as ConfigCheckId
from smartapp.commands.demo import free_port
from smartapp.commands.doctor import connection
from smartapp.commands.doctor.command import run
from smartapp.commands.doctor.ids import CheckId
from smartapp.configuration.signing_keys import KeyAlgorithm, PublishedKeys, SigningKeys
from tests.support.sandbox import start_sandbox

PATIENT = "ready-musculoskeletal"
NAMES = ("Okafor", "Rivera")
SECRET = "correct-horse-battery-staple"
BASE_URL = "http://127.0.0.1:1"


@dataclass
class Report:
    """What one run said."""

    status: int
    text: str
    checks: list[dict[str, str]]

    def of(self, id_: CheckId, about: str | None = None) -> tuple[str, str]:
        """How the one check of that id ended, and what it says."""
        [found] = [
            (check["status"], check["says"])
            for check in self.checks
            if check["id"] == id_.value and about in (None, check["about"])
        ]
        return found

    def ids(self, status: str) -> set[str]:
        return {check["id"] for check in self.checks if check["status"] == status}

    def has(self, id_: CheckId) -> bool:
        return any(check["id"] == id_.value for check in self.checks)


Doctor = Callable[..., Report]


@pytest.fixture
def secrets_seen() -> list[str]:
    """What must be in no output of the test; a test adds its own."""
    return [SECRET, "BEGIN", PATIENT, "Okafor"]


@pytest.fixture
def doctor(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch, secrets_seen) -> Doctor:
    """Runs the command on an issuers file of one EHR at `base`; more keywords are its keys."""
    for name in ("SMARTAPP_ISSUERS_FILE", "SMARTAPP_SITE_FILE", "SMARTAPP_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def examine(base: str, *arguments: str, app: str = BASE_URL, **table: Any) -> Report:
        entries = {
            "fhir_base": base,
            "client_id": "app",
            "profile": "sandbox",
            "frame_ancestors": ["https://ehr.example"],
            **table,
        }
        path = tmp_path / "issuers.toml"
        lines = [f"{name} = {json.dumps(value)}" for name, value in entries.items()]
        path.write_text("[issuers.hospital]\n" + "\n".join(lines))
        call = ["hospital", "--issuers", str(path), "--base-url", app, "--loopback", "--json", *arguments]
        capsys.readouterr()
        status = run(call)
        out = capsys.readouterr()
        for secret in secrets_seen:
            assert secret not in out.out + out.err
        if status == 2:
            return Report(status, out.err, [])
        answer = json.loads(out.out)
        assert set(answer) == {"issuer", "fhir_base", "checked_at", "checks", "counts"}
        assert sum(answer["counts"].values()) == len(answer["checks"])
        assert status == (1 if answer["counts"]["failure"] else 0)
        return Report(status, out.out, answer["checks"])

    return examine


# The sandbox EHR, with a token


@dataclass
class Ehr:
    """A sandbox, a token that may do everything in it, and its charges."""

    running: RunningSandbox
    token: str

    @property
    def base(self) -> str:
        return self.running.config.fhir_base

    def charges(self) -> list[dict[str, Any]]:
        with self.running.sandbox.database.read() as connection:
            rows = connection.execute("SELECT body FROM resource WHERE type = 'ChargeItem'").fetchall()
        return [json.loads(body) for (body,) in rows]

    def quirk(self, **switches: Any) -> None:
        for name, value in switches.items():
            setattr(self.running.sandbox.quirks, name, value)


@pytest.fixture
def make_ehr(tmp_path: Path, monkeypatch, secrets_seen) -> Iterator[Callable[..., Ehr]]:
    with ExitStack() as stack:

        def make(**client: Any) -> Ehr:
            client = {"scope": "system/*.cruds launch openid fhirUser", **client}
            registered = Client("app", **client)
            running = stack.enter_context(start_sandbox(tmp_path, clients=(registered,)))
            token = running.sandbox.credentials.issue(
                CredentialKind.ACCESS, "app", {"scope": "system/*.cruds", "context": {}}, 600
            )
            monkeypatch.setenv("EHR_TOKEN", token)
            secrets_seen.append(token)
            return Ehr(running, token)

        yield make


@pytest.fixture
def ehr(make_ehr) -> Ehr:
    return make_ehr()


SEARCHING = ("--token", "EHR_TOKEN", "--patient", PATIENT)


def test_a_sandbox_in_order_fails_nothing(doctor, ehr):
    report = doctor(ehr.base, *SEARCHING)
    assert report.status == 0
    assert report.ids("failure") == set()
    assert report.ids("warning") == {"tls.version"}  # a sandbox speaks plain http
    assert report.of(CheckId.SEARCH, "Observation")[0] == "ok"


@pytest.mark.parametrize(
    ("day", "status"),
    [(datetime(2026, 4, 15, tzinfo=UTC), "ok"), (datetime(2026, 11, 15, tzinfo=UTC), "warning")],
)
def test_it_tells_when_the_rules_of_the_site_end(tmp_path, doctor, ehr, capsys, day, status):
    doctor(ehr.base)
    site = tmp_path / "site.yaml"
    site.write_text("timezone: America/New_York\npayer: medicare\n")
    capsys.readouterr()
    call = ["hospital", "--issuers", str(tmp_path / "issuers.toml"), "--base-url", BASE_URL, "--loopback"]
    run([*call, "--site", str(site), "--json"], lambda: day)
    checks = json.loads(capsys.readouterr().out)["checks"]
    (found,) = (check for check in checks if check["id"] == CheckId.RULES.value)
    assert found["status"] == status
    assert "2026-12-31" in found["says"]


def test_without_a_token_everything_else_is_checked_and_that_is_said(doctor, ehr):
    report = doctor(ehr.base)
    assert report.status == 0
    status, says = report.of(CheckId.ACCESS)
    assert status == "warning"
    assert "--token" in says


def test_with_a_token_and_no_patient_no_search_is_made(doctor, ehr):
    assert "--patient" in doctor(ehr.base, "--token", "EHR_TOKEN").of(CheckId.SEARCH)[1]


def test_the_ehr_can_be_named_by_its_fhir_base(tmp_path, doctor, ehr, capsys):
    doctor(ehr.base)
    path = str(tmp_path / "issuers.toml")
    assert run([f"{ehr.base}/", "--issuers", path, "--base-url", BASE_URL, "--loopback"]) == 0


def test_as_text_it_is_one_line_a_check(tmp_path, doctor, ehr, capsys):
    doctor(ehr.base)
    run(["hospital", "--issuers", str(tmp_path / "issuers.toml"), "--base-url", BASE_URL, "--loopback"])
    *lines, count = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok|warning|failure) +[a-z.\-]+( [^:]+)?: .+", line) for line in lines)
    assert re.fullmatch(r"\d+ ok, \d+ warnings, 0 failures", count)


def test_nothing_is_written_without_being_asked_to(doctor, ehr):
    before = ehr.charges()
    doctor(ehr.base, *SEARCHING)
    assert ehr.charges() == before


# Each quirk of the sandbox, one by one


@dataclass(frozen=True)
class Told:
    """The check that finds a quirk, how it ends, and parts of its sentence: what is the case, what to do."""

    check: CheckId
    status: str
    says: str
    to_do: str
    about: str = ""
    value: Any = True
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Silent:
    """A quirk the doctor rightly says nothing of."""

    because: str
    value: object = True


ALL_QUIRKS = [item.name for item in fields(Quirks) if not item.name.startswith("_")]
QUIRKS: dict[str, Told | Silent] = {
    "require_category_for_observation_search": Told(
        CheckId.SEARCH,
        "warning",
        "wants a category or a code with every search of readings",
        "observation_needs_category",
        about="Observation",
    ),
    "id_token_without_kid": Silent(
        "an id_token is only seen when somebody signs in; with the one key that is published it is verified"
    ),
    "no_conditional_create": Told(
        CheckId.CHARGE_CONDITIONAL,
        "warning",
        "the app searches before it writes",
        "ask the EHR's team for conditional create",
    ),
    "no_charge_item_search": Told(
        CheckId.CHARGE_SEARCH,
        "warning",
        "somebody must confirm that there is none yet",
        "ask the EHR's team for search by patient and identifier",
    ),
    "no_charge_item_create": Told(
        CheckId.CHARGE_CREATE,
        "warning",
        "ChargeItem can't be created",
        "ask the EHR's team whether create can be switched on",
    ),
    "own_charge_operation": Told(
        CheckId.CHARGE_CREATE,
        "warning",
        "only by an operation of its own",
        "another way that the site turned on",
    ),
    "update_create": Silent("a create can be conditional, so no id of ours is ever needed"),
    "slow_ms": Told(
        CheckId.SPEED,
        "warning",
        "a large chart will take minutes to read",
        "ask the EHR's team whether that is usual",
        value=300,
    ),
    "fail_after_commit": Told(
        CheckId.WRITE_TEST,
        "warning",
        "was created, but an answer was lost or did not name it",
        "ask the EHR's team about the gateway",
        value=2,
        arguments=("--write-test",),
    ),
    "rate_limit": Told(
        CheckId.RATE_LIMIT,
        "warning",
        "asked for fewer requests (429)",
        "set requests_per_minute",
        value=3,
    ),
    **{
        name: Silent("a search of one page shows none of it")
        for name in ("cap_count", "foreign_next", "broken_next", "looping_next", "lost_next")
    },
    "refused_above": Told(
        CheckId.PAGE_SIZE,
        "failure",
        "refuses to be asked for a page of",
        "set page_size",
        value=50,
    ),
    "break_off": Silent("a single search may not be hit"),
    "incomplete_searches": Silent("the answers are as they should be"),
    "absolute_references": Told(
        CheckId.SEARCH,
        "failure",
        "by another address: https://inside.example/R4",
        "list it under fhir_base_aliases",
        about="ServiceRequest",
        value="https://inside.example/R4",
    ),
    "refused_category": Silent("a category that no search asks for"),
    "implants_only": Silent("what readings name is read by its id"),
    "no_last_updated": Silent("everything is read again instead"),
    "no_batch": Silent("records are looked at again one request at a time"),
    "one_id_at_a_time": Silent("records are read again one by one"),
    "closed_charts": Silent(
        "whom a user may see is asked for each row of the worklist", "Practitioner/somebody:some-patient"
    ),
    **{
        name: Silent("the doctor exports nothing; an export tells it")
        for name in ALL_QUIRKS
        if "export" in name
    },
    "refused": Told(CheckId.SEARCH, "failure", "403", "scope", about="Observation", value="Observation"),
    "failing": Told(CheckId.SEARCH, "failure", "500", "", about="Observation", value="Observation"),
}


@pytest.mark.parametrize("quirk", ALL_QUIRKS)
def test_each_quirk_is_told_as_a_person_needs_to_hear_it_or_rightly_not_at_all(
    doctor, ehr, monkeypatch, quirk
):
    assert quirk in QUIRKS, "say in QUIRKS what the doctor says of it, or why it rightly says nothing"
    expected = QUIRKS[quirk]
    # A busy machine is slow by itself; only the quirk that is about it may tell.
    monkeypatch.setattr(connection, "SLOW_SECONDS", 0.25 if quirk == "slow_ms" else 30)
    before = doctor(ehr.base, *SEARCHING)
    if isinstance(expected, Silent):
        ehr.quirk(**{quirk: expected.value})
        assert said_by(doctor(ehr.base, *SEARCHING)) == said_by(before)
        return
    assert (expected.check.value, expected.status) not in {
        (id_, status) for id_, _, status in said_by(before)
    }
    ehr.quirk(**{quirk: expected.value})
    found, text = doctor(ehr.base, *SEARCHING, *expected.arguments).of(expected.check, expected.about)
    assert found == expected.status
    assert expected.says in text
    assert expected.to_do in text


def said_by(report: Report) -> set[tuple[str, str, str]]:
    """How each check ended, without its words: the slowest answer takes another time in each run."""
    return {(check["id"], check["about"], check["status"]) for check in report.checks}


def test_each_quirk_stands_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
    for quirk in ALL_QUIRKS:
        assert f"`{quirk}`" in text, "docs/doctor.md, 'What a server does', has no row for it"


def test_a_lost_answer_is_not_seen_where_nothing_is_written(doctor, ehr):
    before = said_by(doctor(ehr.base, *SEARCHING))
    ehr.quirk(fail_after_commit=5)
    assert said_by(doctor(ehr.base, *SEARCHING)) == before


def test_charges_that_can_neither_be_found_nor_written_conditionally_rest_on_a_person(doctor, ehr):
    ehr.quirk(no_conditional_create=True, no_charge_item_search=True)
    status, says = doctor(ehr.base).of(CheckId.CHARGE_CONDITIONAL)
    assert status == "warning"
    assert "charges can't be looked up" in says
    assert "searches before it writes" not in says


def test_a_server_that_asks_for_a_pause_is_not_said_to_lack_what_was_not_tried(doctor, ehr):
    ehr.quirk(rate_limit=3)
    report = doctor(ehr.base, *SEARCHING)
    searches = [check for check in report.checks if check["id"] == CheckId.SEARCH.value]
    paused = [check for check in searches if check["status"] != "ok"]
    assert {check["says"] for check in paused} == {
        "not tried: no request was free (connection.rate-limit); run again in a minute"
    }
    assert report.of(CheckId.SEARCH, "Observation")[0] == "failure"  # nobody knows that readings can be had
    assert re.match(r"after \d+ answers the server asked for fewer", report.of(CheckId.RATE_LIMIT)[1])


def test_limits_of_our_own_that_the_checks_use_up_are_told_as_ours(doctor, ehr):
    status, says = doctor(ehr.base, *SEARCHING, requests_per_minute=6).of(CheckId.RATE_LIMIT)
    assert status == "warning"
    assert says.startswith("requests_per_minute is 6, which these checks use up")


def test_the_category_is_asked_for_by_a_profile_that_does_so(doctor, ehr):
    ehr.quirk(require_category_for_observation_search=True)
    assert doctor(ehr.base, *SEARCHING, profile="epic").of(CheckId.SEARCH, "Observation")[0] == "ok"


def test_an_id_of_ours_serves_where_a_create_cannot_be_conditional(doctor, ehr):
    ehr.quirk(no_conditional_create=True, update_create=True)
    assert "under an id of ours" in doctor(ehr.base).of(CheckId.CHARGE_CONDITIONAL)[1]


def test_a_slow_server_is_told(doctor, ehr, monkeypatch):
    monkeypatch.setattr(connection, "SLOW_SECONDS", 0.05)
    ehr.quirk(slow_ms=80)
    assert doctor(ehr.base).of(CheckId.SPEED)[0] == "warning"


def test_a_server_that_allows_few_requests_does_not_hold_the_doctor_up(doctor, ehr):
    ehr.quirk(rate_limit=1)
    began = time.monotonic()
    doctor(ehr.base, *SEARCHING)
    assert time.monotonic() - began < 50, "not the minute the server asks for"


@pytest.mark.threat("5.3")
def test_a_token_that_is_not_accepted_is_told_for_each_search(doctor, ehr, monkeypatch, secrets_seen):
    monkeypatch.setenv("OLD_TOKEN", "a-token-that-is-over")
    secrets_seen.append("a-token-that-is-over")
    report = doctor(ehr.base, "--token", "OLD_TOKEN", "--patient", PATIENT)
    assert "does not accept the token" in report.of(CheckId.SEARCH, "Observation")[1]
    assert report.status == 1


# The write test


def test_the_write_test_leaves_one_charge_marked_as_test_and_entered_in_error(doctor, ehr):
    before = {charge["id"] for charge in ehr.charges()}
    report = doctor(ehr.base, *SEARCHING, "--write-test")
    [made] = [charge for charge in ehr.charges() if charge["id"] not in before]
    assert report.of(CheckId.WRITE_TEST)[0] == "ok"
    assert made["status"] == "entered-in-error"
    assert made["meta"]["security"][0]["code"] == "HTEST"
    assert made["subject"]["reference"] == f"Patient/{PATIENT}"
    assert "cpt" not in json.dumps(made["code"])


def test_a_server_that_creates_twice_is_found_out_and_both_are_taken_back(doctor, ehr):
    before = {charge["id"] for charge in ehr.charges()}
    ehr.quirk(no_conditional_create=True)
    status, says = doctor(ehr.base, *SEARCHING, "--write-test").of(CheckId.WRITE_TEST)
    made = [charge for charge in ehr.charges() if charge["id"] not in before]
    assert [charge["status"] for charge in made] == ["entered-in-error"] * 2
    assert status == "warning"
    assert "created twice" in says


def test_a_test_charge_whose_answers_were_lost_is_found_and_taken_back(doctor, ehr):
    before = {charge["id"] for charge in ehr.charges()}
    ehr.quirk(fail_after_commit=2)
    report = doctor(ehr.base, *SEARCHING, "--write-test")
    [made] = [charge for charge in ehr.charges() if charge["id"] not in before]
    assert made["status"] == "entered-in-error"
    status, says = report.of(CheckId.WRITE_TEST)
    assert status == "warning"
    assert made["id"] in says


@pytest.mark.parametrize("lost", [1, 2])
def test_a_test_charge_nobody_can_find_is_named_for_a_person_to_look_for(doctor, ehr, lost):
    before = {charge["id"] for charge in ehr.charges()}
    ehr.quirk(no_conditional_create=True, no_charge_item_search=True, fail_after_commit=lost)
    status, says = doctor(ehr.base, *SEARCHING, "--write-test").of(CheckId.WRITE_TEST)
    made = [charge for charge in ehr.charges() if charge["id"] not in before]
    assert status == "failure"
    assert all(f"identifier {charge['identifier'][0]['value']}," in says for charge in made)
    assert sorted(charge["status"] for charge in made)[-lost:] == ["planned"] * lost
    known = [charge["id"] for charge in made if charge["status"] == "entered-in-error"]
    assert all(f"ChargeItem/{id_} is so already" in says for id_ in known)


def test_a_write_test_the_server_asks_a_pause_for_does_not_blame_the_charge(doctor, ehr):
    before = ehr.charges()
    ehr.quirk(rate_limit=3)
    status, says = doctor(ehr.base, *SEARCHING, "--write-test").of(CheckId.WRITE_TEST)
    assert (status, says) == (
        "failure",
        "not made: no request was free (connection.rate-limit); run again in a minute",
    )
    assert ehr.charges() == before


def test_where_nothing_can_be_created_no_write_is_tried(doctor, ehr):
    ehr.quirk(no_charge_item_create=True)
    status, says = doctor(ehr.base, *SEARCHING, "--write-test").of(CheckId.WRITE_TEST)
    assert status == "warning"
    assert "could not be taken back" in says


def test_a_write_test_without_a_token_fails_and_writes_nothing(doctor, ehr):
    before = ehr.charges()
    report = doctor(ehr.base, "--patient", PATIENT, "--write-test")
    assert report.of(CheckId.WRITE_TEST)[0] == "failure"
    assert ehr.charges() == before


# A backend client and our own keys


@pytest.fixture
def keys(tmp_path: Path, monkeypatch) -> SigningKeys:
    folder = SigningKeys(tmp_path / "keys")
    folder.new(KeyAlgorithm.ES384, datetime.now(UTC))
    monkeypatch.setenv("SMARTAPP_SIGNING_KEYS", str(folder.folder))
    return folder


@dataclass
class Confidential:
    """An EHR that knows our keys, and an address of ours that serves them."""

    ehr: Ehr
    app: Tricked

    def examined_by(self, doctor: Doctor, *arguments: str) -> Report:
        return doctor(
            self.ehr.base,
            *arguments,
            app=self.app.origin,
            client_auth="private-key-jwt",
            signing_key="@keys",
        )


@pytest.fixture
def confidential(make_ehr, keys, tricked) -> Confidential:
    made = make_ehr(
        type=ClientType.ASYMMETRIC,
        jwks=PublishedKeys((), keys.folder).jwks(),
        grant_types=("client_credentials", "authorization_code"),
    )
    tricked.routes["/.well-known/jwks.json"] = lambda: PublishedKeys((), keys.folder).jwks()
    return Confidential(made, tricked)


@pytest.mark.smart(226, 233, 236, 239, 293, 294)
def test_a_backend_client_searches_without_being_given_a_token(doctor, confidential):
    report = confidential.examined_by(doctor, "--patient", PATIENT)
    assert report.status == 0
    assert "signed assertion" in report.of(CheckId.ACCESS)[1]
    assert report.of(CheckId.SEARCH, "Encounter")[0] == "ok"
    assert report.of(CheckId.KEYS_PUBLISHED)[0] == report.of(CheckId.KEYS_PRIVATE)[0] == "ok"


def test_a_rotation_under_way_is_a_reminder(doctor, confidential, keys):
    keys.rotate(KeyAlgorithm.ES384, datetime.now(UTC))
    status, says = confidential.examined_by(doctor).of(CheckId.KEYS_ROTATION)
    assert status == "warning"
    assert "--retire" in says


def test_a_key_set_that_lacks_the_new_key_is_a_failure(doctor, confidential, keys):
    only_old = PublishedKeys((), keys.folder).jwks()
    confidential.app.routes["/.well-known/jwks.json"] = only_old
    keys.rotate(KeyAlgorithm.ES384, datetime.now(UTC))
    assert confidential.examined_by(doctor).of(CheckId.KEYS_ROTATION)[0] == "failure"


def test_a_key_set_of_somebody_else_is_a_failure(doctor, confidential):
    confidential.app.routes["/.well-known/jwks.json"] = {"keys": []}
    status, says = confidential.examined_by(doctor).of(CheckId.KEYS_PUBLISHED)
    assert status == "failure"
    assert "is not published" in says


@pytest.mark.smart(295)
def test_a_private_key_that_is_published_is_the_loudest_failure(doctor, confidential, keys, secrets_seen):
    leaked = RSAKey.generate_key(2048).as_dict(private=True)
    secrets_seen.append(leaked["d"])
    served = [*PublishedKeys((), keys.folder).jwks()["keys"], leaked]
    confidential.app.routes["/.well-known/jwks.json"] = {"keys": served}
    status, says = confidential.examined_by(doctor).of(CheckId.KEYS_PRIVATE)
    assert status == "failure"
    assert "replace every key" in says


def test_a_key_set_that_cannot_be_read_is_a_failure(doctor, confidential):
    del confidential.app.routes["/.well-known/jwks.json"]
    assert confidential.examined_by(doctor).of(CheckId.KEYS_PUBLISHED)[0] == "failure"


def test_an_assertion_the_server_refuses_says_what_to_look_at(doctor, make_ehr, keys, tricked):
    other = SigningKeys(keys.folder.parent / "others")
    other.new(KeyAlgorithm.ES384, datetime.now(UTC))
    made = make_ehr(
        type=ClientType.ASYMMETRIC,
        jwks=PublishedKeys((), other.folder).jwks(),
        grant_types=("client_credentials",),
    )
    report = Confidential(made, tricked).examined_by(doctor, "--patient", PATIENT)
    assert report.of(CheckId.ACCESS)[0] == "failure"
    assert "invalid_client" in report.of(CheckId.ACCESS)[1]


def test_a_client_that_may_not_act_by_itself_is_a_warning(doctor, make_ehr, keys, tricked):
    made = make_ehr(
        type=ClientType.ASYMMETRIC,
        jwks=PublishedKeys((), keys.folder).jwks(),
        grant_types=("authorization_code",),
    )
    report = Confidential(made, tricked).examined_by(doctor, "--patient", PATIENT)
    assert report.of(CheckId.ACCESS)[0] == "warning"
    assert not report.has(CheckId.SEARCH)


@pytest.mark.smart(10)
def test_a_secret_of_the_issuers_file_is_in_no_output(doctor, ehr, monkeypatch):
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    report = doctor(ehr.base, *SEARCHING, client_auth="secret-basic", client_secret="CLIENT_SECRET")
    assert report.of(CheckId.CLIENT_AUTH)[0] == "ok"


# Servers that are set up wrong, or lie


class Tricked:
    """A server of documents that a test bends. Its documents are those of a sandbox at the same address."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Any] = {}
        """A path's document (JSON), bytes, or a function that makes either; a (status, document) pair."""
        self.clock_off = timedelta()
        self.content_type = "application/json"
        self.requests: list[str] = []
        tricked = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tricked.requests.append(self.path)
                answer = tricked.routes.get(urlsplit(self.path).path, (404, {}))
                answer = answer(self) if callable(answer) and answer.__code__.co_argcount else answer
                answer = answer() if callable(answer) else answer
                status, document = answer if isinstance(answer, tuple) else (200, answer)
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response_only(status)
                self.send_header("Date", format_datetime(datetime.now(UTC) + tricked.clock_off, usegmt=True))
                self.send_header("Content-Type", tricked.content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.origin = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"
        self.base = f"{self.origin}/fhir/r4"
        self._documents()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def _documents(self) -> None:
        plain = f"http://127.0.0.1:{self._server.server_port}"
        config = SandboxConfig(base_url=plain, as_of=date(2026, 4, 1))

        def of(document: dict[str, Any]) -> Any:
            return json.loads(json.dumps(document).replace(plain, self.origin))

        self.smart = of(smart_configuration(config))
        self.openid = of(openid_configuration(config))
        self.statement = of(capability_statement(config))
        self.keys: dict[str, Any] = {"keys": [_rsa().as_dict(private=False)]}
        self.routes |= {
            "/fhir/r4/metadata": lambda: self.statement,
            "/fhir/r4/.well-known/smart-configuration": lambda: self.smart,
            "/auth/.well-known/openid-configuration": lambda: self.openid,
            "/auth/jwks": lambda: self.keys,
        }

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_KEPT: list[RSAKey] = []


def _rsa() -> RSAKey:
    if not _KEPT:
        _KEPT.append(RSAKey.generate_key(2048))
    return _KEPT[0]


@pytest.fixture
def tricked() -> Iterator[Tricked]:
    server = Tricked()
    yield server
    server.close()


def test_the_bent_server_is_in_order_before_it_is_bent(doctor, tricked):
    report = doctor(tricked.base)
    assert report.status == 0
    assert report.ids("warning") == {"tls.version", "access"}


def test_an_openid_configuration_of_another_issuer_is_a_failure(doctor, tricked):
    tricked.openid["issuer"] = "https://elsewhere.example/auth"
    status, says = doctor(tricked.base).of(CheckId.IDENTITY_ISSUER)
    assert status == "failure"
    assert "set oidc_issuer" in says
    assert "elsewhere" not in says


def test_a_server_that_does_not_name_its_issuer_needs_a_setting(doctor, tricked):
    del tricked.smart["issuer"]
    assert "set oidc_issuer" in doctor(tricked.base).of(CheckId.IDENTITY_ISSUER)[1]
    report = doctor(tricked.base, oidc_issuer=f"{tricked.origin}/auth")
    assert report.of(CheckId.IDENTITY_ISSUER)[0] == report.of(CheckId.IDENTITY_KEYS)[0] == "ok"


@pytest.mark.parametrize(
    ("keys", "status", "says"),
    [
        ({"keys": []}, "failure", "no key an id_token can be verified with"),
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, "failure", "no key"),
        ((404, {}), "failure", "can't be read"),
    ],
)
def test_keys_that_verify_nothing_are_a_failure(doctor, tricked, keys, status, says):
    tricked.routes["/auth/jwks"] = keys
    found, text = doctor(tricked.base).of(CheckId.IDENTITY_KEYS)
    assert found == status
    assert says in text


def test_several_keys_without_a_name_are_a_warning(doctor, tricked):
    nameless = [RSAKey.generate_key(2048, auto_kid=False).as_dict(private=False) for _ in range(2)]
    tricked.keys = {"keys": [{name: key[name] for name in ("kty", "n", "e")} for key in nameless]}
    assert doctor(tricked.base).of(CheckId.IDENTITY_KEYS)[0] == "warning"


@pytest.mark.parametrize(
    ("methods", "status"), [(None, "warning"), ([], "warning"), (["plain"], "failure"), (["S256"], "ok")]
)
def test_pkce_that_is_not_advertised_is_told(doctor, tricked, methods, status):
    tricked.smart["code_challenge_methods_supported"] = methods
    assert doctor(tricked.base).of(CheckId.PKCE)[0] == status


def test_an_endpoint_over_plain_http_is_a_failure(doctor, tricked):
    tricked.smart["token_endpoint"] = "http://login.hospital.example/token"
    report = doctor(tricked.base)
    assert report.of(CheckId.ENDPOINT, "token_endpoint") == (
        "failure",
        "http://login.hospital.example is not https: the EHR's team must correct it",
    )


def test_an_endpoint_on_a_foreign_host_says_what_to_list(doctor, tricked):
    tricked.smart["authorization_endpoint"] = "https://login.hospital.example/authorize?tenant=secret-tenant"
    status, says = doctor(tricked.base).of(CheckId.ENDPOINT, "authorization_endpoint")
    assert status == "failure"
    assert "https://login.hospital.example is not the FHIR server's host" in says
    assert "oauth_hosts" in says
    assert "secret-tenant" not in says
    listed = doctor(tricked.base, oauth_hosts=["https://login.hospital.example"])
    assert listed.of(CheckId.ENDPOINT, "authorization_endpoint")[0] == "ok"


def test_every_wrong_endpoint_is_told_at_once(doctor, tricked):
    tricked.smart |= {"token_endpoint": "http://a.example/t", "jwks_uri": "https://b.example/jwks"}
    del tricked.smart["authorization_endpoint"]
    report = doctor(tricked.base)
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert report.of(CheckId.ENDPOINT, name)[0] == "failure"
    assert report.of(CheckId.REDIRECT_URI)[0] == "ok"


def test_a_server_of_smart_1_is_read_from_its_capability_statement(doctor, tricked):
    del tricked.routes["/fhir/r4/.well-known/smart-configuration"]
    report = doctor(tricked.base, profile="generic", oidc_issuer=f"{tricked.origin}/auth")
    assert report.of(CheckId.DISCOVERY)[0] == "warning"
    assert report.of(CheckId.SCOPE_STYLE)[1] == "asked for as v1"
    assert report.status == 0


def test_a_server_without_any_discovery_is_a_failure(doctor, tricked):
    del tricked.routes["/fhir/r4/.well-known/smart-configuration"]
    del tricked.statement["rest"][0]["security"]
    assert "no oauth-uris" in doctor(tricked.base).of(CheckId.DISCOVERY)[1]


@pytest.mark.threat("5.13")
@pytest.mark.parametrize("path", ["metadata", ".well-known/smart-configuration"])
def test_a_web_page_instead_of_json_is_told_as_one(doctor, tricked, path):
    page = f"<html><body>Sign in, {NAMES[0]}. {SECRET}</body></html>"
    tricked.routes[f"/fhir/r4/{path}"] = page.encode()
    tricked.content_type = "text/html"
    report = doctor(tricked.base)
    check = CheckId.METADATA if path == "metadata" else CheckId.DISCOVERY
    assert report.of(check)[0] == "failure"
    assert "web page" in report.of(check)[1]


@pytest.mark.parametrize(
    ("minutes", "status"), [(10, "failure"), (-10, "failure"), (1.5, "warning"), (0, "ok")]
)
def test_clocks_that_differ_are_told_before_sign_ins_are_refused(doctor, tricked, minutes, status):
    tricked.clock_off = timedelta(minutes=minutes)
    found, says = doctor(tricked.base).of(CheckId.CLOCK)
    assert found == status
    assert status != "failure" or "NTP" in says


def test_another_fhir_version_is_a_failure(doctor, tricked):
    tricked.statement["fhirVersion"] = "3.0.2"
    assert "no FHIR R4 base" in doctor(tricked.base).of(CheckId.FHIR_VERSION)[1]


def test_a_missing_search_says_what_will_be_missing(doctor, tricked):
    resources = tricked.statement["rest"][0]["resource"]
    for resource in resources:
        if resource["type"] in {"Consent", "Observation"}:
            resource["interaction"] = [{"code": "read"}]
    report = doctor(tricked.base)
    assert report.of(CheckId.METADATA_SEARCH, "Consent") == (
        "warning",
        "no search is declared: consent must be confirmed by hand",
    )
    assert report.of(CheckId.METADATA_SEARCH, "Observation")[0] == "failure"


def test_an_undeclared_parameter_is_a_warning(doctor, tricked):
    for resource in tricked.statement["rest"][0]["resource"]:
        if resource["type"] == "Encounter":
            resource["searchParam"] = [{"name": "patient"}]
    status, says = doctor(tricked.base).of(CheckId.METADATA_SEARCH, "Encounter")
    assert status == "warning"
    assert "no search by date" in says


def test_a_charge_operation_of_the_vendors_own_is_told(doctor, tricked):
    for resource in tricked.statement["rest"][0]["resource"]:
        if resource["type"] == "ChargeItem":
            resource["interaction"] = [{"code": "read"}]
            resource["operation"] = [{"name": "create"}]
    report = doctor(tricked.base)
    assert "an operation of its own" in report.of(CheckId.CHARGE_CREATE)[1]
    assert report.of(CheckId.CHARGE_UPDATE)[0] == "warning"


@pytest.mark.parametrize(
    ("auth", "status"),
    [("public", "failure"), ("secret-basic", "ok"), ("secret-post", "failure")],
)
def test_a_way_to_prove_ourselves_that_is_not_supported_is_a_failure(
    doctor, tricked, monkeypatch, auth, status
):
    monkeypatch.setenv("CLIENT_SECRET", SECRET)
    tricked.smart["token_endpoint_auth_methods_supported"] = ["client_secret_basic"]
    tricked.smart["capabilities"] = ["launch-ehr", "context-ehr-patient", "sso-openid-connect"]
    secret = {} if auth == "public" else {"client_secret": "CLIENT_SECRET"}
    found, says = doctor(tricked.base, client_auth=auth, **secret).of(CheckId.CLIENT_AUTH)
    assert found == status
    assert status == "ok" or "secret-basic" in says


def test_an_algorithm_the_server_does_not_take_is_a_failure(doctor, tricked, keys):
    tricked.smart["token_endpoint_auth_signing_alg_values_supported"] = ["RS384"]
    report = doctor(tricked.base, client_auth="private-key-jwt", signing_key="@keys")
    assert "change signing_algorithm" in report.of(CheckId.CLIENT_AUTH)[1]


def test_a_scope_the_server_does_not_list_says_what_is_lost(doctor, tricked):
    listed = [scope for scope in tricked.smart["scopes_supported"] if "Consent" not in scope]
    tricked.smart["scopes_supported"] = listed
    status, says = doctor(tricked.base).of(CheckId.SCOPES, "patient/Consent.rs")
    assert status == "warning"
    assert "consent must be confirmed by hand" in says


def test_a_wildcard_covers_every_scope(doctor, tricked):
    tricked.smart["scopes_supported"] = [
        "launch",
        "openid",
        "fhirUser",
        "online_access",
        "patient/*.cruds",
        "user/*.rs",
    ]
    assert doctor(tricked.base).of(CheckId.SCOPES)[0] == "ok"


def test_a_scope_style_the_server_does_not_know_is_a_warning(doctor, tricked):
    tricked.smart["capabilities"] = ["permission-v1", "client-public"]
    assert doctor(tricked.base, scope_style="v2").of(CheckId.SCOPE_STYLE)[0] == "warning"
    assert doctor(tricked.base, scope_style="auto").of(CheckId.SCOPE_STYLE) == ("ok", "asked for as v1")


def test_a_launch_that_is_not_advertised_is_a_warning(doctor, tricked):
    tricked.smart["capabilities"].remove("launch-ehr")
    assert "launch-ehr" in doctor(tricked.base).of(CheckId.LAUNCH)[1]


# Searches that lie


@dataclass
class Lying:
    """Search answers by type; the rest finds nothing."""

    entries: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __call__(self, handler: BaseHTTPRequestHandler) -> Any:
        type_ = urlsplit(handler.path).path.rsplit("/", 1)[1]
        assert handler.headers["Authorization"] == "Bearer the-token-itself"
        assert parse_qs(urlsplit(handler.path).query)["patient"]
        found = [{"resource": {"resourceType": type_, **entry}} for entry in self.entries.get(type_, [])]
        return {"resourceType": "Bundle", "type": "searchset", "entry": found}


@pytest.fixture
def lying(tricked, monkeypatch, secrets_seen) -> Lying:
    monkeypatch.setenv("EHR_TOKEN", "the-token-itself")
    secrets_seen.append("the-token-itself")
    answers = Lying()

    def answer(handler: BaseHTTPRequestHandler) -> Any:
        return answers(handler)

    for resource in tricked.statement["rest"][0]["resource"]:
        tricked.routes[f"/fhir/r4/{resource['type']}"] = answer
    return answers


def test_a_server_that_ignores_the_date_is_found_out(doctor, tricked, lying):
    lying.entries["Observation"] = [{"id": "o1", "subject": {"reference": f"Patient/{PATIENT}"}}]
    report = doctor(tricked.base, *SEARCHING)
    assert report.of(CheckId.IGNORED_DATE)[0] == "warning"
    assert report.of(CheckId.IGNORED_IDENTIFIER)[0] == "ok"


def test_a_server_that_ignores_the_identifier_must_not_be_written_to(doctor, tricked, lying):
    lying.entries["ChargeItem"] = [{"id": "c1", "subject": {"reference": f"Patient/{PATIENT}"}}]
    status, says = doctor(tricked.base, *SEARCHING).of(CheckId.IGNORED_IDENTIFIER)
    assert status == "failure"
    assert "another charge for ours" in says


@pytest.mark.threat("5.12", "5.13")
def test_a_server_that_gives_another_patients_data_is_a_failure(doctor, tricked, lying):
    lying.entries["Encounter"] = [{"id": "e1", "subject": {"reference": f"Patient/{NAMES[1]}"}}]
    status, says = doctor(tricked.base, *SEARCHING).of(CheckId.SEARCH, "Encounter")
    assert status == "failure"
    assert "another patient's data" in says
    assert NAMES[1] not in says


def test_a_create_that_does_not_say_what_it_made_is_for_a_person_to_look_up(doctor, tricked, lying):
    def answer(handler: BaseHTTPRequestHandler) -> Any:
        return (201, b"") if handler.command == "POST" else (404, {})

    tricked.routes["/fhir/r4/ChargeItem"] = answer
    status, says = doctor(tricked.base, *SEARCHING, "--write-test").of(CheckId.WRITE_TEST)
    assert status == "failure"
    assert re.search("look in the EHR for a test charge with the identifier write-test-[0-9a-f]{16},", says)


def test_an_outcome_beside_no_match_is_not_taken_for_one(doctor, tricked, lying):
    outcome = {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}}
    tricked.routes["/fhir/r4/Observation"] = {"resourceType": "Bundle", "entry": [outcome]}
    assert doctor(tricked.base, *SEARCHING).of(CheckId.IGNORED_DATE)[0] == "ok"


@pytest.mark.threat("5.3", "5.13")
def test_what_a_server_writes_is_never_repeated(doctor, tricked, lying):
    said = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": f"{NAMES[0]} {SECRET}"}]}
    tricked.routes["/fhir/r4/Observation"] = (403, said)
    report = doctor(tricked.base, *SEARCHING)
    assert "scope is not granted" in report.of(CheckId.SEARCH, "Observation")[1]


# TLS


def certificate(folder: Path, name: str = "127.0.0.1", days: int = 90) -> Path:
    """A self-signed certificate with its key, one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def over_tls(tmp_path: Path) -> Iterator[Callable[..., tuple[Tricked, Path]]]:
    servers: list[Tricked] = []

    def serve(**kind: Any) -> tuple[Tricked, Path]:
        pem = certificate(tmp_path, **kind)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        servers.append(Tricked(context))
        return servers[-1], pem

    yield serve
    for server in servers:
        server.close()


@pytest.mark.smart(1, 232)
def test_a_self_signed_certificate_says_to_set_a_ca_bundle(doctor, over_tls):
    server, _ = over_tls()
    report = doctor(server.base)
    status, says = report.of(CheckId.CONNECTION)
    assert status == "failure"
    assert "set ca_bundle" in says
    assert not report.has(CheckId.DISCOVERY)
    assert report.of(CheckId.REDIRECT_URI)[0] == "ok"


@pytest.mark.smart(1, 232)
def test_with_the_ca_bundle_version_and_days_are_told(doctor, over_tls):
    server, pem = over_tls()
    report = doctor(server.base, ca_bundle=str(pem))
    assert report.status == 0
    assert report.of(CheckId.TLS_VERSION) == ("ok", "TLSv1.3")
    status, says = report.of(CheckId.TLS_CERTIFICATE)
    assert status == "ok"
    assert "90 days" in says


def test_a_certificate_that_ends_soon_is_a_warning(doctor, over_tls):
    server, pem = over_tls(days=9)
    status, says = doctor(server.base, ca_bundle=str(pem)).of(CheckId.TLS_CERTIFICATE)
    assert status == "warning"
    assert "9 days" in says


@pytest.mark.smart(1, 232)
@pytest.mark.parametrize(
    ("kind", "says"),
    [({"days": -1}, "expired"), ({"name": "other.example"}, "for another name")],
)
def test_what_is_wrong_with_a_certificate_is_said(doctor, over_tls, kind, says):
    server, pem = over_tls(**kind)
    assert says in doctor(server.base, ca_bundle=str(pem)).of(CheckId.CONNECTION)[1]


@pytest.mark.smart(1, 232)
def test_an_authority_that_did_not_sign_it_is_said(doctor, over_tls, tmp_path):
    server, _ = over_tls()
    (tmp_path / "other").mkdir()
    other = certificate(tmp_path / "other")
    assert (
        "not signed by an authority in ca_bundle"
        in doctor(server.base, ca_bundle=str(other)).of(CheckId.CONNECTION)[1]
    )


def test_nobody_there_is_one_failure_and_our_own_side_is_still_told(doctor):
    report = doctor(f"http://127.0.0.1:{free_port()}/fhir")
    assert report.ids("failure") == {"connection"}
    assert report.of(CheckId.LAUNCH_URL)[1].endswith(f"{BASE_URL}/launch")


# Calls that can't be carried out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--write-test"], "needs --patient"),
        (["--patient", "a b"], "a patient's id"),
        (["--token", "NOT_SET", "--patient", "p1"], "NOT_SET, which is not set"),
        (["--site", "nowhere.yaml"], "nowhere.yaml"),
        (["--melt"], "--melt"),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_one_line_and_status_two(doctor, tricked, arguments, says):
    report = doctor(tricked.base, *arguments)
    assert report.status == 2
    assert says in report.text
    assert report.text.count("\n") == 1


@pytest.mark.threat("5.1")
def test_an_ehr_that_is_not_listed_is_refused_before_anything_is_asked(tmp_path, doctor, tricked, capsys):
    doctor(tricked.base)
    tricked.requests.clear()
    path = str(tmp_path / "issuers.toml")
    assert run(["https://other.example/fhir", "--issuers", path, "--base-url", BASE_URL, "--loopback"]) == 2
    assert "lists no such EHR" in capsys.readouterr().err
    assert tricked.requests == []


def test_a_name_that_stands_for_many_bases_needs_one_of_them(doctor, tricked):
    report = doctor(f"{tricked.origin}/*/r4")
    assert report.status == 2
    assert "give the base of one of them" in report.text


@pytest.mark.smart(1)
def test_loopback_is_refused_unless_asked_for(tmp_path, doctor, tricked, capsys):
    doctor(tricked.base)
    path = str(tmp_path / "issuers.toml")
    assert run(["hospital", "--issuers", path, "--base-url", "https://app.example"]) == 2
    assert "https" in capsys.readouterr().err


# The documentation


def test_every_check_is_explained_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text("utf-8")
    for check in (*CheckId, *ConfigCheckId):
        assert f"| `{check.value}` |" in text
