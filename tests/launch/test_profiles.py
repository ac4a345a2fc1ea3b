"""What each vendor needs: complete, and wrong in no way that starts."""

from __future__ import annotations

import copy
import tomllib
from importlib.resources import files
from typing import Any

import pytest

from launch.errors import ConfigurationError
from launch.profiles import DateBounds, ScopeStyle, WriteRung, load_profile, parse_profile, profile_names

GENERIC: dict[str, Any] = tomllib.loads(
    (files("launch") / "profiles" / "generic.toml").read_text(encoding="utf-8")
)


def changed(section: str | None, key: str, value: Any) -> dict[str, Any]:
    table = copy.deepcopy(GENERIC)
    (table if section is None else table[section])[key] = value
    return table


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads_and_is_called_like_its_file(name):
    profile = load_profile(name)
    assert profile.id == name
    assert profile.title
    assert profile.max_parallel >= 1
    assert profile.requests_per_minute >= 1
    assert profile.observation_categories or not profile.observation_needs_category


def test_vendors_differ_where_their_documents_say_so():
    epic, oracle = load_profile("epic"), load_profile("oracle-health")
    assert epic.observation_needs_category
    assert not oracle.observation_needs_category
    assert (epic.stale_version_status, oracle.stale_version_status) == (412, 409)
    assert oracle.write_rung is WriteRung.ORACLE_CREATE
    assert oracle.page_size == 200
    assert load_profile("smart-health-it").max_parallel == 2
    assert load_profile("generic").scope_style is ScopeStyle.AUTO
    assert load_profile("generic").date_bounds is DateBounds.PAIR


def test_a_profile_nobody_wrote_is_a_fault_that_lists_those_there_are():
    with pytest.raises(ConfigurationError, match="'cerner' is not one of epic, generic, "):
        load_profile("cerner")


@pytest.mark.parametrize("name", ["../issuers", "generic.toml", "", "/etc/passwd"])
def test_a_profiles_name_is_never_a_path(name):
    with pytest.raises(ConfigurationError):
        load_profile(name)


@pytest.mark.parametrize(
    "table",
    [
        changed(None, "extra", 1),
        changed("search", "pagesize", 1),
        changed("scopes", "style", "v3"),
        changed("search", "date_bounds", "both"),
        changed("write", "rung", "guess"),
        changed("search", "page_size", "many"),
        {key: value for key, value in GENERIC.items() if key != "write"},
        {**GENERIC, "limits": {"max_parallel": 4}},
    ],
)
def test_a_profile_with_a_key_too_many_too_few_or_wrong_is_one_clear_line(table):
    with pytest.raises(ConfigurationError) as caught:
        parse_profile(table)
    assert str(caught.value).startswith("profile generic")
    assert "\n" not in str(caught.value)
