"""What a site's file says of the rules: read with the file, or refused with it in one line."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fhir_mappings.rules.tables import load_tables
from smartapp.configuration.site_file import SiteFileError, read_site_file


def shape(code: str, /, **more: Any) -> dict[str, Any]:
    rule: dict[str, Any] = msgspec.to_builtins(load_tables().codes[code])
    return {**rule, "covers_to": "2027-12-31", **more}


def write(folder: Path, **files: object) -> Path:
    """A site's file and what lies beside it, by name without its ending."""
    for name, table in files.items():
        (folder / f"{name}.yaml").write_text(table if isinstance(table, str) else yaml.safe_dump(table))
    return folder / "site.yaml"


CONFIRMED = """
rules_confirmed: [{codes: all, to: 2027-12-31, by: Ida, on: 2026-12-15, source: The final rule}]
"""


def test_a_confirmation_is_read_as_people_write_it(tmp_path: Path) -> None:
    """`on` without quotes is a key, and no truth value."""
    (entry,) = read_site_file(write(tmp_path, site=CONFIRMED)).rules_confirmed
    assert (entry.codes, entry.to, entry.on) == ("all", date(2027, 12, 31), date(2026, 12, 15))
    assert (entry.by, entry.source) == ("Ida", "The final rule")


def test_tables_of_codes_lie_beside_the_sites_file(tmp_path: Path) -> None:
    codes = [shape("98977"), shape("98980")]
    site = read_site_file(
        write(tmp_path, site={"code_tables": ["many.yaml", "one.yaml"]}, many=codes, one=shape("98975"))
    )
    assert [rule.code for rule in site.code_rules] == ["98977", "98980", "98975"]
    assert site.policies("medicare").default.ends["98980"] == date(2027, 12, 31)


def test_a_payers_tables_of_codes_lie_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "payers").mkdir()
    payer = {"payer": "ours", "label": "Ours", "last_checked": "2026-12-01", "code_tables": ["codes.yaml"]}
    write(tmp_path / "payers", ours=payer, codes=shape("98977"))
    site = read_site_file(write(tmp_path, site={"payer_tables": ["payers/ours.yaml"]}))
    assert site.policies("ours").default.ends["98977"] == date(2027, 12, 31)
    assert site.policies("medicare").default.ends["98977"] == date(2026, 12, 31)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"site": CONFIRMED.replace("2027-12", "2028-12")}, "site.yaml: rules_confirmed: `to: 2028-12-31`"),
        ({"site": CONFIRMED.replace("The final rule", '""')}, "source: name the published rule"),
        (
            {"site": CONFIRMED.replace("all", "[98977]")},
            r"Expected `str`, got `int` - at `\$.rules_confirmed",
        ),
        ({"site": {"code_tables": ["2027.yaml"]}}, "2027.yaml: No such file"),
        ({"site": {"code_tables": ["a.yaml"]}, "a": {"code": "98977"}}, "a.yaml: Object missing"),
        ({"site": {"code_tables": ["a.yaml"]}, "a": "{"}, "a.yaml: not YAML"),
        (
            {"site": {"code_tables": ["a.yaml"]}, "a": shape("98977", code="G9999")},
            "site.yaml: G9999: one service bears it or 98977",
        ),
        (
            {"site": {"code_tables": ["a.yaml"]}, "a": shape("98977", in_force_to="2021-01-01")},
            "a.yaml: 98977: it would end before it begins",
        ),
        (
            {"site": {"code_rules": [shape("98977")]}},
            "code_rules is no key of a site's file; name the file under",
        ),
        (
            {"site": {"code_tables": ["a.yaml", "b.yaml"]}, "a": shape("98977"), "b": shape("98977")},
            "site.yaml: 98977: two tables that speak from 2022-01-01 on",
        ),
        (
            {
                "site": {"payer_tables": ["ours.yaml"]},
                "ours": {
                    "payer": "ours",
                    "label": "Ours",
                    "last_checked": "2026-12-01",
                    "code_rules": [shape("98977")],
                },
            },
            "ours.yaml: code_rules is no key of a payer's table",
        ),
        (
            {
                "site": {"payer_tables": ["ours.yaml"]},
                "ours": {
                    "payer": "ours",
                    "label": "Ours",
                    "last_checked": "2026-12-01",
                    "coverage": [{"from": "2026-01-01", "codes": "all", "covered": "yes"}] * 2,
                },
            },
            "ours.yaml: coverage: 2 rows from 2026-01-01 name all",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_file(
    tmp_path: Path, files: dict[str, object], said: str
) -> None:
    with pytest.raises(SiteFileError, match=said) as refused:
        read_site_file(write(tmp_path, **files))
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("said", "known"), [("rpm", "rpm"), ("cgm", "cgm"), (None, "ask")])
def test_a_site_says_which_codes_report_a_glucose_sensor(
    tmp_path: Path, said: str | None, known: str
) -> None:
    path = write(tmp_path, site={} if said is None else {"continuous_glucose": said})
    assert read_site_file(path).policies(None).default.continuous_glucose == known


def test_any_other_word_for_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SiteFileError):
        read_site_file(write(tmp_path, site={"continuous_glucose": "both"}))
