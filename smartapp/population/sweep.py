"""A sweep: part the input, put each shard together and decide it, look across shards, decide again.

    part      every source -> records by shard                      (once a source)
    decide    a shard's records -> folders, answers                 (once a shard)
    tell      records that other folders need -> the pool           (where any are)
    again     folders that those change                             (where there are any)
    double    staff with two patients at once: the one rule across patients (D13)
    commit    one rename

Each step is tasks whose results are files; a run that was stopped finds what was done, and goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from smartapp.population import listing
from smartapp.population.across import changed_by, double_booked, leading_to, shared_keys
from smartapp.population.blocks import Blocks, BlockWriter
from smartapp.population.deciding import Decider, Settings
from smartapp.population.engine import Done, Engine
from smartapp.population.entries import Entry, Gathered, read_entries, write_entries
from smartapp.population.files import sources
from smartapp.population.partition import Partitioned, PartitionJob, Piece, Rest, digest_of, shard_of
from smartapp.population.progress import Progress
from smartapp.population.shards import (
    Context,
    ShardJob,
    ToldJob,
    half,
    shard_name,
)
from smartapp.population.state import (
    Head,
    State,
    StateError,
    pending_path,
    shard_path,
    write_sealed,
    write_whole,
)
from smartapp.population.work import Bench, Job

_PART = 64 << 20
_BYTES_A_SHARD = 4 << 20
_MOST_SHARDS = 1024
_SHARDS_A_BUCKET = 4
_pieces = msgspec.msgpack.Decoder(list[Piece])


class SweepError(Exception):
    """The run cannot go on; the state is as it was. One line for a person."""


class Report(Struct):
    """What a run did, in numbers."""

    head: Head
    said: list[str]
    nothing_new: bool = False


class Parted(Struct, frozen=True):
    """A source, and what it held."""

    job: PartitionJob
    told: Partitioned


class Asked(Struct, frozen=True):
    """What somebody asked for."""

    paths: tuple[Path, ...]
    as_of: date
    settings: Settings
    night: bool
    shards: int | None = None
    of_group: bool = False
    """The paths of a night are a Group's export: see `Context`."""


def sweep(
    state: State, asked: Asked, engine: Engine, progress: Progress, say: Callable[[str], None]
) -> Report:
    """Do it, and from then on its answers hold. Raises `SweepError`, `StateError`, `NotReadable` or
    `ValueError` with one line; then what held before holds."""
    with state.locked():
        state.tidy()
        return _Sweep(state, asked, engine, progress, say).run()


class _Sweep:
    def __init__(
        self, state: State, asked: Asked, engine: Engine, progress: Progress, say: Callable[[str], None]
    ) -> None:
        self._state, self._asked, self._engine, self._progress = state, asked, engine, progress
        self._said: list[str] = []
        self._tell = say
        self._held = state.head() if asked.night else None
        self._base = state.current() if asked.night else None
        if asked.night and self._held is None:
            raise StateError(f"{state.folder}: no sweep has ended here; run `smartapp sweep full` first")
        self._generation = state.last + 1
        self._decider = Decider(asked.settings, asked.as_of)
        self._sources, self._unread = sources(asked.paths, _PART, self._say)
        self._inputs = digest_of(self._sources)

    def _say(self, line: str) -> None:
        self._said.append(line)
        self._tell(line)

    # -- the steps ----------------------------------------------------------------------------------------

    def run(self) -> Report:
        held = self._held
        if held is not None:
            self._check(held)
            if self._sources and held.inputs == self._inputs:
                self._say("these files were swept last time: nothing of them is new")
                self._sources = []
                left = held.undecided or held.failed
                if held.as_of == self._asked.as_of and held.digest == self._decider.digest() and not left:
                    return Report(held, self._said, nothing_new=True)
        size = sum(source.size for source in self._sources)
        shards = held.shards if held else self._asked.shards or _shards_for(size)
        buckets = held.buckets if held else max(1, shards // _SHARDS_A_BUCKET)
        self._shards = shards
        self._prepare(shards)
        parted = self._part(shards, buckets, size)
        rest = self._rest(parted)
        context = Context(
            self._asked.as_of,
            self._generation,
            buckets,
            everyones=not (sum(done.told.patients for done in parted) + (held.people if held else 0)),
            missing=tuple(self._decider.missing_of(rest)),
            of_group=self._asked.night and self._asked.of_group,
        )
        everyone = self._everyone(held, context)
        pool = self._first_pool(parted)
        changed = self._changed(parted, pool) if held is not None and not self._all_keys else None
        bench = Bench(self._state.keys, self._state.salt, self._asked.settings, context)
        jobs = [
            ShardJob(
                shard,
                shard_path(self._folder("decided"), shard),
                self._shard_before(shard),
                self._parts_of(shard, parted),
                pool,
                self._folder("keys") / f"keys-{shard:05d}",
                all_keys=self._all_keys,
                everyone=everyone,
                changed=changed,
            )
            for shard in range(shards)
        ]
        done = self._run("decide", bench, jobs)
        failed = {one.job.shard for one in done if one.fault and isinstance(one.job, ShardJob)}
        latest = {job.shard: job.out for job in jobs if job.shard not in failed}
        told = {one.job.shard: one.told for one in done if isinstance(one.job, ShardJob) and not one.fault}
        pool, again = self._tell_others(bench, latest, told, pool, buckets)
        failed |= again
        failed |= self._double(bench, latest, told, pool, context, held)
        return self._commit(context, shards, latest, told, pool, failed, rest, parted)

    def _check(self, held: Head) -> None:
        """What a night can't do."""
        if self._asked.as_of < held.as_of:
            raise StateError(f"the state is of {held.as_of}, and a night goes forward")
        if self._asked.settings.timezone != held.settings.timezone:
            raise StateError("the time zone is another one: every day may be; run `smartapp sweep full`")
        terms = (held.settings.site.terminology, self._asked.settings.site.terminology)
        if terms[0] != terms[1] and held.missing:
            raise StateError(
                "the site's codings are others, and what could not be read was judged by the old ones; "
                "run `smartapp sweep full`"
            )

    def _everyone(self, held: Head | None, context: Context) -> bool:
        """Whether every patient is decided again, and why."""
        if held is None:
            return True
        why = None
        if held.digest != self._decider.digest():
            why = "rules, codings or settings are others"
        elif tuple(held.missing) != context.missing:
            why = "what could not be read is not what it was"
        elif held.everyones != context.everyones:
            why = "the first Patient came"
        elif held.failed:
            why = "a shard failed last time"
        if why is not None:
            self._say(f"every patient is decided again: {why}")
        return why is not None

    @property
    def _all_keys(self) -> bool:
        """Everything is compared with everything: after a shard was left out, too."""
        return self._held is None or bool(self._held.failed)

    def _prepare(self, shards: int) -> None:
        """The run that was stopped, if it was this one; else a new one."""
        plan = (
            self._generation,
            self._asked.night,
            self._asked.as_of,
            self._decider.digest(),
            self._inputs,
            len(self._sources),
            shards,
            self._asked.of_group,
        )
        digest = sha256(repr(plan).encode()).hexdigest()
        at = self._state.next
        if at.exists():
            known = (at / "plan").exists() and (at / "plan").read_text("ascii") == digest
            # After a failure what was worked out across shards may be another thing this time.
            if known and not (at / "failed").exists():
                self._say("going on with the run that was stopped")
                return
            shutil.rmtree(at)
        at.mkdir(mode=0o700)
        write_whole(at / "plan", digest.encode())

    def _folder(self, name: str) -> Path:
        path = self._state.next / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _part(self, shards: int, buckets: int, size: int) -> list[Parted]:
        folder = self._folder("parts")
        context = Context(self._asked.as_of, self._generation, buckets, everyones=False)
        bench = Bench(self._state.keys, self._state.salt, self._asked.settings, context)
        jobs = [
            PartitionJob(source, folder / f"part-{number:05d}", shards, number)
            for number, source in enumerate(self._sources)
        ]
        found: list[Parted] = []
        weight = lambda one: one.told.bytes if one.told else 0  # noqa: E731
        for one in self._run("read", bench, jobs, of=size, weight=weight):
            if not isinstance(one.job, PartitionJob):
                continue
            if one.fault:
                name = one.job.source.file.name
                raise SweepError(f"{name}: could not be read to its end, twice ({one.fault})")
            found.append(Parted(one.job, one.told))
        found.sort(key=lambda one: one.job.number)
        for parted in found:
            for line in parted.told.said:
                self._say(line)
        return found

    def _run(
        self,
        step: str,
        bench: Bench,
        jobs: Sequence[Job],
        of: int | None = None,
        weight: Callable[[Done], int] = lambda _: 1,
    ) -> list[Done]:
        self._progress.begin(step, len(jobs) if of is None else of)
        found: list[Done] = []
        ready = [Done(job, told) for job in jobs if (told := bench.told(job)) is not None]
        known = {one.job for one in ready}
        left = [job for job in jobs if job not in known]
        # One by one as they are done: how far it is, is told meanwhile.
        for one in chain(ready, self._engine.run(bench, left)):
            found.append(one)
            if one.fault:
                write_whole(self._state.next / "failed", b"")
            self._progress.done(weight(one))
        self._progress.end()
        return found

    # -- what is not a patient's --------------------------------------------------------------------------

    def _rest(self, parted: Iterable[Parted]) -> Rest:
        rest = Rest() if self._held is None else self._held.rest
        rest = Rest(*(list(getattr(rest, name)) for name in rest.__struct_fields__))
        rest.missing += [("", one) for one in self._unread]
        for done in parted:
            told = Blocks(done.job.out, self._state.seal, done.job.name).one("rest")
            rest.add(msgspec.msgpack.decode(told, type=Rest))
        return rest

    def _first_pool(self, parted: Iterable[Parted]) -> Path:
        """What no patient owns: what was known, and what came."""
        path = self._state.next / "pool"
        if not path.exists():
            found = Gathered()
            if self._base is not None:
                found.add(read_entries(self._base / "pool", self._state.seal))
            found.add(
                Entry("", piece.item, piece.keys.borne, piece.keys.asked)
                for piece in self._pieces_of("pool", parted)
            )
            write_entries(path, found.entries(), self._state.seal)
        return path

    def _pieces_of(self, block: str, parted: Iterable[Parted]) -> Iterable[Piece]:
        for done in parted:
            for content in Blocks(done.job.out, self._state.seal, done.job.name).read(block):
                yield from _pieces.decode(content)

    def _changed(self, parted: list[Parted], pool: Path) -> Path:
        """The keys of this night's records, for every shard to look for them."""
        path = self._state.next / "changed"
        if path.exists():
            return path
        shards = range(self._held.shards if self._held else 0)
        changed = changed_by(
            (piece for shard in shards for piece in self._pieces_of(str(shard), parted)),
            self._pieces_of("pool", parted),
            lambda: list(read_entries(pool, self._state.seal)),
        )
        write_sealed(path, self._state.seal, "changed", changed)
        return path

    # -- a shard's files ----------------------------------------------------------------------------------

    def _shard_before(self, shard: int) -> Path | None:
        path = None if self._base is None else shard_path(self._base, shard)
        return path if path is not None and path.exists() else None

    def _parts_of(self, shard: int, parted: Iterable[Parted]) -> tuple[tuple[Path, str], ...]:
        parts = [(done.job.out, done.job.name) for done in parted]
        if self._base is not None and (waiting := pending_path(self._base, shard)).exists():
            parts.append((waiting, f"pending {shard}"))
        return tuple(parts)

    # -- across shards ------------------------------------------------------------------------------------

    def _tell_others(
        self, bench: Bench, latest: dict[int, Path], told: dict[int, Any], pool: Path, buckets: int
    ) -> tuple[Path, set[int]]:
        """Bring to every folder what it needs of others; the pool with it, and the shards that failed."""
        wanted = {key for one in told.values() for key in one.wanted}
        keys = [self._folder("keys") / f"keys-{shard:05d}" for shard in sorted(latest)]
        files = [Blocks(path, self._state.seal, "keys") for path in keys]
        wanted |= set(map(half, shared_keys(read_entries(pool, self._state.seal), files, buckets)))
        if not wanted:
            return pool, set()
        touched = self._state.next / "touched"
        if not touched.exists():
            led = leading_to(wanted, read_entries(pool, self._state.seal))
            write_sealed(touched, self._state.seal, "touched", sorted(led))
        jobs = [
            ToldJob(shard, path, touched, self._folder("told") / f"told-{shard:05d}")
            for shard, path in sorted(latest.items())
        ]
        done = self._run("compare", bench, jobs)
        failed = {one.job.shard for one in done if one.fault and isinstance(one.job, ToldJob)}
        second = self._state.next / "pool-2"
        if not second.exists():
            found = Gathered()
            found.add(read_entries(pool, self._state.seal))
            for job in jobs:
                if job.shard not in failed:
                    found.add_again(read_entries(job.out, self._state.seal, f"told {job.shard}"))
            write_entries(second, found.entries(), self._state.seal)
        again = [
            ShardJob(
                one.job.shard,
                shard_path(self._folder("again"), one.job.shard),
                latest[one.job.shard],
                pool=second,
                touched=touched,
            )
            for one in done
            if isinstance(one.job, ToldJob) and not one.fault and one.told.touched
        ]
        return second, failed | self._replace("decide again", bench, again, latest, told)

    def _replace(
        self, step: str, bench: Bench, jobs: list[ShardJob], latest: dict[int, Path], told: dict[int, Any]
    ) -> set[int]:
        """Decide some folders once more; the shards that failed."""
        failed: set[int] = set()
        for one in self._run(step, bench, jobs):
            if not isinstance(one.job, ShardJob):
                continue
            shard = one.job.shard
            if one.fault:
                failed.add(shard)
            else:
                latest[shard] = one.job.out
                # Whoever is decided once more was decided before.
                one.told.decided = told[shard].decided
                told[shard] = one.told
        return failed

    def _double(
        self,
        bench: Bench,
        latest: dict[int, Path],
        told: dict[int, Any],
        pool: Path,
        context: Context,
        held: Head | None,
    ) -> set[int]:
        """Who was with two patients at once: decide those again whose Encounters that are, or are no more."""
        self._progress.begin("double booking", context.buckets)
        # A shard that failed is as it was.
        paths = {shard: latest.get(shard) or self._shard_before(shard) for shard in range(self._shards)}
        files = [
            Blocks(path, self._state.seal, shard_name(shard))
            for shard, path in paths.items()
            if path is not None
        ]
        now = double_booked(files, context.buckets, self._progress.done)
        self._progress.end()
        before: dict[str, list[str]] = {}
        if held is not None and self._base is not None:
            told_before = Blocks(self._base / "double", self._state.seal, "double").one("double")
            before = msgspec.msgpack.decode(told_before, type=dict[str, list[str]])
        path = self._state.next / "double"
        if not path.exists():
            write_sealed(path, self._state.seal, "double", now)
        everybody = held is not None and held.failed
        others = {name for name in {*now, *before} if everybody or now.get(name) != before.get(name)}
        jobs = [
            ShardJob(shard, shard_path(self._folder("doubled"), shard), latest[shard], pool=pool, double=path)
            for shard in sorted({shard_of(name, self._shards) for name in others})
            if shard in latest
        ]
        return self._replace("decide double booked", bench, jobs, latest, told)

    # -- done ---------------------------------------------------------------------------------------------

    def _commit(
        self,
        context: Context,
        shards: int,
        latest: dict[int, Path],
        told: dict[int, Any],
        pool: Path,
        failed: set[int],
        rest: Rest,
        parted: list[Parted],
    ) -> Report:
        held, state = self._held, self._state
        generation = state.folder / f"g{self._generation:06d}"
        if generation.exists():
            shutil.rmtree(generation)
        generation.mkdir(mode=0o700)
        for shard in range(shards):
            source = latest.get(shard) or self._shard_before(shard)
            if source is not None:
                os.link(source, shard_path(generation, shard))
            if shard not in latest:
                self._keep_waiting(shard, generation, parted)
        os.link(pool, generation / "pool")
        os.link(state.next / "double", generation / "double")
        head = Head(
            generation=self._generation,
            as_of=self._asked.as_of,
            settings=self._asked.settings,
            digest=self._decider.digest(),
            shards=shards,
            buckets=context.buckets,
            inputs=self._inputs if self._sources or held is None else held.inputs,
            rest=rest,
            missing=list(context.missing),
            folders=sum(one.folders for one in told.values()),
            patients=sum(one.patients for shard, one in told.items() if shard not in failed),
            people=sum(done.told.patients for done in parted) + (held.people if held else 0),
            records=sum(done.told.records for done in parted),
            decided=sum(one.decided for one in told.values()),
            undecided=sum(one.failed for shard, one in told.items() if shard not in failed),
            failed=sorted(failed),
            lists=listing.FORMAT,
        )
        write_sealed(generation / "head", state.seal, "head", head)
        state.commit(generation)
        shutil.rmtree(state.next)
        state.tidy()
        return Report(head, self._said)

    def _keep_waiting(self, shard: int, generation: Path, parted: list[Parted]) -> None:
        """The records that came for a shard which failed go on to the next run, as they came."""
        with BlockWriter(pending_path(generation, shard), self._state.seal, f"pending {shard}") as out:
            for path, name in self._parts_of(shard, parted):
                for content in Blocks(path, self._state.seal, name).read(str(shard)):
                    out.add(str(shard), content)


def _shards_for(size: int) -> int:
    return min(max(size // _BYTES_A_SHARD, 1), _MOST_SHARDS)
