"""`smartapp internal-audit`: a sample that anybody draws again, and screens that trip or do not."""

from __future__ import annotations

import hashlib
import json
import stat
from datetime import date
from math import comb

import pytest
from cryptography.fernet import Fernet

from fhir_mappings.rules.tables import Kind
from smartapp.commands.audit_screens import (
    Audited,
    at_threshold,
    device_without_management,
    growth,
    no_reason,
    same_spans,
    screens,
    several_devices,
    tail,
    vague_diagnosis,
)
from smartapp.commands.internal_audit import digest_of_keys, drawn, run
from smartapp.commands.packet import run as run_packet
from smartapp.store import Store
from smartapp.store.claims import ChargeState
from tests.smartapp.test_denials_page import accepted
from tests.support.months import keep_charge

MARCH = date(2026, 3, 1)


def one(key: str, **more) -> Audited:
    told = {"patient": f"syn-{key}", "code": "98977", "kind": Kind.DEVICE_SUPPLY}
    return Audited(key, **(told | more))


def management(key: str, seconds: int = 1500, **more) -> Audited:
    return one(key, code="98980", kind=Kind.MANAGEMENT, seconds=seconds, **more)


# The screens: each trips, and each does not


def test_device_supply_of_patients_nobody_worked_for_is_pointed_at():
    alone, worked = one("a"), one("b")
    found = device_without_management([alone, worked, management("c", patient="syn-b")], [])
    assert (found.tripped, found.found) == (True, ("a",))
    before = [management("d", patient="syn-a"), management("e", patient="syn-b")]
    assert not device_without_management([alone, worked], before).tripped


@pytest.mark.parametrize("threshold", [2, 16])
def test_far_more_days_at_a_threshold_than_above_it_are_pointed_at_with_the_statistic(threshold):
    at = [one(f"at{n}", days=threshold) for n in range(20)]
    above = [one(f"up{n}", days=threshold + 1 + n % 3) for n in range(6)]
    found = at_threshold([*at, *above], "days", "days", lambda each: each.days, threshold)
    assert found.tripped
    assert "20 of the 26" in found.how
    assert "binomial, one-sided" in found.how
    evenly = [one(f"e{n}", days=threshold + n % 4) for n in range(80)]
    assert not at_threshold(evenly, "days", "days", lambda each: each.days, threshold).tripped
    few = [one(f"f{n}", days=threshold) for n in range(4)]
    assert not at_threshold(few, "days", "days", lambda each: each.days, threshold).tripped


@pytest.mark.parametrize("minutes", [10, 20])
def test_exactly_ten_or_twenty_minutes_are_pointed_at_and_one_second_more_is_not_exact(minutes):
    def tripped(month):
        found = screens(month, [], {}, MARCH)
        return next(each for each in found if each.id == f"exactly-minutes-{minutes}").tripped

    exact = [management(f"x{n}", minutes * 60) for n in range(12)]
    assert tripped(exact)
    assert not tripped([management(f"x{n}", minutes * 60 + 1 + n) for n in range(12)])
    assert not tripped([management(f"x{n}", (minutes + n % 4) * 60) for n in range(40)])


@pytest.mark.parametrize(("found", "among"), [(0, 10), (3, 10), (10, 10), (400, 1200), (1200, 4000)])
def test_the_tail_is_that_of_the_binomial_distribution(found, among):
    exact = sum(comb(among, k) * 3 ** (among - k) for k in range(found, among + 1)) / 4**among
    assert tail(found, among, 0.25) == pytest.approx(exact, rel=1e-6)


def test_several_devices_of_a_patient_are_pointed_at():
    first = one("a", patient="p", devices=frozenset({"Device/1"}))
    second = one("b", patient="p", code="99454", devices=frozenset({"Device/2"}))
    assert several_devices([first, second]).found == ("a", "b")
    assert not several_devices([first, one("c", patient="q", devices=frozenset({"Device/2"}))]).tripped


def test_sudden_growth_is_pointed_at_and_a_slow_one_or_a_first_month_is_not():
    months = {date(2025, 12, 1): 20, date(2026, 1, 1): 22, date(2026, 2, 1): 24}
    assert growth(months | {MARCH: 60}, MARCH).tripped
    assert not growth(months | {MARCH: 28}, MARCH).tripped
    assert not growth({date(2026, 2, 1): 2, MARCH: 6}, MARCH).tripped, "a small program"
    assert not growth({MARCH: 60}, MARCH).tripped, "nothing to compare with"


def test_the_same_spans_as_the_month_before_are_pointed_at():
    spans = (("10:00:00", 600), ("14:30:00", 900))
    before = [management("b", patient="p", spans=spans)]
    assert same_spans([management("a", patient="p", spans=spans)], before).found == ("a",)
    other = (("10:00:00", 600), ("14:30:00", 901))
    assert not same_spans([management("a", patient="p", spans=other)], before).tripped
    assert not same_spans([management("a", patient="q", spans=spans)], before).tripped, "another patient"


def test_symptoms_and_circumstances_alone_are_vague_and_a_disease_beside_them_is_not():
    assert vague_diagnosis([one("a", diagnoses=("R07.9", "Z91.19"))]).found == ("a",)
    assert not vague_diagnosis([one("a", diagnoses=("R07.9", "I10"))]).tripped
    assert not vague_diagnosis([one("a")]).tripped, "none at all is the next screen's"


def test_no_diagnosis_and_no_order_in_the_record_is_pointed_at():
    assert no_reason([one("a", order_recorded=False)]).found == ("a",)
    assert not no_reason([one("a", order_recorded=False, diagnoses=("I10",))]).tripped
    assert not no_reason([one("a")]).tripped


# The sample


def test_the_sample_is_drawn_again_by_anybody_who_has_keys_and_seed():
    keys = [f"{n:040x}" for n in range(100)]
    first = drawn(keys, "seed", 20)
    assert drawn(reversed(keys), "seed", 20) == first, "in whatever order the keys come"
    assert drawn(keys, "another", 20) != first
    by_hand = min(keys, key=lambda key: hashlib.sha256(f"seed\n{key}".encode()).hexdigest())
    assert first[0] == by_hand
    assert len(set(drawn(keys, "seed", 500))) == 100
    assert digest_of_keys(keys) == hashlib.sha256("".join(f"{key}\n" for key in keys).encode()).hexdigest()


# The command


@pytest.fixture
def at_command(tmp_path, monkeypatch, now):
    key, url = Fernet.generate_key(), f"sqlite:///{tmp_path / 'app.sqlite3'}"
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", url)
    monkeypatch.setenv("SMARTAPP_KEYS", key.decode())
    monkeypatch.chdir(tmp_path)
    store = Store(url, [key])
    store.database.migrate()
    for number in range(6):
        keep_charge(store, f"{number:040x}", now, issuer_id="general", patient=f"syn-{number}")
    keep_charge(store, "f" * 40, now, issuer_id="general", state=ChargeState.REFUSED)
    keep_charge(store, "e" * 40, now, issuer_id="general", day=date(2026, 2, 28))
    yield store, tmp_path
    store.close()


def audit(*more):
    return run(["--month", "2026-03", "--reason", "yearly look", "--json", *more])


def test_it_writes_the_sample_for_its_owner_alone_and_audits_each_packet(at_command, capsys):
    store, folder = at_command
    assert audit("--sample", "4") == 1, "these packets hold no decision: they cannot be checked"
    told = json.loads(capsys.readouterr().out)
    assert (told["charges"], len(told["sample"])) == (6, 4), "what never left is none, nor another month's"
    assert told["seed"] == told["keys_sha256"] == digest_of_keys([f"{n:040x}" for n in range(6)])
    files = list((folder / "internal-audit-2026-03").iterdir())
    assert len(files) == 4
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    events = [entry for entry in store.audit.entries() if entry["event"] == "packet-exported"]
    assert len(events) == 4
    assert store.audit.words(events[0]["position"]) == {"reason": "yearly look"}


def test_the_same_seed_draws_the_same_and_a_folder_is_never_written_over(at_command, capsys):
    def sample(folder, seed):
        audit("--sample", "3", "--seed", seed, "--folder", folder)
        return [each["key"] for each in json.loads(capsys.readouterr().out)["sample"]]

    first = sample("one", "x")
    assert sample("two", "x") == first
    assert audit("--folder", "two") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--month", "2026-03", "--reason", " "],
        ["--month", "2026-03"],
        ["--month", "March", "--reason", "r"],
        ["--month", "2020-03", "--reason", "r"],
        ["--month", "2026-03", "--reason", "r", "--sample", "0"],
        ["--month", "2026-03", "--reason", "r", "--issuer", "nobody"],
    ],
)
def test_what_it_cannot_do_it_says_in_one_line_and_writes_nothing(at_command, capsys, arguments):
    _, folder = at_command
    assert run(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (folder / "internal-audit-2026-03").exists()


def test_where_several_ehrs_have_charges_it_asks_which(at_command, now, capsys):
    store, _ = at_command
    keep_charge(store, "d" * 40, now, issuer_id="another")
    assert audit() == 2
    assert "another and general" in capsys.readouterr().err


def test_the_packet_of_a_charge_that_was_accepted_is_decided_again_from_its_file(
    make_world, browser, tmp_path, monkeypatch, capsys
):
    world = make_world()
    _, row = accepted(world, browser)
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", world.settings.database_url)
    monkeypatch.setenv("SMARTAPP_KEYS", ",".join(key.decode() for key in world.settings.keys))
    monkeypatch.chdir(tmp_path)
    month = f"{row.content.service_date:%Y-%m}"
    status = run(["--month", month, "--reason", "yearly look", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [(each["key"], each["fits"]) for each in told["sample"]] == [(row.identifier[-40:], True)]
    tripped = [each["id"] for each in told["screens"] if each["tripped"]]
    assert status == (3 if tripped else 0)
    assert "device-without-management" in tripped, "one device charge, and nobody charged management"
    (file,) = (tmp_path / f"internal-audit-{month}").iterdir()
    assert run_packet(["check", str(file)]) == 0
