"""Sandboxes for tests: what takes long to make, charts and key, is made once a process."""

from __future__ import annotations

import shutil
import tempfile
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from launch.sandbox.config import ZONE
from launch.sandbox.keys import SigningKey
from launch.sandbox.server import RunningSandbox, serve_sandbox


def start_sandbox(folder: Path, *, readings: int = 200, **settings: Any) -> RunningSandbox:
    """A sandbox that serves, with its data below `folder`; `settings` are those of `serve_sandbox`."""
    as_of = settings.pop("as_of", None) or datetime.now(ZONE).date()
    data = Path(tempfile.mkdtemp(prefix="ehr-", dir=folder))
    shutil.copytree(_charts(as_of, readings).name, data, dirs_exist_ok=True)
    return serve_sandbox(as_of=as_of, readings=readings, data=data, key=_key(), **settings).start()


@cache
def _charts(as_of: date, readings: int) -> tempfile.TemporaryDirectory[str]:
    """A data folder that nobody writes to any more; it goes with the process."""
    made = tempfile.TemporaryDirectory(prefix="sandbox-charts-")
    serve_sandbox(as_of=as_of, readings=readings, data=Path(made.name)).close()
    return made


@cache
def _key() -> SigningKey:
    return SigningKey()
