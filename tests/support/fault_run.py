"""Random sequences of cuts, delays, duplicates and kills around each way a charge leaves, in one process.

    python -m tests.support.fault_run --sequences 1000 --seed 1

After every action the other side holds the charge once at most, and our row says nothing that is not so; at
the end the charge is there exactly once, or was refused or taken back and is not there, or the row is
*unknown*. A kill raises through everything, and from then on nothing is written to the database until the
next action, as after SIGKILL. Meanwhile the site may switch to another way.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography.fernet import Fernet

from fhir_mappings.decision import Decision
from fhir_mappings.local_time import Window
from fhir_mappings.vocabulary import Line, Outcome, Program
from launch.errors import HttpError, HttpProblem
from launch.http import Limits, Response
from smartapp.configuration.handover import (
    DftWay,
    DocumentWay,
    HandoverEntry,
    HandoverSettings,
    Method,
    Mllp,
    OracleWay,
    TaskWay,
)
from smartapp.configuration.settings import Mode, Settings
from smartapp.configuration.site import read_site
from smartapp.ehr.charges import workflow
from smartapp.ehr.charges.create import ChargeWriter
from smartapp.ehr.charges.guards import Guards
from smartapp.ehr.charges.present import PresentCharges
from smartapp.ehr.handover import dft
from smartapp.ehr.handover.after import AfterHandover
from smartapp.ehr.handover.method import ToCharge
from smartapp.ehr.handover.ways import ways
from smartapp.ehr.reading.display import Banner
from smartapp.ehr.wire.bundles import Declared
from smartapp.ehr.wire.capability import Capability
from smartapp.ehr.wire.sending import Fate, Sent
from smartapp.store import Store
from smartapp.store.charges import Charge
from smartapp.store.claims import HANDED, ChargeState
from tests.support.filled_store import content_of

BEGINS = datetime(2026, 4, 1, 12, 0, tzinfo=UTC)
LATE = timedelta(minutes=8)
"""Within this time everything arrives that ever does; what is settled (ten minutes) rests on it."""
WAYS = (
    Method.CHARGE_ITEM,
    Method.ORACLE_CREATE,
    Method.TASK,
    Method.DOCUMENT,
    Method.DFT,
    Method.WORKSHEET,
)
PERIOD = Window(date(2026, 2, 1), date(2026, 3, 2))
SYSTEM = "urn:smart-remote-monitoring:charge"
TAKEN_BACK = {"Task": "cancelled", "DocumentReference": "entered-in-error"}
FAULTS = ("none", "none", "lost", "cut", "late", "twice", "503", "503-done", "422", "kill", "done-kill")


class Killed(BaseException):
    """SIGKILL."""


class Wrong(AssertionError):
    """What must never be so."""


class Ehr:
    """A FHIR server as `SessionClient` reaches it, with a fault for each write."""

    def __init__(self, run: Run, *, conditional: bool) -> None:
        self.run = run
        self.conditional = conditional
        self.held: dict[str, dict[str, Any]] = {}
        self.late: list[tuple[datetime, Callable[[], object]]] = []
        self.issuer = SimpleNamespace(
            bases=("https://ehr.example/fhir",),
            profile=SimpleNamespace(search_method=workflow_get()),
        )

    def fhir(
        self,
        method: str,
        target: str,
        *,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        **_: Any,
    ) -> Response:
        if method == "GET":
            if self.run.chance(0.08):
                self.run.die()
            if self.run.chance(0.1):
                raise HttpError(HttpProblem.CONNECTION, host="ehr.example")
            return self._read(target)
        assert body is not None
        content = json.loads(body)

        def act() -> Response:
            if method == "PUT":
                return self._update(target, content, headers or {})
            return self._create(target, content, headers or {})

        return self._with_fault(act, repeatable=self.conditional and target != "ChargeItem/$create")

    def _with_fault(self, act: Callable[[], Response], *, repeatable: bool) -> Response:
        fault = self.run.pick(FAULTS)
        lost = HttpError(HttpProblem.TIMEOUT, host="ehr.example", maybe_acted=True)
        if fault == "cut":
            raise lost
        if fault == "lost":
            act()
            raise lost
        if fault == "late":
            self.late.append((self.run.now + LATE, act))
            raise lost
        if fault == "503":
            return answer(503)
        if fault == "503-done":
            act()
            return answer(503)
        if fault == "422":
            return answer(422)
        if fault == "kill":
            self.run.die()
        if fault == "done-kill":
            act()
            self.run.die()
        if fault == "twice" and repeatable:
            act()
        return act()

    def arrive(self, *, until: datetime | None = None) -> None:
        """What was late arrives."""
        due = [act for at, act in self.late if until is None or at <= until]
        self.late = [one for one in self.late if until is not None and one[0] > until]
        for act in due:
            act()

    def _create(self, target: str, content: dict[str, Any], headers: dict[str, str]) -> Response:
        if target == "ChargeItem/$create":
            charge = next(one["resource"] for one in content["parameter"] if one["name"] == "chargeItem")
            self._put("ChargeItem", {**charge, "status": "billable"})
            return answer(200, None, location="https://ehr.example/fhir/ChargeItem/$create")
        wanted = headers.get("If-None-Exist", "").removeprefix("identifier=")
        same = [one for one in self.of(target) if self.conditional and wanted in keys(one)]
        if same:
            return answer(200, same[0])
        made = self._put(target, content)
        return answer(201, made, location=f"https://ehr.example/fhir/{target}/{made['id']}/_history/1")

    def _put(self, type_: str, content: dict[str, Any]) -> dict[str, Any]:
        logical_id = f"{type_.lower()}-{len(self.held)}"
        made = {**content, "resourceType": type_, "id": logical_id, "meta": {"versionId": "1"}}
        self.held[f"{type_}/{logical_id}"] = made
        return made

    def _update(self, target: str, content: dict[str, Any], headers: dict[str, str]) -> Response:
        now = self.held[target]
        version = now["meta"]["versionId"]
        if headers.get("If-Match") != f'W/"{version}"':
            return answer(412)
        self.held[target] = {**content, "meta": {"versionId": str(int(version) + 1)}}
        return answer(200, self.held[target])

    def _read(self, target: str) -> Response:
        place = urlsplit(target)
        if place.path in self.held:
            return answer(200, self.held[place.path])
        if "/" in place.path:
            return answer(404)
        asked = parse_qs(place.query)
        if self.run.own_operation and place.path == "ChargeItem" and "context" not in asked:
            return answer(400)
        found = [
            one
            for one in self.of(place.path)
            if "identifier" not in asked or asked["identifier"][0] in keys(one)
        ]
        entries = [{"resource": one, "search": {"mode": "match"}} for one in found]
        return answer(200, {"resourceType": "Bundle", "type": "searchset", "entry": entries})

    def of(self, type_: str) -> list[dict[str, Any]]:
        return [one for one in self.held.values() if one["resourceType"] == type_]

    @property
    def standing(self) -> int:
        charges = (one for one in self.held.values() if one["resourceType"] != "Provenance")
        return sum(one["status"] != TAKEN_BACK.get(one["resourceType"]) for one in charges)


class Engine:
    """An interface engine: what it took of a folder, or got over MLLP."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self.got: list[bytes] = []

    def collect(self) -> None:
        for file in sorted(self.folder.glob("*.hl7")):
            self.got.append(file.read_bytes())
            file.unlink()

    def put(self, folder: Path, control: str, message: bytes) -> None:
        """In place of `put_in_place`, with a kill at each point of it."""
        fault = self.run.pick(("none", "none", "kill", "half", "done-kill", "full"))
        if fault == "kill":
            self.run.die()
        if fault == "full":
            raise OSError(28, "No space left on device")
        if fault == "half":
            (folder / f".{control}.part").write_bytes(message[:9])
            self.run.die()
        WRITE(folder, control, message)
        if fault == "done-kill":
            self.run.die()

    def send(self, _way: Mllp, message: bytes, _control: str, _limits: Limits) -> Sent:
        """In place of `send_message`."""
        fault = self.run.pick(("none", "none", "refused", "not-reached", "cut", "lost", "kill", "done-kill"))
        if fault in ("refused", "not-reached"):
            return Sent(Fate.REFUSED, "no")
        if fault == "cut":
            return Sent(Fate.IN_DOUBT, "no answer")
        if fault == "kill":
            self.run.die()
        self.got.append(message)
        if fault == "done-kill":
            self.run.die()
        return Sent(Fate.IN_DOUBT, "no answer") if fault == "lost" else Sent(Fate.TAKEN)

    @property
    def standing(self) -> int:
        waiting = [file.read_bytes() for file in self.folder.glob("*.hl7")]
        kinds = [field(message, "FT1", 6) for message in (*self.got, *waiting)]
        return kinds.count("CG") - kinds.count("CR")


class Run:
    """One sequence: one charge, one other side."""

    def __init__(self, world: FaultWorld, number: int, seed: str) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.world = world
        self.method = self.pick(WAYS)
        self.own_operation = self.method is Method.ORACLE_CREATE
        self.over_mllp = self.chance(0.5)
        self.now = BEGINS
        self.dead = False
        self.healed = False
        self.entered = False
        folder = world.folder / f"messages-{number}"
        folder.mkdir()
        self.ehr = Ehr(self, conditional=self.chance(0.7))
        self.engine = Engine(self, folder)
        self.patient = f"p{number}"
        types = ("ChargeItem", "Task", "DocumentReference", "Provenance")
        scope = " ".join(f"patient/{name}.crus" for name in types)
        self.session: Any = SimpleNamespace(
            id="s1",
            issuer_id="general",
            patient=self.patient,
            fhir_user="Practitioner/7",
            user_name="Synthetic",
            granted_scope=scope,
        )
        self.clock = SimpleNamespace(now=lambda: self.now)
        self.capabilities: Any = SimpleNamespace(of=self._capability, seen=self._capability)
        settings = HandoverSettings((self._entry(),))
        self.handovers = ways(settings, Limits(), self.capabilities, self.clock)

    # What chance does

    def pick(self, choices: tuple[Any, ...]) -> Any:
        healthy = getattr(self, "healed", False)
        return choices[0] if healthy else self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return not getattr(self, "healed", False) and self.random.random() < share

    def die(self) -> None:
        self.dead = True
        raise Killed

    # The sequence

    def begin(self) -> None:
        """What writes, and what is done afterwards."""
        world, clock, handovers = self.world, self.clock, self.handovers
        present = PresentCharges(world.site, world.store, clock)
        guards = Guards(world.site, world.store, present)
        nobody: Any = None
        told = (world.settings, world.site, world.store, clock)
        self.writer = ChargeWriter(*told, nobody, present, guards, handovers, self.capabilities)
        self.after = AfterHandover(world.settings, world.store, clock, guards, handovers)

    def go(self) -> str:
        """The whole of it; how it ended. Raises Wrong."""
        self.begin()
        often = (self.press, self.wait, self.other_side)
        actions = (*often, *often, self.again, self.look, self.switch)
        with self.world.run_by(self):
            for _ in range(self.random.randint(3, 9)):
                self._do(self.random.choice(actions))
            if self.chance(0.3):
                self._do(self.take_back)
            self.healed = True
            for _ in range(4):
                self._do(self.wait)
                self._do(self.other_side)
                self._do(self.go_on)
        return self._ended()

    def _do(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Killed:
            pass
        except HttpError as error:
            if error.maybe_acted:
                raise Wrong(f"{self.seed}: something was sent, and an error says that nothing was") from None
        self.dead = False
        self._check(action.__name__)

    def press(self) -> None:
        """Somebody accepts it, once more or for the first time."""
        self.writer.write_prepared(self.ehr, self.session, self.charge())  # type: ignore[arg-type]
        row = self.row
        if row is not None and row.state is ChargeState.TO_ENTER and self.chance(0.5):
            self.after.entered(self.session, row)

    def switch(self) -> None:
        """The site hands over in another way from now on."""
        self.method = self.pick(WAYS)

    def again(self) -> None:
        if (row := self.row) is not None:
            self.writer.ask_again(self.ehr, self.session, row)  # type: ignore[arg-type]

    def look(self) -> None:
        if (row := self.row) is not None:
            self.writer.look_up(self.ehr, self.session, row)  # type: ignore[arg-type]

    def wait(self) -> None:
        self.now += timedelta(minutes=self.random.choice((0, 2, 11)))
        self.ehr.arrive(until=self.now)

    def other_side(self) -> None:
        """An engine empties its folder; what is late arrives."""
        self.engine.collect()
        if self.chance(0.5) or self.healed:
            self.ehr.arrive()

    def take_back(self) -> None:
        row = self.row
        if row is not None and self.after.no_way_back(row) is None:
            self.after.take_back(self.ehr, self.session, row, "synthetic")  # type: ignore[arg-type]

    def go_on(self) -> None:
        """Whoever presses afterwards, when everything works again."""
        self.now += timedelta(minutes=11)
        row = self.row
        if row is not None and row.state is ChargeState.TAKING_BACK:
            self.take_back()
        elif row is not None and row.state in {ChargeState.SENT, ChargeState.UNKNOWN}:
            self.again()
        elif row is not None and row.state is ChargeState.PREPARED:
            self.press()

    # What must be so

    @property
    def row(self) -> Charge | None:
        return self.world.store.charges.get(f"{SYSTEM}|{self._key}")

    @property
    def standing(self) -> int:
        return self.ehr.standing + self.engine.standing

    def _check(self, doing: str) -> None:
        row, there = self.row, self.standing
        state = "none" if row is None else row.state.value
        if not 0 <= there <= 1:
            raise Wrong(f"{self.seed} {self.method} {doing}: {there} charges, and the row says {state}")
        settled = row is not None and row.state in {ChargeState.CONFIRMED, ChargeState.HANDED_OVER}
        if settled and there != 1:
            raise Wrong(f"{self.seed} {self.method} {doing}: the row says {state}, and there is no charge")
        nothing = row is None or row.state in {
            ChargeState.PREPARED,
            ChargeState.REFUSED,
            ChargeState.TO_ENTER,
            ChargeState.ENTERED,
            ChargeState.WITHDRAWN,
        }
        if nothing and there:
            raise Wrong(f"{self.seed} {self.method} {doing}: the row says {state}, and there is a charge")

    def _ended(self) -> str:
        row = self.row
        if row is None:
            return "never sent"
        self.method = row.content.method
        if row.state in {ChargeState.SENT, ChargeState.PREPARED}:
            raise Wrong(f"{self.seed} {self.method}: it ended as {row.state.value}, with nobody at it")
        # A server of an operation of its own finds no ChargeItem by our identifier.
        by_key = {Method.TASK, Method.DOCUMENT, *(() if self.own_operation else (Method.CHARGE_ITEM,))}
        surely = self.method in by_key
        if surely and row.state in {ChargeState.UNKNOWN, ChargeState.TAKING_BACK}:
            raise Wrong(f"{self.seed} {self.method}: a server that answers was not believed")
        if row.state is ChargeState.UNKNOWN and not row.problem:
            raise Wrong(f"{self.seed} {self.method}: unknown, and nothing says so")
        if row.state in HANDED and row.content.handed is None and row.state is not ChargeState.TAKING_BACK:
            raise Wrong(f"{self.seed} {self.method}: handed over, and nobody knows as what")
        return row.state.value

    # The charge

    @property
    def _key(self) -> str:
        return f"{self.patient:0>40}"

    def _entry(self) -> HandoverEntry:
        own = DftWay(mllp=Mllp("127.0.0.1", 1, tls=False)) if self.over_mllp else None
        return HandoverEntry(
            task=TaskWay("Organization/billing"),
            document=DocumentWay(),
            oracle_create=OracleWay("urn:synthetic:bill-codes"),
            dft=own or DftWay(folder=str(self.engine.folder)),
        )

    def _capability(self, _: object) -> Capability:
        declared = Declared(frozenset({"create"}), conditional_create=self.ehr.conditional)
        return Capability(
            create=True,
            conditional_create=self.ehr.conditional,
            known=True,
            types=dict.fromkeys(("Task", "DocumentReference", "Provenance"), declared),
        )

    def charge(self) -> Charge:
        """The charge as somebody accepts it, to leave in the present way."""
        resource: dict[str, Any] = {
            "resourceType": "ChargeItem",
            "identifier": [{"system": SYSTEM, "value": self._key}],
            "status": "planned",
            "code": {"coding": [{"system": "http://www.ama-assn.org/go/cpt", "code": "98977"}]},
            "subject": {"reference": f"Patient/{self.patient}"},
            "context": {"reference": "Encounter/e1"},
            "occurrencePeriod": {"start": PERIOD.start.isoformat(), "end": PERIOD.end.isoformat()},
            "quantity": {"value": 1},
            "enterer": {"reference": "Practitioner/7"},
            "enteredDate": self.now.isoformat(timespec="seconds"),
        }
        banner = Banner("Synthetic", "1950-01-01", "MRN-1")
        asked = ToCharge("general", resource, DECISION, "device supply", banner, {}, {})
        way = self.handovers.named(self.method)
        leaving = None if self.method is Method.CHARGE_ITEM else way.leaves(asked)
        content = content_of(
            DECISION.key,
            date(2999, 1, 1),
            resource=resource,
            evidence=EVIDENCE,
            service_date=PERIOD.end,
            leaving=leaving,
        )
        return Charge(
            f"{SYSTEM}|{self._key}",
            "general",
            self.patient,
            "98977",
            ChargeState.PREPARED,
            None,
            None,
            self.now,
            content,
        )


class FaultWorld:
    """What all sequences share: the store, the site, and the places where a kill can strike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        site = folder / "site.yaml"
        site.write_text("timezone: America/New_York\npayer: medicare\n")
        self.site = replace(read_site(site, None, None))
        self.settings = Settings(
            keys=(Fernet.generate_key(),),
            base_url="http://127.0.0.1",
            issuers_file=site,
            site_file=site,
            mode=Mode.TEST,
            database_url=f"sqlite:///{folder / 'app.sqlite3'}",
        )
        self.store = Store(self.settings.database_url, self.settings.keys)
        self.store.database.migrate()

    def close(self) -> None:
        self.store.close()

    @contextmanager
    def run_by(self, run: Run) -> Iterator[None]:
        """Faults in the database and on the way, for one run."""
        database = self.store.database
        usual = database.write

        @contextmanager
        def write() -> Iterator[Any]:
            if run.dead:
                raise Killed
            if run.chance(0.04):
                run.die()
            with usual() as connection:
                yield connection
            if run.chance(0.04):
                run.die()

        with (
            mock.patch.object(database, "write", write),
            mock.patch.object(workflow, "PATIENCE_SECONDS", 0.0),
            mock.patch.object(dft, "put_in_place", run.engine.put),
            mock.patch.object(dft, "send_message", run.engine.send),
        ):
            yield


WRITE = dft.put_in_place
DECISION = Decision(
    code="98977",
    program=Program.RTM,
    line=Line.MUSCULOSKELETAL,
    quantity=1,
    outcome=Outcome.SUGGEST,
    period=PERIOD,
    service_date=PERIOD.end,
    requirements=(),
    reasons=(),
    unverified=(),
    modifiers=(),
    forecast=None,
    earned=1,
)
EVIDENCE = msgspec.json.encode({"decision": DECISION, "rules_version": "synthetic"})


def workflow_get() -> Any:
    from launch.profiles import SearchMethod

    return SearchMethod.GET


def answer(status: int, body: Any = None, location: str = "") -> Response:
    headers = {"location": location} if location else {}
    if isinstance(body, dict) and "meta" in body:
        headers["etag"] = f'W/"{body["meta"]["versionId"]}"'
    raw = b"" if body is None else json.dumps(body).encode()
    return Response(status, headers, raw, "https://ehr.example/fhir", "ehr.example", "r1")


def keys(resource: dict[str, Any]) -> set[str]:
    return {f"{one['system']}|{one['value']}" for one in resource.get("identifier", ())}


def field(message: bytes, segment: str, number: int) -> str:
    fields = next(one.split("|") for one in message.decode().split("\r") if one.startswith(segment))
    return fields[number]


def fault_run(sequences: int, seed: int) -> Counter[tuple[str, str]]:
    """So many sequences; how many ended how, by way. Raises Wrong."""
    ended: Counter[tuple[str, str]] = Counter()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder, closing(FaultWorld(Path(folder))) as world:
        for number in range(sequences):
            run = Run(world, number, f"{seed}-{number}")
            how = run.go()
            ended[run.method.value, how] += 1
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sequences", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        ended = fault_run(options.sequences, options.seed)
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    for (way, how), number in sorted(ended.items()):
        print(f"{way:14} {how:12} {number}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
