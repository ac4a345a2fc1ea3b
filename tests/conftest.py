"""What every test pays for is paid once a process: the suite's own weight, and compiled templates."""

from __future__ import annotations

import gc

import pytest
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket


class CompiledTemplates(BytecodeCache):
    """Templates as they were compiled for the first app of this process, for all others."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if (compiled := self._compiled.get(bucket.key)) is not None:
            bucket.bytecode_from_string(compiled)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


def pytest_configure() -> None:
    Flask.jinja_options = {"bytecode_cache": CompiledTemplates()}


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests that were collected are no garbage: nobody looks through them again and again.
    gc.collect()
    gc.freeze()
