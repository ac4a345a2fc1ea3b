"""Tasks: what there is to do, and where it is done. A task whose file is there already is not done again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import msgspec
from msgspec import Struct

from smartapp.population.blocks import Blocks, NotOpened, Seal
from smartapp.population.deciding import Decider, Settings
from smartapp.population.partition import Partitioned, PartitionJob, partition
from smartapp.population.sealed import Opener
from smartapp.population.shards import (
    Context,
    ShardJob,
    ShardTold,
    Told,
    ToldJob,
    Workshop,
    decide_shard,
    shard_name,
    tell_others,
)

Job = PartitionJob | ShardJob | ToldJob


class Bench:
    """Does tasks, in whatever process it was brought to."""

    def __init__(self, keys: Sequence[bytes], salt: bytes, settings: Settings, context: Context) -> None:
        self._given = (tuple(keys), salt, settings, context)

    def __getstate__(self) -> tuple[tuple[bytes, ...], bytes, Settings, Context]:
        return self._given

    def __setstate__(self, given: tuple[tuple[bytes, ...], bytes, Settings, Context]) -> None:
        self._given = given

    @property
    def salt(self) -> bytes:
        """Of the folder in which tasks write."""
        return self._given[1]

    @property
    def settings(self) -> Settings:
        return self._given[2]

    @property
    def context(self) -> Context:
        return self._given[3]

    @cached_property
    def seal(self) -> Seal:
        return Seal(self._given[0], self.salt)

    @cached_property
    def opener(self) -> Opener:
        return Opener(self._given[0])

    @cached_property
    def shop(self) -> Workshop:
        return Workshop(self.seal, Decider(self.settings, self.context.as_of), self.context)

    def do(self, job: Job) -> Any:
        """What the task tells. Raises what went wrong with it."""
        if (known := self.told(job)) is not None:
            return known
        if isinstance(job, PartitionJob):
            decider = self.shop.decider
            return partition(job, decider.terminology, decider.clock, self.seal, self.opener)
        return decide_shard(job, self.shop) if isinstance(job, ShardJob) else tell_others(job, self.shop)

    def told(self, job: Job) -> Any:
        """What a task told that was done before; None where it was not."""
        kind, block, name = _told(job)
        if not job.out.exists() or (isinstance(job, ShardJob) and job.keys and not job.keys.exists()):
            return None
        try:
            return msgspec.msgpack.decode(Blocks(job.out, self.seal, name).one(block), type=kind)
        except NotOpened:
            return None


def _told(job: Job) -> tuple[type[Struct], str, str]:
    if isinstance(job, PartitionJob):
        return Partitioned, "result", job.name
    if isinstance(job, ShardJob):
        return ShardTold, "told", shard_name(job.shard)
    return Told, "told", f"told {job.shard}"
