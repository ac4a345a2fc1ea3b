"""The tool that tries whether the tests notice a fault (tests/mutation)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fhir_mappings.rules.tables import Covered, Kind
from fhir_mappings.vocabulary import MONITORING_PROGRAMS, Line
from tests.mutation.code import code_mutants
from tests.mutation.run import Baseline, Runner, Verdict
from tests.mutation.suite import Item, forget_ours
from tests.mutation.tables import CLOSED, TableMutant, table_files, table_mutants

ROOT = Path(__file__).parents[1]
RULE = '''
def earned(days):
    """At least sixteen different days."""
    return len(set(sorted(days))) >= 16
'''


class OneItem:
    """A suite of one assertion."""

    def __init__(self, check: Any) -> None:
        self.check = check

    def in_process(self) -> list[Item]:
        forget_ours()
        return [Item("the check", self.check)]


def verdicts(root: Path, mutants: list[Any], check: Any) -> list[Verdict]:
    suite: Any = OneItem(check)
    functions = {f"{mutant.file}|{mutant.function}" for mutant in mutants if hasattr(mutant, "function")}
    baseline = Baseline({"the check": 0.0}, {"the check": functions})
    return [verdict for _, verdict in Runner(root, suite, baseline).run(mutants)]


@pytest.mark.parametrize(
    ("key", "values"),
    [("program", MONITORING_PROGRAMS), ("line", Line), ("kind", Kind), ("covered", Covered)],
)
def test_what_a_value_of_a_closed_set_may_become_is_the_whole_set(key: str, values: Iterable[str]) -> None:
    """Written there a second time, since the tool may load nothing of the product before it is changed."""
    assert sorted(CLOSED[key]) == sorted(values)


def test_a_planted_fault_is_noticed_and_a_change_without_effect_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted.py").write_text(RULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def check() -> None:
        earned = importlib.import_module("planted").earned
        assert [earned([*range(n), 0]) for n in (15, 16)] == [False, True]

    mutants = code_mutants(tmp_path, "planted.py", {})
    told = dict(zip([mutant.what for mutant in mutants], verdicts(tmp_path, mutants, check), strict=True))
    assert {what: verdict.by for what, verdict in told.items()} == {
        "return value: `return len(set(sorted(days))) >= 16` -> `return None`": "the check",
        "comparison: `len(set(sorted(days))) >= 16` -> `len(set(sorted(days))) > 16`": "the check",
        "sorted: `sorted(days)` -> `list(days)`": None,
        "constant: `16` -> `17`": "the check",
        "constant: `16` -> `15`": "the check",
    }


def test_an_endless_mutant_is_stopped_and_counts_as_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waiting.py").write_text("def down(n):\n    while n:\n        n -= 1\n    return n\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("tests.mutation.run.PATIENCE", 0.2)
    (dropped,) = (one for one in code_mutants(tmp_path, "waiting.py", {}) if one.after == "pass")
    (verdict,) = verdicts(tmp_path, [dropped], lambda: importlib.import_module("waiting").down(3))
    assert verdict.by == "the check (SIGPROF)"


def test_a_wrong_value_in_a_table_is_noticed_and_the_same_table_is_not() -> None:
    file = "fhir_mappings/rules/codes/98985.yaml"

    def check() -> None:
        rule = importlib.import_module("fhir_mappings.rules.tables").load_tables().codes["98985"]
        assert rule.monitoring_days[0].least == 2

    mutants = list(table_mutants(ROOT, file, ["98977", "98985"], ["S2", "S3", "S4", "S8"]))
    (wrong,) = (one for one in mutants if one.where == "monitoring_days[0].least" and one.after == "3")
    (dropped,) = (one for one in mutants if one.where == "monitoring_days[0]" and one.kind == "dropped")
    (label,) = (one for one in mutants if one.where == "label" and one.kind == "value")
    same = TableMutant(file, "", "unchanged", "", "", True, lambda: (ROOT / file).read_text())
    told = verdicts(ROOT, [wrong, dropped, label, same], check)
    assert [verdict.by for verdict in told] == ["the check", "the check", None, None]


def test_each_kind_of_table_is_read_where_a_mutant_of_it_stands() -> None:
    def check() -> None:
        importlib.import_module("fhir_mappings.rules.tables").load_tables()
        importlib.import_module("fhir_mappings.rules.reviews").load_reviews()

    # One of each folder, and each that lies beside the rules.
    kinds = {
        file if Path(file).parent.name == "rules" else str(Path(file).parent): file
        for file in table_files(ROOT)
    }
    broken = [
        TableMutant(file, "", "broken", "", "", True, lambda: "nothing: of it") for file in kinds.values()
    ]
    assert [verdict.by for verdict in verdicts(ROOT, broken, check)] == ["the check"] * len(kinds)


def test_every_value_of_a_table_has_a_mutant() -> None:
    file = "fhir_mappings/rules/codes/98975.yaml"
    mutants = list(table_mutants(ROOT, file, ["98975", "98976"], [f"S{n}" for n in range(40)]))
    told = {(one.where, one.before, one.after) for one in mutants}
    assert {
        ("monitoring_days[1].from", "2026-01-01", "2026-01-02"),
        ("monitoring_days[1].from", "2026-01-01", "2025-12-31"),
        ("monitoring_days[1].least", "2", "1"),
        ("therapy_modifiers.physical", "GP", "GO"),
        ("sources[0]", "S7", "S8"),
    } <= told
