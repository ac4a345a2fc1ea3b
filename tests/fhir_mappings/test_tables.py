"""The tables as they are read: closed, in order, and each value with its words for a reader."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fhir_mappings.rules import tables
from fhir_mappings.rules.tables import (
    CodeRule,
    Coverage,
    Covered,
    Dated,
    GoesBefore,
    Kind,
    MoreSpecific,
    PayerRule,
    RuleEntry,
    SettingRow,
    Source,
    Tables,
    load_tables,
    setting_value,
    shipped_codes,
)
from fhir_mappings.vocabulary import Program

TABLES = load_tables()
ROWS: dict[type[Any], Callable[[], Any]] = {
    CodeRule: lambda: TABLES.codes["98975"],
    Dated: lambda: TABLES.codes["98975"].monitoring_days[0],
    Source: lambda: TABLES.sources["S1"],
    RuleEntry: lambda: TABLES.register[0],
    MoreSpecific: lambda: TABLES.more_specific["95250"],
    GoesBefore: lambda: TABLES.more_specific["95250"].goes_before,
    SettingRow: lambda: TABLES.settings["multi_device_rule"],
    PayerRule: lambda: TABLES.payers["cigna"],
    Coverage: lambda: TABLES.payers["cigna"].coverage[0],
}


@pytest.mark.parametrize("kind", ROWS)
def test_a_key_that_nobody_knows_is_refused(kind: type[Any]) -> None:
    row = msgspec.to_builtins(ROWS[kind]())
    assert msgspec.convert(row, kind) == ROWS[kind]()
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert({**row, "colour": "red"}, kind)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tables, which are read from there."""
    shutil.copytree(Path(str(tables.files("fhir_mappings.rules"))), tmp_path / "rules")
    monkeypatch.setattr(tables, "files", lambda package: tmp_path / "rules")
    return tmp_path / "rules"


def read() -> Tables:
    return load_tables.__wrapped__()


def test_the_version_is_of_the_last_check_and_of_every_table(copied: Path) -> None:
    assert read().version == TABLES.version
    code = copied / "codes" / "98975.yaml"
    code.write_text(code.read_text().replace("\nlast_checked: 2026-11-22", "\nlast_checked: 2026-10-01"))
    (copied / "codes" / "98975.yaml~").write_text("somebody's editor kept this")
    changed = read()
    day, _, digest = changed.version.partition("+")
    assert changed.codes["98975"].last_checked == date(2026, 10, 1)
    assert day == TABLES.version.partition("+")[0]
    assert digest != TABLES.version.partition("+")[2]
    assert list(changed.codes) == list(TABLES.codes)


@pytest.mark.parametrize(
    "name",
    ["register.yaml", "settings.yaml", "sources.yaml", "payers/aetna.yaml", "more_specific.yaml"],
)
def test_a_change_of_any_table_is_another_version(copied: Path, name: str) -> None:
    (copied / name).write_text((copied / name).read_text() + "# changed\n")
    assert read().version != TABLES.version


def test_the_shipped_tables_are_named_as_their_files() -> None:
    folder = Path(str(tables.files("fhir_mappings.rules")))
    for name, found in (("codes", TABLES.codes), ("payers", TABLES.payers)):
        assert list(found) == sorted(path.stem for path in (folder / name).glob("*.yaml"))


def test_a_table_that_cannot_be_read_is_named(copied: Path) -> None:
    code = copied / "codes" / "98977.yaml"
    code.write_text(code.read_text().replace("line: musculoskeletal", "line: nowhere"))
    with pytest.raises(msgspec.ValidationError, match=r"codes/98977\.yaml: Invalid enum value 'nowhere'"):
        read()


@pytest.mark.parametrize(
    ("program", "kinds", "codes"),
    [
        ("rtm", (Kind.START_UP,), ["98975"]),
        ("rpm", (Kind.START_UP,), ["99453"]),
        ("rtm", (Kind.DEVICE_SUPPLY,), ["98984", "98985", "98986", "98976", "98977", "98978"]),
        ("rpm", (Kind.DEVICE_SUPPLY,), ["99445", "99454"]),
        ("rtm", (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON), ["98979", "98980", "98981"]),
        ("rpm", (Kind.MANAGEMENT_ADD_ON, Kind.MANAGEMENT), ["99470", "99457", "99458"]),
        ("rpm", (Kind.HELD_BACK,), ["99091"]),
        ("rtm", (Kind.HELD_BACK,), []),
    ],
)
def test_lower_tiers_come_first_and_add_ons_last(
    program: str, kinds: tuple[Kind, ...], codes: list[str]
) -> None:
    assert [rule.code for rule in TABLES.rules_of(Program(program), kinds)] == codes


def test_every_code_has_its_program() -> None:
    assert dict(shipped_codes().programs) == {code: rule.program for code, rule in TABLES.codes.items()}
    assert {code for code, program in shipped_codes().programs.items() if program is Program.RPM} == {
        *("99091", "99445", "99453", "99454", "99457", "99458", "99470")
    }


def test_a_reference_is_words_to_follow() -> None:
    assert TABLES.reference(("S2", "S8")) == (
        "AAPC, coding of RTM and RPM in 2026 [aapc.com]; "
        "Limber Health, 98985 [limberhealth.com/blog/cpt-code-98985-rtm-device-supply]"
    )
    assert TABLES.reference(()) == ""
    assert TABLES.reference(("The final rule for 2027", "S8")).startswith("The final rule for 2027; Limber")


def test_what_a_payer_says_of_a_code_is_one_of_five() -> None:
    assert [str(entry) for entry in Covered] == ["yes", "no", "unknown", "prior-auth", "criteria"]
    assert len(Kind) == 5


def test_a_setting_keeps_its_type() -> None:
    shipped = TABLES.settings["contacts_per_addon_unit"]
    assert setting_value(2, shipped, "contacts_per_addon_unit") == 2
    with pytest.raises(ValueError, match="setting contacts_per_addon_unit: expected int, got '2'"):
        setting_value("2", shipped, "contacts_per_addon_unit")


def test_what_a_table_need_not_say() -> None:
    least = {
        **{"code": "1", "label": "x", "program": "rtm", "kind": "management", "unit": "one"},
        **{
            "in_force_from": "2026-01-01",
            "sources": [],
            "last_checked": "2026-01-01",
            "covers_to": "2026-12-31",
        },
    }
    rule = msgspec.convert(least, CodeRule)
    assert (rule.line, rule.group, rule.tier, rule.base, rule.units_cap) == (None, None, 0, None, None)
    assert (rule.excludes, rule.monitoring_days, rule.management_seconds, rule.note) == ((), (), (), "")
    assert (rule.therapy_modifiers, rule.assistant_modifiers) == ({}, {})
    payer = msgspec.convert({"payer": "x", "label": "X", "last_checked": "2026-01-01"}, PayerRule)
    assert (payer.coverage, payer.settings, payer.note, payer.sources, payer.published) == (
        (),
        {},
        "",
        (),
        None,
    )
    row = msgspec.convert({"from": "2026-01-01", "codes": "all", "covered": "yes"}, Coverage)
    assert (row.least, row.units_cap, row.diagnoses, row.modifiers) == (None, None, (), ())
