"""Lives of charges: random sequences of what becomes of them, and what must hold after each step.

python -m tests.support.lives --sequences 100 --seed 1
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import traceback
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smartapp.commands.checks import Status
from smartapp.commands.packet_check import checked
from smartapp.ehr.reading import gone_charges
from smartapp.store.claims import ChargeState
from smartapp.store.denials import DenialState
from tests.smartapp.conftest import World, _world
from tests.support.life_steps import Steps
from tests.support.life_truth import PATIENTS, SITES, TAKEN_BACK, Service, Wrong, key_of


class Life(Steps):
    """The steps, with what must hold after each of them, and after all is undone."""

    # What must hold

    def check(self) -> dict[str, Any]:
        """The decisions as they are now, and which can be accepted. Raises Wrong."""
        if self.broken:
            raise Wrong("; ".join(self.broken))
        self._nothing_twice()
        page = self.read_again("checker")
        twin = json.loads(self.browsers["checker"].get(self.addresses["checker"] + "decisions.json").body)
        decisions = {f"{d['code']}-{d['period']['start']}": d for d in twin["decisions"]}
        standing = self.standing()
        offered = {
            urlsplit(t).path.rsplit("/", 1)[1]
            for t, text in page.links
            if text.startswith("Review and accept")
        }
        for key in offered | {k for k, d in decisions.items() if d["outcome"] == "suggest"}:
            one = decisions[key]
            service = Service(
                one["code"], *(date.fromisoformat(one["period"][side]) for side in ("start", "end"))
            )
            for name, other in standing:
                if name == "row to-enter" and (service.code != other.code or key not in offered):
                    continue  # accepted, and charged by nobody yet: accepting another is stopped
                if service.excludes(other):
                    raise Wrong(
                        f"{key} is {'offered' if key in offered else 'suggested'} beside {name} {other}"
                    )
        self._nothing_lost()
        return decisions | {"offered": offered}

    def _nothing_twice(self) -> None:
        """Of what was made from here."""
        live = {name for name, one in self.live().items() if one.of_app}
        found = [
            (name, service)
            for name, service in self.standing()
            if name in live or not name.isalnum() or name == "denied"
        ]
        others = {name for name, one in self.live().items() if not one.of_app}
        found = [one for one in found if one[0] not in others]
        for number, (name, one) in enumerate(found):
            for other_name, other in found[number + 1 :]:
                if one.excludes(other):
                    raise Wrong(f"{name} {one} and {other_name} {other} both stand")

    def _nothing_lost(self) -> None:
        rows = {row.identifier: row for row in self.rows()}
        packets = {one.identifier for one in self.world.store.packets.all(self.patient)}
        written = {
            entry.get("identifier")
            for entry in self.world.store.audit.entries()
            if entry["event"] == "charge-written"
        }
        for body in self.held().values():
            key = key_of(body)
            if key is None or body["status"] in TAKEN_BACK:
                continue
            row = rows.get(key)
            if row is None:
                raise Wrong(f"{key} has no row")
            if row.state in {ChargeState.UNKNOWN, ChargeState.SENT}:
                continue
            if row.state in {ChargeState.REFUSED, ChargeState.PREPARED, ChargeState.DECLINED}:
                raise Wrong(f"{row.content.decision} stands in the EHR, and its row says {row.state.value}")
            if key not in packets or key not in written:
                raise Wrong(f"{row.content.decision} has no packet or audit entry")

    def check_packets(self) -> None:
        for kept in self.world.store.packets.all(self.patient):
            content = self.world.store.packets.content(kept)
            bad = [one for one in checked(content, kept.sha256) if one.status is Status.FAILURE]
            if bad:
                raise Wrong(f"packet {kept.name}: {bad[0]}")

    # The end

    def undo(self) -> None:
        """Take back all that can be, on the pages first, and in the EHR what they leave."""
        self.faults.clear()
        self.restore()
        for _ in range(8):
            if self.follow_up(DenialState.TAKEN_BACK) is None:
                break
        self.told.append("-- undo")
        for who in ("physician", "therapist"):
            self.read_again(who)
            for _ in range(6):
                if ("lock" not in self.site and self.site != "both") or self.month(who, reopen=True) is None:
                    break
        for _ in range(8):
            if self._withdraw_time() is None:
                break
        for _ in range(6):
            if self.ehr_takes_duplicate_back() is None:
                break
        for who in ("physician", "therapist"):
            for _ in range(6):
                if self.unfinished(who) is None:
                    break
            if self.site.startswith("worksheet"):
                for _ in range(6):
                    if self.worksheet(who, back=True) is None:
                        break
            if self.site in {"approval", "both"}:
                for _ in range(6):
                    if self.approve(who, yes=False) is None:
                        break
            self.read_again(who)
            for _ in range(8):
                if (said := self.withdraw(who)) is None:
                    break
                self.told.append(said)
        with self.by_others():
            for name, one in self.live().items():
                if self.held()[name]["status"] not in TAKEN_BACK:
                    self.told.append(f"the EHR takes {one.service.code} back at the end")
                    self.world.ehr_changes("ChargeItem", name, status="entered-in-error")
        for who in ("physician", "therapist"):
            self.read_again(who)  # what is gone is proven to whoever wrote it
        unfinished = [
            row.content.decision
            for row in self.rows()
            if row.state in {ChargeState.UNKNOWN, ChargeState.SENT}
        ]
        self.unknown = set(unfinished)


def live_through(world: World, patient: str, site: str, seed: str, steps: int) -> list[str]:
    """What was done. Raises Wrong, with what was done before."""
    life = Life(world, patient, site, random.Random(seed))
    with life.stack:
        try:
            begin = life.check()
            for _ in range(steps):
                life.step()
                life.check()
            life.check_packets()
            life.undo()
            end = life.check()
            missing = begin["offered"] - end["offered"] - life.unknown
            # Of what lies before the last charged period only what somebody accepted is read on.
            accepted = {row.content.decision for row in life.rows()}
            missing -= {key for key in missing if key.endswith("-2026-02-14") and key not in accepted}
            if missing:
                states = {k: (end.get(k) or {}).get("outcome") for k in missing}
                reasons = {k: (end.get(k) or {}).get("reasons") for k in missing}
                rows = [(r.content.decision, r.state.value) for r in life.rows()]
                raise Wrong(f"dead end: {states} {reasons} {rows}")
        except Exception as error:
            life.told.append(f"!! {type(error).__name__}: {error}")
            if not isinstance(error, (Wrong, AssertionError)):
                life.told.append(traceback.format_exc())
            raise Wrong("\n".join([f"{site} {patient} {seed}", *life.told])) from error
    return life.told


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--site", default="")
    given = parser.parse_args(argv)
    gone_charges.SETTLED_AFTER = timedelta()
    done = failed = 0
    seed = given.seed
    while done < given.sequences:
        site = given.site or list(SITES)[seed % len(SITES)]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            world = _world(folder, stack, database_url=f"sqlite:///{folder / 'app.sqlite3'}", **SITES[site])
            for patient in PATIENTS:
                done += 1
                try:
                    told = live_through(world, patient, site, f"{seed}-{patient}", given.steps)
                except Wrong as error:
                    failed += 1
                    print(f"=== FAILED\n{error}\n", flush=True)
                else:
                    print(f"ok {site} {patient} {seed}: {len(told)} steps", flush=True)
        seed += 1
    print(f"{done} sequences, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
