"""`smartapp rules`: the rules of any day and payer, what is stale, and the page made from the tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_mappings.rules.tables import load_tables
from smartapp.cli import main

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main(["rules", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def rules(out: str) -> dict[str, dict[str, Any]]:
    return {rule["id"]: rule for rule in json.loads(out)["rules"]}


def test_a_code_needs_what_was_in_force_on_the_day(run: Run) -> None:
    before = rules(run("--as-of", "2025-12-31", "--json")[1])
    after = rules(run("--as-of", "2026-01-01", "--json")[1])
    assert before["R1.1-98975"]["value"].startswith("Needs 16 days")
    assert after["R1.1-98975"]["value"].startswith("Needs 2 days")
    assert before["R1.1-98985"]["value"] == "Not in force before 2026-01-01."
    assert "R1.3-2" not in before
    assert after["R1.3-2"]["since"] == "2026-01-01"


def test_every_rule_says_where_it_comes_from_and_when_it_was_checked(run: Run) -> None:
    found = rules(run("--as-of", "2026-04-01", "--json")[1])
    assert len(found) > 100
    assert {"R1.1-98977", "R2.9", "R4-4", "R5-1", "R6-cigna", "D14"} <= set(found)
    last = max(code.covers_to for code in load_tables().codes.values()).isoformat()
    for rule in found.values():
        assert "2026-11-01" <= rule["last_checked"] <= last  # who checks later makes the tables cover more
        assert rule["reference"] or rule["id"][0] in "DR"
    assert found["R1.3-1"]["published"] == "2025-11-03"


def test_a_payers_settings_are_told_with_the_rule(run: Run) -> None:
    medicare = rules(run("--as-of", "2026-04-01", "--payer", "medicare", "--json")[1])
    anthem = rules(run("--as-of", "2026-04-01", "--payer", "anthem", "--json")[1])
    assert medicare["R4-8"]["value"] == "(rtm_aux_time_counts = true)"
    assert anthem["R4-8"]["value"] == "(rtm_aux_time_counts = false)"
    assert "Payer anthem: criteria." in anthem["R1.1-98985"]["value"]


def test_a_sites_settings_and_payers_are_the_rules_there(tmp_path: Path, run: Run) -> None:
    (tmp_path / "acme.yaml").write_text(
        "payer: acme\nlabel: Acme Health\nlast_checked: 2026-10-01\nsources: []\n"
        "coverage: [{from: 2026-01-01, codes: ['98977'], covered: 'yes', least: 20}]\n"
    )
    site = tmp_path / "site.yaml"
    site.write_text("payer: acme\nsettings: {contacts_per_addon_unit: 1}\npayer_tables: [acme.yaml]\n")
    found = rules(run("--as-of", "2026-04-01", "--site", site, "--json")[1])
    assert found["R1.1-98977"]["value"].startswith("Needs 20 days")
    assert found["D10"]["value"] == "(contacts_per_addon_unit = 1)"
    assert found["R6-acme"]["last_checked"] == "2026-10-01"


def test_what_nobody_checked_lately_is_listed_and_fails(run: Run) -> None:
    code, out, _ = run("--as-of", "2027-11-22", "--stale-after", "180d", "--json")
    assert code == 1
    assert len(rules(out)) > 100
    code, out, _ = run("--as-of", "2026-11-23", "--stale-after", "180d")
    assert (code, out) == (0, "Everything was checked within 180d before 2026-11-23.\n")


def test_the_boundary_of_stale_is_the_day_itself(run: Run) -> None:
    assert run("--as-of", "2026-11-24", "--stale-after", "2d")[0] == 0
    assert run("--as-of", "2026-11-25", "--stale-after", "2d")[0] == 1


def test_a_person_reads_them_part_by_part(run: Run) -> None:
    code, out, _ = run("--as-of", "2026-04-01")
    assert code == 0
    assert out.startswith("Rules for dates of service on 2026-04-01, payer medicare\n")
    for heading in ("Codes", "Time and conversations", "Payers", "Defaults where the sources are silent"):
        assert f"\n{heading}" in out
    assert "last checked 2026-11-22" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as-of", "tomorrow"], "expected a date"),
        (["--payer", "nobody"], "no table for payer 'nobody'"),
        (["--stale-after", "soon"], "expected days such as 180d"),
        (["--site", "no-site.yaml"], "no-site.yaml"),
        (["--colour"], "--colour"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_two(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


# -- past the tables ----------------------------------------------------------

CONFIRMED = """
rules_confirmed:
  - {codes: ["98977"], to: 2027-12-31, by: Ida of billing, on: 2026-12-15, source: The final rule for 2027}
"""


def test_past_the_tables_the_first_line_says_so(run: Run) -> None:
    code, out, _ = run("--as-of", "2027-01-15")
    assert code == 0
    first = out.splitlines()[0]
    assert first.startswith(
        "Nobody has checked the rules for 2027-01-15 (all codes); they were checked up to 2026-12-31"
    )
    assert "rules-of-the-year" in first
    assert "docs/new-year.md" in first
    assert "Nobody has checked" not in run("--as-of", "2026-12-31")[1]
    answer = json.loads(run("--as-of", "2027-01-15", "--json")[1])
    assert (answer["tables_end"], answer["not_checked"]) == ("2026-12-31", list(load_tables().codes))
    assert json.loads(run("--as-of", "2026-12-31", "--json")[1])["not_checked"] == []


def test_what_the_site_confirmed_is_told_with_its_source(tmp_path: Path, run: Run) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(CONFIRMED)
    _, out, _ = run("--as-of", "2027-01-15", "--site", site)
    assert "98977" not in out.splitlines()[0]
    said = "Confirmed for 98977 up to 2027-12-31, by Ida of billing on 2026-12-15: The final rule for 2027"
    assert said in out.splitlines()
    answer = json.loads(run("--as-of", "2027-01-15", "--site", site, "--json")[1])
    assert "98977" not in answer["not_checked"]
    assert answer["rules_confirmed"][0]["source"] == "The final rule for 2027"
    assert said in run("diff", "2026-12-31", "2027-01-01", "--site", site)[1].splitlines()


def test_where_nothing_changes_with_the_year_it_is_said_plainly(run: Run) -> None:
    code, out, err = run("diff", "2026-12-31", "2027-01-01")
    assert (code, err) == (0, "")
    assert "Nothing changes in the tables; they end on 2026-12-31." in out.splitlines()
    assert "Nobody has checked the rules for 2027-01-01 (all codes)" in out
    assert "P2027-1" in out
    assert "91 FR 43842" in out
    answer = json.loads(run("diff", "2026-12-31", "2027-01-01", "--json")[1])
    assert (answer["changes"], answer["tables_end"]) == ([], "2026-12-31")
    assert [rule["id"] for rule in answer["proposed"]] == ["P2027-1", "P2027-2", "P2027-3", "P2027-4"]
    assert {rule["status"] for rule in answer["proposed"]} == {"proposed"}


def test_what_changed_with_2026_is_told_by_kind(run: Run) -> None:
    _, out, _ = run("diff", "2025-12-31", "2026-01-01")
    assert out.startswith("What changes between dates of service 2025-12-31 and 2026-01-01, payer medicare\n")
    for line in ("Codes that begin or end", "What a code asks for", "Payers' rows"):
        assert line in out.splitlines()
    assert "  98975    16 days -> 2 days" in out.splitlines()
    assert "Nothing changes" not in out
    assert "Nobody has checked" not in out
    assert "Proposed" not in out
    answer = json.loads(run("diff", "2025-12-31", "2026-01-01", "--json")[1])
    (start_up,) = (one for one in answer["changes"] if one["about"] == "98975")
    assert (start_up["changed"], start_up["before"]) == ("what a code asks for", "16 days")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["2026-12-31"], "required: DAY"),
        (["2026-12-31", "soon"], "diff: expected a date"),
        (["2027-01-01", "2026-12-31"], "the second day must be the later one"),
        (["2027-01-01", "2027-01-01"], "the second day must be the later one"),
        (["2026-12-31", "2027-01-01", "--payer", "nobody"], "no table for payer 'nobody'"),
        (["2026-12-31", "2027-01-01", "--site", "no-site.yaml"], "no-site.yaml"),
    ],
)
def test_a_wrong_call_of_diff_is_one_line_and_status_two(run: Run, arguments: list[str], said: str) -> None:
    code, out, err = run("diff", *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert said in err


def test_a_payer_table_that_is_wrong_names_its_file(tmp_path: Path, run: Run) -> None:
    (tmp_path / "acme.yaml").write_text("payer: acme\ncolour: red\n")
    site = tmp_path / "site.yaml"
    site.write_text("payer_tables: [acme.yaml]\n")
    code, _, err = run("--site", site)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "acme.yaml" in err


def test_the_rules_page_is_made_from_todays_tables(run: Run) -> None:
    _, page, _ = run("--markdown")
    assert (ROOT / "docs" / "rules.md").read_text() == page, "docs/rules.md is stale: make docs"


def test_the_rules_page_names_every_rule_source_and_setting(run: Run) -> None:

    tables = load_tables()
    _, page, _ = run("--markdown")
    for name in (*(entry.id for entry in tables.register), *(f"R1.1-{code}" for code in tables.codes)):
        assert f"| {name} |" in page
    for payer in tables.payers:
        assert f"**R6-{payer}**" in page
    for source in tables.sources:
        assert f"- {source} " in page
    for setting in tables.settings:
        assert f"| `{setting}` |" in page
