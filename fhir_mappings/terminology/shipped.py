"""The tables that are shipped beside this file, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import msgspec
import yaml

_Table = TypeVar("_Table")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The fast loader where libyaml is there. A key is a name: YAML 1.1 would read `on` as true."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:bool":
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def read_table(text: str) -> Any:
    """A table in YAML. Raises YAMLError, also for what looks like a value and is none: a day of a 13th month,
    or more brackets within each other than can be followed."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (ValueError, RecursionError) as fault:
        raise yaml.YAMLError(str(fault)) from None


def shipped(name: str, kind: type[_Table]) -> _Table:
    """The table `name`.yaml, as `kind`."""
    return msgspec.convert(_read(name), kind)


@cache
def _read(name: str) -> Any:
    return read_table(files(__package__).joinpath(f"{name}.yaml").read_text("utf-8"))
