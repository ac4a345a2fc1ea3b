"""The worklist's first page of a large sweep, and a card: what a person, and an EHR, wait for.

Counted are the processor's time and that of the EHR's answers: what else a machine does is not the app's.
The list is made of the answers about a small population, as often as needed under other names; the EHR
answers each request after a time, with a Patient for each who is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import msgspec
from cryptography.fernet import Fernet
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey

from bench.charts import AS_OF, SITE
from bench.crowds import population
from bench.figure import Figure
from bench.measure import Spread
from bench.sizes import Sizes
from fhir_mappings.boiled import folder_of
from launch.authorization import digest
from launch.ports import LaunchSession, TokenSet
from smartapp.application import build
from smartapp.clock import ahead_of_the_machine
from smartapp.configuration.settings import Mode, Settings
from smartapp.configuration.site_file import read_site_file
from smartapp.ehr.reading.asking import AT_ONCE
from smartapp.population.blocks import BlockWriter
from smartapp.population.deciding import Settings as SweepSettings
from smartapp.population.engine import InProcess
from smartapp.population.listing import Listed
from smartapp.population.partition import shard_of
from smartapp.population.progress import Progress
from smartapp.population.shards import shard_name
from smartapp.population.shelves import FOLDERS, Answer, Folder, Shelf
from smartapp.population.state import State, shard_path, write_sealed
from smartapp.population.sweep import Asked, sweep
from smartapp.store import Store
from smartapp.web.security import session_cookie_name

FIRST_PAGE_SECONDS = 1.0
OWN_PART_OF_A_CARD = 150.0
EHR_SECONDS = 0.05
SHARDS = 64
EHR = "https://ehr.example/cds"
KEY = ECKey.generate_key("P-384", {"use": "sig", "alg": "ES384"}, auto_kid=True)
SCOPE = "openid fhirUser user/Patient.rs user/Practitioner.rs"
FAR = datetime(2100, 1, 1, tzinfo=UTC)
SESSION, COOKIE = "s" * 32, "c" * 43
BASE = "http://127.0.0.1:9/fhir"
APP = "http://127.0.0.1:5000"
NOON = datetime(AS_OF.year, AS_OF.month, AS_OF.day, 17, tzinfo=UTC)


class SlowEhr:
    """Answers a batch after a time, with whoever is asked for."""

    def __init__(self, issuer: Any) -> None:
        self.issuer, self.pause, self.requests = issuer, None, 0

    def resolve(self, target: str) -> str:
        return target

    def fhir(self, method: str, target: str, **more: Any) -> Any:
        self.requests += 1 if target else 0
        time.sleep(EHR_SECONDS)
        if method != "POST":
            return SimpleNamespace(status=200, ok=True, body=json.dumps(_resource(target)).encode())
        asked = [entry["request"]["url"] for entry in json.loads(more["body"])["entry"]]
        entries = [{"resource": _resource(url), "response": {"status": "200"}} for url in asked]
        bundle = {"resourceType": "Bundle", "type": "batch-response", "entry": entries}
        return SimpleNamespace(status=200, ok=True, body=json.dumps(bundle).encode(), headers={})


def _resource(url: str) -> dict[str, Any]:
    type_, _, logical_id = url.partition("/")
    name = [{"family": f"Synthetic-{logical_id[:8]}", "given": ["Patient"]}]
    return {"resourceType": type_, "id": logical_id, "birthDate": "1960-01-01", "name": name}


class _Clients:
    def __init__(self) -> None:
        self.one: SlowEhr | None = None

    def of(self, issuer: Any) -> SlowEhr:
        self.one = self.one or SlowEhr(issuer)
        return self.one

    def close(self) -> None:
        pass


def measure(sizes: Sizes) -> list[Figure]:
    with TemporaryDirectory(prefix="bench-") as folder:
        return _measured(Path(folder), sizes)


def _measured(folder: Path, sizes: Sizes) -> list[Figure]:
    settings = _settings(folder)
    answers = _answers(folder, settings)
    _state(folder / "state", settings, answers, sizes.listed)
    with closing(Store(settings.database_url, settings.keys)) as store:
        store.database.migrate()
        store.launches.create_session(_session(), TokenSet("token", FAR, SCOPE))
    first, again, requests = [], [], 0
    for _ in range(min(sizes.repetitions, 5)):
        clients = _Clients()
        app = build(settings, clients)  # type: ignore[arg-type]
        first.append(_page(app))
        requests = 0 if clients.one is None else clients.one.requests
        again.append(_page(app) + requests * EHR_SECONDS)
        first[-1] += requests * EHR_SECONDS
        app.extensions["smartapp"].close()
    app = build(settings, _Clients())  # type: ignore[arg-type]
    cards = [_card(app, number) for number in range(sizes.repetitions)]
    app.extensions["smartapp"].close()
    note = f"{sizes.listed:,} patients, {requests} requests of {EHR_SECONDS * 1e3:.0f} ms"
    return [
        Figure("worklist: first page of a process", Spread.of(first), "s", FIRST_PAGE_SECONDS, note=note),
        Figure("worklist: the next one", Spread.of(again), "s", FIRST_PAGE_SECONDS, note=note),
        Figure(
            "card: our own part",
            Spread.of([seconds * 1e3 for seconds in cards]),
            "ms",
            OWN_PART_OF_A_CARD,
            note=f"one of {sizes.listed:,} patients, of whom no list is opened yet",
        ),
    ]


def _page(app: Flask) -> float:
    browser = app.test_client()
    browser.set_cookie(session_cookie_name(SESSION), COOKIE, domain="127.0.0.1", secure=False)
    begun = time.process_time()
    answer = browser.get(f"/s/{SESSION}/worklist", base_url=APP)
    taken = time.process_time() - begun
    if answer.status_code != 200 or answer.data.count(b"<article") != AT_ONCE:
        raise RuntimeError(f"no page came: {answer.status_code}")
    return taken


def _card(app: Flask, number: int) -> float:
    """Processor seconds of one request for a card; each opens a part of the sweep's list."""
    now, address = int(NOON.timestamp()), f"{APP}/cds-services/remote-monitoring"
    claims = {"iss": EHR, "aud": address, "iat": now, "exp": now + 300, "jti": f"{number}"}
    header = {"alg": "ES384", "typ": "JWT", "kid": str(KEY.kid)}
    call = {
        "hook": "patient-view",
        "hookInstance": "1",
        "fhirServer": BASE,
        "fhirAuthorization": {"access_token": "token", "token_type": "Bearer"},
        "context": {"userId": "Practitioner/synthetic", "patientId": _name(number)},
    }
    signed = jwt.encode(header, claims, KEY, algorithms=["ES384"])
    begun = time.process_time()
    answer = app.test_client().post(
        "/cds-services/remote-monitoring",
        json=call,
        headers={"Authorization": f"Bearer {signed}"},
        base_url=APP,
    )
    taken = time.process_time() - begun
    if answer.status_code != 200 or not answer.get_json()["cards"]:
        raise RuntimeError(f"no answer about a card: {answer.status_code}")
    return taken


def _settings(folder: Path) -> Settings:
    (folder / "cds.json").write_text(json.dumps({"keys": [KEY.as_dict(private=False)]}), "utf-8")
    site = {**SITE, "worklist": [{"state": "state"}], "cds_hooks": [{"client": EHR, "keys": "cds.json"}]}
    (folder / "site.yaml").write_text(json.dumps(site), "utf-8")
    (folder / "issuers.toml").write_text(
        f'[issuers.synthetic]\nfhir_base = "{BASE}"\nclient_id = "app"\nprofile = "sandbox"\n', "utf-8"
    )
    return Settings(
        keys=(Fernet.generate_key(),),
        base_url=APP,
        issuers_file=folder / "issuers.toml",
        site_file=folder / "site.yaml",
        database_url=f"sqlite:///{folder / 'bench.sqlite3'}",
        mode=Mode.TEST,
        clock_ahead=ahead_of_the_machine(NOON),
    )


def _answers(folder: Path, settings: Settings) -> list[Listed]:
    """What a sweep of a few patients tells of them."""
    file = population(folder / "few.ndjson", 20)
    site = read_site_file(folder / "site.yaml")
    asked = Asked((file,), AS_OF, SweepSettings(str(site.timezone), site), night=False, shards=1)
    state = State(folder / "few", settings.keys, make=True)
    sweep(state, asked, InProcess(), Progress(None), lambda _: None)
    return list(state.listed(*state.held()))


def _name(number: int) -> str:
    return f"{number * 2_654_435_761 % 2**32:08x}-{number}"


def _state(folder: Path, settings: Settings, answers: Sequence[Listed], number: int) -> None:
    """A state of many patients, as a sweep leaves it, with nothing in it but its list."""
    state = State(folder, settings.keys, make=True)
    few = State(folder.parent / "few", settings.keys)
    head = few.held()[1]
    generation = folder / "g000001"
    generation.mkdir(mode=0o700)
    shards: list[list[bytes]] = [[] for _ in range(SHARDS)]
    answers = [msgspec.structs.replace(one, packed=one.told, common=b"") for one in answers]
    for one in range(number):
        patient = f"Patient/{_name(one)}"
        listed = msgspec.structs.replace(answers[one % len(answers)], patient=patient)
        shards[_shard_of(patient)].append(msgspec.msgpack.encode(listed))
    for shard, kept in enumerate(shards):
        with BlockWriter(shard_path(generation, shard), state.seal, shard_name(shard)) as out:
            for first in range(0, len(kept), FOLDERS):
                some = kept[first : first + FOLDERS]
                shelf = Shelf([Folder("")] * len(some))
                for place, listed in enumerate(some):
                    shelf.put(place, Answer(), listed)
                shelf.write(out)
    write_sealed(
        generation / "head", state.seal, "head", msgspec.structs.replace(head, shards=SHARDS, patients=number)
    )
    state.commit(generation)


def _shard_of(patient: str) -> int:
    return shard_of(folder_of(patient), SHARDS)


def _session() -> LaunchSession:
    return LaunchSession(
        id=SESSION,
        issuer_id="synthetic",
        iss=BASE,
        cookie_digest=digest(COOKIE),
        patient=None,
        encounter=None,
        fhir_user="Practitioner/synthetic",
        user_subject=None,
        user_issuer=None,
        user_name="Avery Synthetic",
        requested_scope="",
        granted_scope=SCOPE,
        need_patient_banner=False,
        tenant=None,
        intent=None,
        smart_style_url=None,
        fhir_context=(),
        created_at=NOON,
        last_seen=NOON,
        expires_at=FAR,
        without_patient=True,
    )
