"""A remittance as CSV: what matches is kept once, what does not is named, and the file is not kept."""

from __future__ import annotations

import json
from datetime import date

import pytest
from cryptography.fernet import Fernet

from fhir_mappings.rules.policy import load_policy
from fhir_mappings.rules.register import rules_in_force
from smartapp.commands.denials import run
from smartapp.remittance import MOST_LINES, NoRemittance, import_remittance, read_remittance, reason_in
from smartapp.store import Store
from smartapp.store.denials import DenialContent, DenialState
from smartapp.web.denial_reasons import REASONS
from tests.support.months import keep_charge

KEYS = ("a" * 40, "b" * 40, "c" * 40)
BY = ("Practitioner/7", "Synthetic Seven")


def lines(text: str):
    return read_remittance(text.encode())


@pytest.fixture
def charged(store, now):
    for number, key in enumerate(KEYS):
        keep_charge(store, key, now, issuer_id="general", patient=f"syn-{number}")
    return store


def test_a_file_handed_in_twice_adds_nothing(charged, now):
    read = lines(f"key,date,carc,note\n{KEYS[0]},2026-05-04,CO-50,Synthetic\n{KEYS[1]},20260504,97,\n")
    first = import_remittance(charged, *read, BY, now)
    again = import_remittance(charged, *read, BY, now)
    assert (first.added, first.there, first.whole) == (2, 0, True)
    assert (again.added, again.there, again.whole) == (0, 2, True)
    (denial,) = charged.denials.of_patient("general", "syn-0")
    assert (denial.on, denial.reason, denial.content.note) == (date(2026, 5, 4), "50", "Synthetic")


def test_what_matches_no_charge_and_what_cannot_be_read_is_named_by_its_line(charged, now):
    text = (
        "Charge key;Remittance date;Reason code\n"
        f"{'d' * 40};2026-05-04;50\n"
        f"{KEYS[0]};05/04/2026;50\n"
        f"{KEYS[0]};2026-05-04;not medically necessary\n"
        "\n"
        f";2026-05-04;50\n"
        f"{KEYS[2]};2026-05-04;50\n"
    )
    done = import_remittance(charged, *lines(text), BY, now)
    assert (done.added, done.whole) == (1, False)
    assert [line.number for line in done.not_found] == [2]
    assert [(bad.number, bad.why) for bad in done.unreadable] == [
        (3, "its date is not written as 2026-05-04 or 20260504"),
        (4, "its reason is no CARC"),
        (6, "it names no charge"),
    ]


def test_what_was_done_comes_with_it_and_what_was_taken_back_stays_so(charged, now):
    read = lines(f"key,date,carc,rarc,done\n{KEYS[0]},2026-05-04,50,N115,appealed\n")
    import_remittance(charged, *read, BY, now)
    (denial,) = charged.denials.of_patient("general", "syn-0")
    assert (denial.state, denial.version, denial.remark) == (DenialState.APPEALED, 2, "N115")
    charged.denials.follow_up(denial, DenialState.TAKEN_BACK, DenialContent("P/7"), now)
    assert import_remittance(charged, *read, BY, now).taken_back == 1
    assert charged.denials.denied_keys("general", "syn-0") == frozenset()


def test_a_charge_of_another_ehr_is_not_found(charged, now):
    read = lines(f"key,date,carc\n{KEYS[0]},2026-05-04,50\n")
    assert len(import_remittance(charged, *read, BY, now, "another").not_found) == 1


def test_twelve_characters_of_a_key_suffice_where_they_name_one_charge(charged, now):
    read = lines(f"key,date,carc\n{KEYS[0][:12]},2026-05-04,50\n{KEYS[0][:11]},2026-05-04,50\n")
    done = import_remittance(charged, *read, BY, now)
    assert (done.added, len(done.not_found)) == (1, 1)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"name,amount\nx,1\n", "must name the columns"),
        (b"key,date,carc\n" + b"x,2026-05-04,50\n" * (MOST_LINES + 1), "in parts"),
        (b"key,date,carc\n" + b'"' + b"x" * 200_000, "no CSV"),
        (b"x" * 3_000_000, "in parts"),
    ],
)
def test_what_is_no_remittance_is_refused_whole(content, says):
    with pytest.raises(NoRemittance, match=says):
        read_remittance(content)


@pytest.mark.parametrize(
    ("text", "code"),
    [("CO-97", "97"), ("pr 1", "1"), ("OA18", "18"), ("B7", "B7"), ("PI-B7", "B7"), ("016", "16")],
)
def test_a_reason_is_the_same_whatever_group_stands_before_it(text, code):
    assert reason_in(text) == code


def test_every_reason_that_is_explained_names_rules_that_are_there_and_a_source():
    known = {rule.id for rule in rules_in_force(load_policy("medicare"), date(2026, 5, 1))}
    for code, one in REASONS.items():
        assert reason_in(code) == code
        assert set(one.rules) <= known
        assert "." in one.source.split("/")[0]


# The command


@pytest.fixture
def at_command(tmp_path, monkeypatch, now):
    key, url = Fernet.generate_key(), f"sqlite:///{tmp_path / 'app.sqlite3'}"
    monkeypatch.setenv("SMARTAPP_DATABASE_URL", url)
    monkeypatch.setenv("SMARTAPP_KEYS", key.decode())
    store = Store(url, [key])
    store.database.migrate()
    keep_charge(store, KEYS[0], now, issuer_id="general")
    yield store, tmp_path / "remittance.csv"
    store.close()


def test_the_command_keeps_counts_and_names(at_command, capsys):
    store, file = at_command
    file.write_text(f"key,date,carc\n{KEYS[0]},2026-05-04,50\n{KEYS[1]},2026-05-04,97\n")
    assert run(["import", str(file)]) == 3
    said = capsys.readouterr().out
    assert f"line 3: no charge with the key {KEYS[1]} left from here" in said
    assert "1 new, 0 known before" in said
    assert run(["import", str(file), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["there"] == 1
    assert run(["count", "--month", "2026-03", "--issuer", "general"]) == 0
    assert "50   medicare" in capsys.readouterr().out
    events = [one for one in store.audit.entries() if one["event"] == "denial-recorded"]
    assert [(one["reason_code"], one["source"]) for one in events] == [("50", "file")]


def test_the_command_says_in_one_line_what_it_cannot_do(at_command, capsys):
    _, file = at_command
    file.write_text("nothing of the kind\n")
    assert run(["import", str(file)]) == 2
    assert run(["import", str(file.with_name("missing.csv"))]) == 2
    assert run(["count", "--month", "March", "--issuer", "general"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
