"""The tables that are shipped beside this file, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
import yaml

_Table = TypeVar("_Table")


def read_table(text: str) -> Any:
    """YAML, by the fast loader where libyaml is there."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe


def shipped(name: str, kind: type[_Table]) -> _Table:
    """The table `name`.yaml, as `kind`."""
    return msgspec.convert(_read(name), kind)


@cache
def _read(name: str) -> Any:
    return read_table(files(__package__).joinpath(f"{name}.yaml").read_text("utf-8"))
