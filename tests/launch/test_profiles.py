"""What each vendor needs: only what differs, each fact with its source, and wrong in no way that starts."""

from __future__ import annotations

import copy
import tomllib
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from launch.errors import ConfigurationError
from launch.profiles import (
    FACTS,
    ChargeItemWrite,
    DateBounds,
    ScopeStyle,
    SearchMethod,
    load_profile,
    overridden,
    parse_profile,
    profile_names,
)

CHECKED = date(2026, 12, 1)


def table_of(name: str) -> dict[str, Any]:
    return tomllib.loads((files("launch") / "profiles" / f"{name}.toml").read_text(encoding="utf-8"))


def fact(value: Any, **more: Any) -> dict[str, Any]:
    return {"value": value, "source": "a letter", "checked": CHECKED, **more}


def changed(section: str | None, key: str, value: Any) -> dict[str, Any]:
    table = copy.deepcopy(table_of("generic"))
    (table if section is None else table[section])[key] = value
    return table


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_loads_and_is_called_like_its_file(name):
    profile = load_profile(name)
    assert profile.id == name
    assert profile.title != name
    assert profile.observation_categories


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "generic"])
def test_a_vendors_profile_says_only_what_differs(name):
    generic, own = table_of("generic"), table_of(name)
    same = [
        (section, key)
        for section in FACTS
        for key, told in own.get(section, {}).items()
        if told["value"] == generic[section][key]["value"]
    ]
    assert same == []


def test_vendors_differ_where_their_documents_say_so():
    epic, oracle, generic = (load_profile(name) for name in ("epic", "oracle-health", "generic"))
    assert epic.observation_needs_category
    assert not oracle.observation_needs_category
    assert not generic.observation_needs_category
    assert epic.observation_categories == generic.observation_categories
    assert oracle.charge_item is ChargeItemWrite.OWN_OPERATION
    assert (oracle.page_size, oracle.part_page_size) == (200, 200)
    assert load_profile("smart-health-it").max_parallel == 2
    assert generic.scope_style is ScopeStyle.AUTO
    assert generic.date_bounds is DateBounds.PAIR
    assert generic.charge_item is ChargeItemWrite.DECLARED


def test_a_profile_nobody_wrote_is_a_fault_that_lists_those_there_are():
    with pytest.raises(ConfigurationError, match=f"'cerner' is not one of {', '.join(profile_names())}"):
        load_profile("cerner")


def test_the_guide_for_integrators_names_every_vendor():
    guide = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text("utf-8")
    (line,) = [line for line in guide.splitlines() if line.startswith("profile = ")]
    assert sorted(line.partition("# ")[2].split(", ")) == sorted(set(profile_names()) - {"sandbox"})


@pytest.mark.parametrize("name", ["../issuers", "generic.toml", "", "/etc/passwd"])
def test_a_profiles_name_is_never_a_path(name):
    with pytest.raises(ConfigurationError):
        load_profile(name)


@pytest.mark.parametrize(
    "table",
    [
        changed(None, "extra", 1),
        changed("search", "pagesize", fact(1)),
        changed("scopes", "style", fact("v3")),
        changed("search", "date_bounds", fact("both")),
        changed("write", "charge_item", fact("guess")),
        changed("search", "page_size", fact("many")),
        changed("search", "page_size", fact(0)),
        changed("search", "strict_handling", fact(1)),
        changed("search", "observation_categories", fact("vital-signs")),
        changed("search", "page_size", 100),
        changed("search", "page_size", {"value": 100, "source": "x"}),
        changed("search", "page_size", fact(100, source=" ")),
        changed("search", "page_size", fact(100, checked="yesterday")),
        changed(None, "search", 7),
        {key: value for key, value in table_of("generic").items() if key != "write"},
    ],
)
def test_a_profile_with_a_key_too_many_too_few_or_wrong_is_one_clear_line(table):
    with pytest.raises(ConfigurationError) as caught:
        parse_profile("generic", table, None)
    assert str(caught.value).startswith("profile generic")
    assert "\n" not in str(caught.value)


def test_who_says_how_large_a_page_may_be_means_those_of_long_charts_too():
    epic = load_profile("epic")
    assert epic.part_page_size > epic.page_size
    smaller = overridden("issuers.x", epic, {"search": {"page_size": 50}})
    assert (smaller.page_size, smaller.part_page_size) == (50, 50)
    apart = overridden("issuers.x", epic, {"search": {"page_size": 50, "part_page_size": 200}})
    assert (apart.page_size, apart.part_page_size) == (50, 200)
    larger = overridden("issuers.x", epic, {"search": {"part_page_size": 800}})
    assert (larger.page_size, larger.part_page_size) == (epic.page_size, 800)


def test_one_server_may_differ_in_any_fact_from_its_profile():
    changed_search = {"page_size": 50, "method": "post", "observation_needs_category": False}
    found = overridden("issuers.x", load_profile("epic"), {"search": changed_search})
    assert (found.page_size, found.search_method) == (50, SearchMethod.POST)
    assert not found.observation_needs_category
    assert found.id == "epic"
    with pytest.raises(ConfigurationError, match=r"issuers\.x\.search\.page_size: is not a number above 0"):
        overridden("issuers.x", load_profile("epic"), {"search": {"page_size": "50"}})
    with pytest.raises(ConfigurationError, match=r"issuers\.x\.search: unknown key page"):
        overridden("issuers.x", load_profile("epic"), {"search": {"page": 50}})
    with pytest.raises(ConfigurationError, match=r"issuers\.x\.search: is not a table"):
        overridden("issuers.x", load_profile("epic"), {"search": 50})
