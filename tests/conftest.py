"""What every test would pay for is paid once a process: the suite's own weight, templates, rules of apps, the
types that apps decode. And nobody waits for what only waits."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from jinja2 import BytecodeCache
from jinja2.bccache import Bucket
from waitress import server
from waitress.task import ThreadedTaskDispatcher
from werkzeug.routing import Rule

from launch import http
from smartapp import prepared
from smartapp import serving as app_serving
from tests.support.quick_pages import read_quickly


class CompiledTemplates(BytecodeCache):
    """Templates as they were compiled for the first app of this process, for all others."""

    def __init__(self) -> None:
        self._compiled: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if (compiled := self._compiled.get(bucket.key)) is not None:
            bucket.bytecode_from_string(compiled)

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._compiled[bucket.key] = bucket.bytecode_to_string()


def build_when_asked(true: Callable[..., Any]) -> Callable[..., Any]:
    """Of the hundred rules of an app a test builds addresses for a few: only those are compiled for it."""

    def compile_builder(rule: Rule, append_unknown: bool = True) -> Callable[..., Any]:
        compiled: list[Callable[..., Any]] = []

        def build(rule: Rule, **values: Any) -> Any:
            if not compiled:
                compiled.append(true(rule, append_unknown))
            return compiled[0](rule, **values)

        return build

    return compile_builder


class ThreadsWhenNeeded(ThreadedTaskDispatcher):  # type: ignore[misc]
    """A server's threads, each begun when a request finds none that is free: a test that opens a page needs
    a few of the fifty that its app and its EHR may have."""

    most = 0

    def set_thread_count(self, count: int) -> None:
        self.most = count
        if count == 0:
            super().set_thread_count(0)

    def add_task(self, task: Any) -> None:
        with self.lock:
            begun = len(self.threads) - self.stop_count
            free = begun - self.active_count
            one_more = begun < self.most and len(self.queue) >= free
        if one_more:
            super().set_thread_count(begun + 1)
        super().add_task(task)


BACK_SOON = SimpleNamespace(uniform=lambda least, most: least / 25)
"""In place of `random` where it is drawn how long a client waits before it asks an EHR again that failed."""


def pytest_configure() -> None:
    Flask.jinja_options = {"bytecode_cache": CompiledTemplates()}
    Rule._compile_builder = build_when_asked(Rule._compile_builder)  # type: ignore[method-assign]
    for known in ("_is_record", "_understood"):
        setattr(prepared, known, cache(getattr(prepared, known)))
    for serving in (app_serving, server):
        serving.ThreadedTaskDispatcher = ThreadsWhenNeeded
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a thread that begins is not free yet
    read_quickly()
    http.random = BACK_SOON  # type: ignore[assignment]


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests that were collected are no garbage: nobody looks through them again and again.
    gc.collect()
    gc.freeze()
