"""Every value that decides, written down a second time: a slip in a table is no longer one in the tests too.

From the same sources as the tables (R1.1, R1.4, R5, R6), by hand and not by copying them. The functions take
no fixtures, so that they can be called by themselves.
"""

from __future__ import annotations

from datetime import date, timedelta

from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.tables import Covered, Kind, load_tables

IN_2018, IN_2019, IN_2020 = date(2018, 1, 1), date(2019, 1, 1), date(2020, 1, 1)
IN_2022, IN_2023, IN_2026 = date(2022, 1, 1), date(2023, 1, 1), date(2026, 1, 1)
LAST_DAY = date(2026, 12, 31)
A_DAY = timedelta(days=1)

#: code -> program, kind, line, in force from, least days or seconds and since when
CODES = {
    "98975": ("rtm", Kind.START_UP, None, IN_2022, [(IN_2022, 16), (IN_2026, 2)]),
    "98976": ("rtm", Kind.DEVICE_SUPPLY, "respiratory", IN_2022, [(IN_2022, 16)]),
    "98977": ("rtm", Kind.DEVICE_SUPPLY, "musculoskeletal", IN_2022, [(IN_2022, 16)]),
    "98978": ("rtm", Kind.DEVICE_SUPPLY, "cognitive-behavioral", IN_2023, [(IN_2023, 16)]),
    "98984": ("rtm", Kind.DEVICE_SUPPLY, "respiratory", IN_2026, [(IN_2026, 2)]),
    "98985": ("rtm", Kind.DEVICE_SUPPLY, "musculoskeletal", IN_2026, [(IN_2026, 2)]),
    "98986": ("rtm", Kind.DEVICE_SUPPLY, "cognitive-behavioral", IN_2026, [(IN_2026, 2)]),
    "98979": ("rtm", Kind.MANAGEMENT, None, IN_2026, [(IN_2026, 10 * 60)]),
    "98980": ("rtm", Kind.MANAGEMENT, None, IN_2022, [(IN_2022, 20 * 60)]),
    "98981": ("rtm", Kind.MANAGEMENT_ADD_ON, None, IN_2022, [(IN_2022, 20 * 60)]),
    "99453": ("rpm", Kind.START_UP, None, IN_2019, [(IN_2019, 16), (IN_2026, 2)]),
    "99454": ("rpm", Kind.DEVICE_SUPPLY, "physiologic", IN_2019, [(IN_2019, 16)]),
    "99445": ("rpm", Kind.DEVICE_SUPPLY, "physiologic", IN_2026, [(IN_2026, 2)]),
    "99470": ("rpm", Kind.MANAGEMENT, None, IN_2026, [(IN_2026, 10 * 60)]),
    "99457": ("rpm", Kind.MANAGEMENT, None, IN_2019, [(IN_2019, 20 * 60)]),
    "99458": ("rpm", Kind.MANAGEMENT_ADD_ON, None, IN_2020, [(IN_2020, 20 * 60)]),
    "99091": ("rpm", Kind.HELD_BACK, None, IN_2018, []),
}
#: Of each group the first gives way to the second.
GROUPS = [
    *(("98984", "98976"), ("98985", "98977"), ("98986", "98978"), ("99445", "99454")),
    *(("98979", "98980"), ("99470", "99457")),
]
#: Codes that never stand together in one window.
APART = {
    *map(frozenset, GROUPS),
    *map(frozenset, [("98979", "98981"), ("99470", "99458")]),
    *map(frozenset, [("99091", "99457"), ("99091", "99458"), ("99091", "99470")]),
}
ADD_ONS = {"98981": "98980", "99458": "99457"}
THERAPY = {"physical": "GP", "occupational": "GO", "speech": "GN"}
ASSISTANT = {"physical": "CQ", "occupational": "CO"}
WITH_THERAPY = {"98975", "98976", "98977", "98979", "98980", "98981", "98984", "98985"}
WITH_ASSISTANT = {"98975", "98979", "98980", "98981"}

RTM = [code for code, (program, *_) in CODES.items() if program == "rtm"]
NEW_CODES = ["98979", "98984", "98985", "98986", "99445", "99470"]
#: payer -> codes, and what it says of them from a day on; everything else is unknown.
PAYERS = {
    "medicare": (list(CODES), [(IN_2019, Covered.YES)]),
    "anthem": (NEW_CODES, [(date(2025, 12, 18), Covered.CRITERIA)]),
    "cigna": (
        [*RTM, "99453", "99454", "99457", "99458", "99470"],
        [(date(2025, 9, 26), Covered.CRITERIA), (date(2026, 5, 16), Covered.UNKNOWN)],
    ),
    "aetna": (list(CODES), [(date(2026, 5, 8), Covered.UNKNOWN)]),
    "unitedhealthcare": (
        ["99445", "99453", "99454", "99457", "99458", "99470"],
        [(IN_2026, Covered.YES)],
    ),
    "bcbs": (list(CODES), [(IN_2019, Covered.UNKNOWN)]),
    "humana": (list(CODES), [(IN_2019, Covered.UNKNOWN)]),
    "unknown": ([], []),
}
#: Codes that go before 99453, 99454 and 99445; of those of continuous glucose True.
MORE_SPECIFIC = {"95250": True, "95251": True, "99473": False, "99474": False}
SETTINGS = {
    "continuous_glucose": "ask",
    "minutes_kept_in": "ehr",
    "multi_device_rule": "max",
    "contacts_per_addon_unit": 0,
    "rtm_aux_time_counts": False,
    "empty_days_until_episode_unclear": 90,
    "assistant_de_minimis_percent": 10,
    "rtm_and_rpm_exclusive": True,
}


def test_codes_and_their_thresholds() -> None:
    tables = load_tables()
    assert set(tables.codes) == set(CODES)
    for code, (program, kind, line, in_force_from, least) in CODES.items():
        rule = tables.codes[code]
        assert (rule.program, rule.kind, rule.line) == (program, kind, line), code
        assert (rule.in_force_from, rule.covers_to) == (in_force_from, LAST_DAY), code
        days, seconds = rule.monitoring_days, rule.management_seconds
        assert [(row.start, row.least) for row in (*days, *seconds)] == least, code
        assert bool(days) == (kind in (Kind.START_UP, Kind.DEVICE_SUPPLY)), code
        assert bool(seconds) == (kind in (Kind.MANAGEMENT, Kind.MANAGEMENT_ADD_ON)), code


def test_codes_that_go_before_ours() -> None:
    found = load_tables().more_specific
    assert {code: entry.monitor == "continuous-glucose" for code, entry in found.items()} == MORE_SPECIFIC
    for entry in found.values():
        assert entry.goes_before.program == "rpm"
        assert set(entry.goes_before.kinds) == {Kind.START_UP, Kind.DEVICE_SUPPLY}


def test_codes_beside_each_other() -> None:
    tables = load_tables()
    apart = {frozenset((code, other)) for code, rule in tables.codes.items() for other in rule.excludes}
    assert apart == APART
    for pair in APART:
        one, other = sorted(pair)
        assert other in tables.codes[one].excludes
        assert one in tables.codes[other].excludes
    grouped: dict[str | None, list[str]] = {}
    for code, rule in sorted(tables.codes.items(), key=lambda item: item[1].tier):
        grouped.setdefault(rule.group, []).append(code)
        assert rule.tier == (0 if rule.group is None else len(grouped[rule.group])), code
    alone = grouped.pop(None)
    assert sorted(map(tuple, grouped.values())) == sorted(GROUPS)
    assert set(alone) == set(CODES) - {code for pair in GROUPS for code in pair}
    assert {code: rule.base for code, rule in tables.codes.items() if rule.base} == ADD_ONS
    assert {
        code: rule.units_cap for code, rule in tables.codes.items() if rule.units_cap is not None
    } == dict.fromkeys(ADD_ONS, 3)


def test_modifiers_of_therapists_and_assistants() -> None:
    for code, rule in load_tables().codes.items():
        assert dict(rule.therapy_modifiers) == (THERAPY if code in WITH_THERAPY else {}), code
        assert dict(rule.assistant_modifiers) == (ASSISTANT if code in WITH_ASSISTANT else {}), code


def test_payers() -> None:
    tables = load_tables()
    assert set(tables.payers) == set(PAYERS)
    for payer, (codes, rows) in PAYERS.items():
        rule = tables.payers[payer]
        for code in CODES:
            told = [(row.start, row.covered) for row in rule.rows(code)]
            assert told == (rows if code in codes else []), (payer, code)
            for start, covered in rows if code in codes else []:
                assert rule.covered(code, start) is covered
            first = rows[0][0] if rows else IN_2026
            assert rule.covered(code, first - A_DAY) is Covered.UNKNOWN
        named = {code for row in rule.coverage if row.codes != "all" for code in row.codes}
        assert named <= set(codes)
        for row in rule.coverage:
            assert (row.least, row.units_cap, row.diagnoses, row.modifiers) == (None, None, (), ())


def test_settings() -> None:
    assert {name: row.value for name, row in load_tables().settings.items()} == SETTINGS
    for payer in PAYERS:
        differs = {"rtm_aux_time_counts": True} if payer == "medicare" else {}
        assert dict(load_policy(payer).settings) == {**SETTINGS, **differs}
        assert dict(load_tables().payers[payer].settings) == differs
