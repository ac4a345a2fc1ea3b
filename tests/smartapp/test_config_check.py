"""`smartapp config check`: everything the app would start with, one line each, and never a secret."""

from __future__ import annotations

import json
import os
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from joserfc.jwk import ECKey

from launch.sandbox.patients import export
from smartapp.commands.config_check import run
from smartapp.commands.keys import run as run_keys
from smartapp.configuration.settings import SETTINGS
from smartapp.store import Store
from smartapp.store.database import Database
from tests.support.lists import swept_sandbox

SECRET = "correct-horse-battery-staple"
SPRING = datetime(2026, 4, 15, 16, tzinfo=UTC)


def in_spring() -> datetime:
    """A day on which no rules end soon."""
    return SPRING


@dataclass
class Place:
    """A configuration in a folder, as the environment gives it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def set(self, **variables: str | Path) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(f"SMARTAPP_{name.upper()}", str(value))

    def issuers(self, *lines: str) -> None:
        entry = ['fhir_base = "https://ehr.example/fhir"', 'client_id = "app"', *lines]
        self.write("issuers.toml", "[issuers.hospital]\n" + "\n".join(entry))

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    found = Place(tmp_path, monkeypatch)
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    found.issuers('frame_ancestors = ["https://ehr.example"]')
    url, key = f"sqlite:///{tmp_path / 'app.sqlite3'}", Fernet.generate_key()
    with closing(Store(url, [key])) as store:
        store.database.migrate()
    found.set(
        keys=key.decode(),
        base_url="https://app.example",
        issuers_file=tmp_path / "issuers.toml",
        database_url=url,
        timezone="America/New_York",
        payer="medicare",
    )
    return found


@dataclass
class Answer:
    status: int
    checks: list[dict[str, str]]

    def of(self, id_: str, about: str | None = None) -> list[tuple[str, str]]:
        """How the checks of an id ended, and what they say."""
        return [
            (check["status"], check["says"])
            for check in self.checks
            if check["id"] == id_ and about in (None, check["about"])
        ]


@pytest.fixture
def check(place: Place, capsys: pytest.CaptureFixture[str]):
    def run_it(now: datetime = SPRING) -> Answer:
        status = run(["check", "--json"], lambda: now)
        out = capsys.readouterr()
        assert out.err == ""
        assert SECRET not in out.out
        return Answer(status, json.loads(out.out)["checks"])

    return run_it


def test_a_good_configuration_is_all_ok(check):
    answer = check()
    assert answer.status == 0
    assert {entry["status"] for entry in answer.checks} == {"ok"}


def test_every_setting_has_its_line(check):
    assert {entry["about"] for entry in check().checks if entry["id"] == "setting"} == {
        setting.variable for setting in SETTINGS
    }


def test_as_text_it_is_one_line_a_check_and_a_count(place, capsys):
    assert run(["check"], in_spring) == 0
    *lines, count = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert count == f"{len(lines)} ok, 0 warnings, 0 failures"


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (datetime(2026, 11, 1, 3, 59, tzinfo=UTC), "ok"),  # in New York it is October still
        (datetime(2026, 11, 1, 4, 0, tzinfo=UTC), "warning"),
        (datetime(2027, 3, 1, tzinfo=UTC), "warning"),
    ],
)
def test_from_sixty_days_before_the_rules_end_it_is_told(check, now, status):
    answer = check(now)
    assert answer.status == 0
    ((found, says),) = answer.of("rules")
    assert found == status
    assert "2026-12-31" in says
    assert ("docs/new-year.md" in says) is (status == "warning")


def test_what_the_site_confirmed_is_what_ends(place, check):
    confirmed = '{codes: all, to: 2027-12-31, by: Ida, on: 2026-12-15, source: "The final rule"}'
    place.set(site_file=place.write("site.yaml", f"rules_confirmed: [{confirmed}]\n"))
    assert check(datetime(2027, 3, 1, tzinfo=UTC)).of("rules")[0][0] == "ok"
    assert check(datetime(2027, 11, 5, tzinfo=UTC)).of("rules")[0][0] == "warning"


def test_nothing_is_written(place, check):
    before = {path: path.stat().st_mtime_ns for path in place.folder.iterdir()}
    check()
    after = {path: path.stat().st_mtime_ns for path in place.folder.iterdir()}
    assert before.keys() == after.keys()


def test_several_faults_are_all_told_at_once(place, check):
    place.set(keys=SECRET, page_limit="many", base_url="http://app.example", nonsense="1")
    place.monkeypatch.delenv("SMARTAPP_TIMEZONE")
    answer = check()
    assert answer.status == 1
    assert "url-safe base64" in answer.of("setting", "SMARTAPP_KEYS")[0][1]
    assert answer.of("setting", "SMARTAPP_PAGE_LIMIT")[0][0] == "failure"
    assert ("failure", "must be an https address") in answer.of("setting", "SMARTAPP_BASE_URL")
    assert answer.of("setting.unknown", "SMARTAPP_NONSENSE")[0][0] == "failure"
    assert "time zone" in answer.of("site")[0][1]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (('client_secret = "nowhere"',), "names a secret that is not there"),
        (('profile = "unheard-of"',), "is not one of"),
        (('ca_bundle = "/nowhere.pem"',), "is not a file"),
        (('client_auth = "private-key-jwt"', 'signing_key = "@keys"'), "needs SMARTAPP_SIGNING_KEYS"),
        (("this is no TOML",), "issuers.toml"),
    ],
)
def test_an_issuers_file_that_cannot_be_used_says_why(place, check, lines, says):
    place.issuers(*lines)
    answer = check()
    assert answer.status == 1
    [(status, text)] = answer.of("issuers")
    assert status == "failure"
    assert says in text


def test_a_key_of_the_wrong_kind_is_found_before_the_first_sign_in(place, check):
    place.monkeypatch.setenv("HOSPITAL_KEY", ECKey.generate_key("P-256").as_pem(private=True).decode())
    place.issuers('client_auth = "private-key-jwt"', 'signing_key = "HOSPITAL_KEY"', 'signing_key_id = "k"')
    answer = check()
    assert answer.of("issuer", "hospital") == [("failure", "ES384 needs a private key on the curve P-384")]
    assert answer.status == 1


def test_a_ca_bundle_without_certificates_is_found(place, check):
    bundle = place.write("ca.pem", "nothing")
    place.issuers(f'ca_bundle = "{bundle}"')
    assert "holds no certificates" in check().of("issuer", "hospital")[0][1]


def test_an_issuer_that_may_not_be_framed_is_a_warning(place, check):
    place.issuers()
    answer = check()
    assert answer.of("issuer", "hospital")[0][0] == "warning"
    assert answer.status == 0


def test_a_site_file_with_an_unknown_key_is_told(place, check):
    place.set(site_file=place.write("site.yaml", "timezone: America/New_York\ncolour: blue\n"))
    assert "colour" in check().of("site")[0][1]


def test_a_payer_without_rules_is_a_warning(place, check):
    place.set(payer="unheard-of")
    [(status, text)] = check().of("site")
    assert status == "warning"
    assert "for review" in text


def test_a_person_of_an_unregistered_ehr_is_told(place, check):
    place.set(
        site_file=place.write(
            "site.yaml", "users: [{user: Practitioner/7, role: physician, issuer: elsewhere}]\n"
        )
    )
    assert "no registered EHR" in check().of("site")[0][1]


def test_a_database_without_tables_says_what_to_run(place, check):
    place.set(database_url=f"sqlite:///{place.folder / 'fresh.sqlite3'}")
    assert "smartapp migrate" in check().of("database")[0][1]
    assert not (place.folder / "fresh.sqlite3").exists()
    (place.folder / "fresh.sqlite3").touch(0o600)
    answer = check()
    assert answer.of("database")[0][0] == "ok"
    assert "smartapp migrate" in answer.of("database.schema")[0][1]


@pytest.mark.parametrize(
    "url", [f"postgresql+psycopg://app:{SECRET}@127.0.0.1:1/app", f"nonsense://app:{SECRET}@h/", SECRET]
)
def test_a_database_that_does_not_answer_is_told_without_its_address(place, check, url):
    place.set(database_url=url)
    answer = check()
    assert answer.of("database")[0][0] == "failure"
    assert answer.status == 1


def test_who_else_can_read_the_database_and_its_log_is_told(place, check):
    database, log = place.folder / "app.sqlite3", place.folder / "app.sqlite3-wal"
    found = {}
    with closing(Database(f"sqlite:///{database}")) as opened:  # whoever closes it last takes the log away
        opened.check_schema()
        for mode in (0o600, 0o640, 0o644):
            for path in (database, log):
                path.chmod(mode)
            answer = check()
            found[mode] = [answer.of("permissions", str(path))[0][0] for path in (database, log)]
    assert found == {0o600: ["ok"] * 2, 0o640: ["warning"] * 2, 0o644: ["failure"] * 2}


def test_keys_are_listed_and_their_files_looked_at(place, check, capsys):
    folder = place.folder / "keys"
    run_keys(["new", "--folder", str(folder)])
    place.set(signing_keys=folder)
    place.issuers(
        'client_auth = "private-key-jwt"',
        'signing_key = "@keys"',
        'frame_ancestors = ["https://ehr.example"]',
    )
    capsys.readouterr()
    pem = next(folder.glob("*.pem"))
    found = {}
    for mode in (0o600, 0o640, 0o644):
        pem.chmod(mode)
        answer = check()
        assert answer.of("keys.active", "ES384")[0][0] == "ok"
        found[mode] = (answer.of("permissions", str(pem))[0][0], answer.status)
    assert found == {0o600: ("ok", 0), 0o640: ("warning", 0), 0o644: ("failure", 1)}


def test_a_folder_of_keys_whose_private_half_is_gone_is_told(place, check, capsys):
    folder = place.folder / "keys"
    run_keys(["new", "--folder", str(folder)])
    next(folder.glob("*.pem")).unlink()
    place.set(signing_keys=folder)
    capsys.readouterr()
    [(status, text)] = check().of("keys.folder")
    assert status == "failure"
    assert "cannot be read" in text


def test_a_folder_of_keys_that_is_not_there_says_how_to_make_it(place, check):
    place.set(signing_keys=place.folder / "none")
    assert "smartapp keys new" in check().of("keys.folder")[0][1]


@pytest.mark.parametrize("arguments", [[], ["melt"], ["check", "--melt"]])
def test_a_call_nobody_understands_is_one_line_and_status_two(capsys, arguments):
    assert run(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


TASKS = ['extra_scopes = ["patient/Task.crus"]', 'frame_ancestors = ["https://ehr.example"]']
NAMES = "receiving_application: BILLING, assigning_authority: HOSP"


def hand_over(place: Place, ways: str) -> None:
    place.set(site_file=place.write("site.yaml", f"handover: [{{{ways}}}]\n"))


def folder_of(place: Place, mode: int = 0o700) -> Path:
    folder = place.folder / "dft"
    folder.mkdir(exist_ok=True)
    folder.chmod(mode)
    return folder


def test_without_ways_of_handing_over_there_is_nothing_to_say_of_them(check):
    assert check().of("handover") == []


def test_a_way_of_handing_over_that_is_in_order_says_where_it_leads(place, check):
    place.issuers(*TASKS)
    hand_over(place, f"task: {{owner: Organization/billing}}, dft: {{folder: {folder_of(place)}, {NAMES}}}")
    answer = check()
    assert answer.of("handover", "hospital task") == [("ok", "tasks go to Organization/billing")]
    assert answer.of("handover", "hospital dft") == [("ok", f"messages go into {place.folder / 'dft'}")]
    assert answer.status == 0


def test_who_else_can_look_into_the_folder_of_messages_is_told(place, check):
    found = {}
    for mode in (0o700, 0o710, 0o750, 0o701, 0o755):
        hand_over(place, f"dft: {{folder: {folder_of(place, mode)}, {NAMES}}}")
        [(found[mode], text)] = check().of("handover")
        assert ("chmod 0700" in text) is (mode != 0o700)
    assert found == {
        0o700: "ok",
        0o710: "warning",
        0o750: "warning",
        0o701: "failure",
        0o755: "failure",
    }


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ("task: {owner: Organization/billing}", "patient/Task.crus"),
        ("document: {}", "patient/DocumentReference.crus"),
        ("oracle_create: {bill_codes: bills}", "not the address of a code system"),
        (f"dft: {{folder: /nowhere/dft, {NAMES}}}", "there is no folder /nowhere/dft"),
        (f"dft: {{folder: docs, {NAMES}}}", "write it from / on"),
        (
            f"dft: {{mllp: {{host: engine.example, port: 2575, ca_file: /nowhere.pem}}, {NAMES}}}",
            "there is no file /nowhere.pem",
        ),
        (
            f"dft: {{mllp: {{host: 10.1.2.3, port: 2575, tls: false, ca_file: /ca.pem}}, {NAMES}}}",
            "of no use without TLS",
        ),
    ],
)
def test_a_way_by_which_nothing_would_leave_is_a_failure_and_one_sentence(place, check, ways, says):
    hand_over(place, ways)
    answer = check()
    assert answer.status == 1
    assert any(status == "failure" and says in text for status, text in answer.of("handover"))


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ("task: {owner: Patient/p1}", "owner is who gets the task"),
        ("dft: {mllp: {host: 8.8.8.8, port: 2575, tls: false}}", "private address"),
        ("dft: {mllp: {host: engine.example, port: 2575, tls: false}}", "private address"),
        ("dft: {}", "names a folder, or where mllp goes"),
        ("issuer: elsewhere, document: {}", "no registered EHR"),
    ],
)
def test_what_the_app_would_not_start_with_is_told_as_the_site_files_fault(place, check, ways, says):
    hand_over(place, ways)
    [(status, text)] = check().of("site")
    assert (status, says in text) == ("failure", True)


def test_a_ca_file_of_an_engine_without_certificates_is_told(place, check):
    nothing = place.write("ca.pem", "nothing")
    hand_over(place, f"dft: {{mllp: {{host: engine.example, port: 2575, ca_file: {nothing}}}, {NAMES}}}")
    assert "holds no certificates" in check().of("handover")[0][1]


def test_messages_without_names_or_without_tls_are_warnings(place, check):
    hand_over(place, "dft: {mllp: {host: 10.1.2.3, port: 2575, tls: false}}")
    answer = check()
    assert {status for status, _ in answer.of("handover")} == {"warning"}
    text = " ".join(says for _, says in answer.of("handover"))
    assert "PID-3" in text
    assert "MSH-5" in text
    assert "10.1.2.3:2575 unencrypted" in text
    assert answer.status == 0


def test_a_scope_that_cannot_call_back_or_look_is_a_warning(place, check):
    place.issuers('extra_scopes = ["patient/Task.c"]')
    hand_over(place, "task: {owner: Organization/billing}")
    answer = check().of("handover")
    assert [status for status, _ in answer] == ["warning", "warning"]
    assert "called back" in answer[0][1]
    assert "stays unknown" in answer[1][1]


def test_an_entry_that_turns_nothing_on_is_a_warning(place, check):
    hand_over(place, "behavioral_health: true")
    assert check().of("handover") == [("warning", "the entry of the site file turns no way on")]


# The worklist, and cards


@pytest.fixture
def swept(place, tmp_path):
    """A function that sweeps the sandbox's patients as of a day, into a folder beside the site's file."""
    place.set(site_file=place.write("site.yaml", "timezone: America/New_York\nworklist: [{state: sweep}]\n"))
    keys = tuple(os.environ["SMARTAPP_KEYS"].encode().split(b","))
    export(tmp_path / "charts", SPRING.date(), readings=60)

    def sweep(as_of):
        swept_sandbox(place.folder / "sweep", tmp_path / "charts", as_of, keys=keys)

    return sweep


def test_a_worklist_says_as_of_when_its_sweep_speaks(swept, check):
    swept(SPRING.date())
    ((status, says),) = check().of("worklist", "hospital")
    assert status == "ok"
    assert f"as of {SPRING.date()}" in says


def test_a_sweep_that_was_missed_for_nights_is_told(swept, check):
    swept(SPRING.date() - timedelta(days=3))
    ((status, says),) = check().of("worklist")
    assert (status, "sweep night" in says) == ("warning", True)


def test_a_worklist_without_a_sweep_is_a_failure(place, check):
    place.set(site_file=place.write("site.yaml", "timezone: America/New_York\nworklist: [{state: sweep}]\n"))
    ((status, says),) = check().of("worklist")
    assert (status, "smartapp sweep full" in says) == ("failure", True)


@pytest.mark.parametrize(("worklist", "expected"), [("", "failure"), ("worklist: [{state: sweep}]\n", "ok")])
def test_cards_need_a_sweep_to_be_made_from(place, check, worklist, expected):
    key = ECKey.generate_key("P-384", auto_kid=True).as_dict(private=False)
    place.write("keys.json", json.dumps({"keys": [key]}))
    hooks = "cds_hooks: [{client: 'https://ehr.example/cds', keys: keys.json}]\n"
    place.set(site_file=place.write("site.yaml", f"timezone: America/New_York\n{worklist}{hooks}"))
    ((status, _),) = check().of("cds-hooks", "hospital")
    assert status == expected


def test_a_key_that_is_private_stops_the_app_and_is_told(place, check):
    key = ECKey.generate_key("P-384", auto_kid=True).as_dict(private=True)
    place.write("keys.json", json.dumps({"keys": [key]}))
    hooks = "cds_hooks: [{client: 'https://ehr.example/cds', keys: keys.json}]\n"
    place.set(site_file=place.write("site.yaml", f"timezone: America/New_York\n{hooks}"))
    ((status, says),) = check().of("site")
    assert (status, "private key" in says) == ("failure", True)
