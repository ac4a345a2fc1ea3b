"""`smartapp connect`: the app for somebody's own server with test data, and for nobody else."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from launch.sandbox import Client
from smartapp.cli import main
from smartapp.clock import ahead_of_the_machine
from smartapp.commands.checks import Fault
from smartapp.commands.connect import _parser, prepared
from smartapp.commands.demo import free_port
from smartapp.testing.looking import launcher_at
from smartapp.testing.server import TestingServer
from smartapp.testing.tag import SYSTEM
from smartapp.testing.target import base_of
from tests.smartapp.conftest import World
from tests.support.open_fhir import Ways, open_server
from tests.support.sandbox import DAY, NOON, start_sandbox

PATIENT = "ready-musculoskeletal"
PROGRAM = "import sys; from smartapp.cli import main; sys.exit(main())"


@pytest.fixture
def server(tmp_path):
    """A function that starts an open server of those ways, on the day of the tests' world."""
    with ExitStack() as stack:
        yield lambda settings=(), **ways: stack.enter_context(
            open_server(
                tmp_path, Ways(**ways), readings=20, ahead=ahead_of_the_machine(NOON), **dict(settings)
            )
        )


def options_of(folder, url, *more):
    return _parser().parse_args([url, "--folder", str(folder / "state"), "--port", str(free_port()), *more])


@contextmanager
def connected(folder, url, *more):
    """The app for that server on the tests' day, and what the command would have said."""
    plan, lines = prepared(options_of(folder, url, "--as-of", DAY.isoformat(), *more))
    with TestingServer(plan) as app:
        yield app, plan, "\n".join(lines)


def read(browser, page):
    return World.read(None, browser, page)


def accepted(browser, page, code="98977"):
    """Accept a code on a patient's page; the page that tells what became of it."""
    form = World.final_form(None, browser, page, next(k for k in keys_of(page) if k.startswith(code)))
    return browser.submit(form)


def keys_of(page):
    return [target.rsplit("/", 1)[1] for target, text in page.links if text.startswith("Review and accept")]


def test_a_chart_of_an_open_server_is_opened_charged_and_taken_back(server, tmp_path, browser, capsys):
    there = server()
    before = there.everything()
    state = str(tmp_path / "state")
    assert main(["seed", there.base, "--as-of", DAY.isoformat(), "--patients", "2", "--folder", state]) == 0
    patient = re.search(rf"Patient/(\S+-{PATIENT})", capsys.readouterr().out)[1]
    with connected(tmp_path, there.base, "--patient", patient) as (app, _plan, said):
        assert "sign-in:    none" in said
        assert re.search(r"You act as Practitioner/t\w+-syn-physician, in the role physician", said)
        page = read(browser, browser.get(app.start_link()))
        answer = accepted(browser, page)
        assert "The charge is in the EHR" in answer.text
    charges = [
        r for name, r in there.everything().items() if name.startswith("ChargeItem/") and name not in before
    ]
    assert [
        charge["code"]["coding"][0]["code"]
        for charge in charges
        if "connect" in {tag["code"] for tag in charge["meta"]["tag"]}
    ] == ["98977"]
    assert main(["unseed", there.base, "--folder", state]) == 0
    assert there.everything() == before, "the charge is gone with the chart it was made for"


def test_every_page_says_test_and_where_what_is_accepted_goes(server, tmp_path, browser):
    there = server()
    with connected(tmp_path, there.base) as (app, plan, _said):
        pages = [
            browser.get(f"{plan.url}/"),
            browser.get(f"{plan.url}/nothing"),
            browser.get(app.start_link()),
        ]
        chosen = next(form for form in pages[-1].forms if form.controls[-1].value == PATIENT)
        chart = read(browser, browser.submit(chosen, patient=PATIENT))
        preview = browser.get(
            next(target for target, text in chart.links if text.startswith("Review and accept"))
        )
        for page in (*pages, chart, preview):
            assert f"TEST Test data of {there.base}." in page.text
            assert "DEMO" not in page.text
        assert "Another patient" in chart.text


def test_without_the_start_link_nothing_is_shown_and_it_is_good_once(server, tmp_path, browser):
    there = server()
    with connected(tmp_path, there.base) as (app, plan, _said):
        assert requests.get(f"{plan.url}/testing/patients", timeout=60).status_code == 403
        opened = requests.post(f"{plan.url}/testing/open", data={"patient": PATIENT}, timeout=60)
        assert opened.status_code == 403
        assert requests.get(f"{plan.url}/testing/start/guessed", timeout=60).status_code == 403
        link = app.start_link()
        assert requests.head(link, timeout=60).status_code == 204, "looked at, it is not spent"
        assert "Choose a patient" in browser.get(link).text
        assert requests.get(link, timeout=60).status_code == 403, "nobody else comes in by it"
        assert "Choose a patient" in browser.get(link).text, "whoever came by it is sent on"
        earlier, _newest = app.start_link(), app.start_link()
        assert requests.get(earlier, timeout=60).status_code == 403, "only the newest opens anything"


def test_a_page_of_another_site_cannot_open_a_chart(server, tmp_path, browser):
    there = server()
    with connected(tmp_path, there.base) as (app, plan, _said):
        page = browser.get(app.start_link())
        token = next(c.value for c in page.forms[0].controls if c.name == "form_token")
        cookie = browser.cookies(urlsplit(plan.url).netloc)
        for data, headers in (
            ({"patient": PATIENT, "form_token": "x"}, {}),
            ({"patient": PATIENT, "form_token": token}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            answer = requests.post(
                f"{plan.url}/testing/open",
                data=data,
                headers={**headers, "Cookie": "; ".join(f"{k}={v}" for k, v in cookie.items())},
                allow_redirects=False,
                timeout=60,
            )
            assert answer.status_code == 400


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost:{port}", "127.0.0.1", "127.0.0.1:{port}.evil.example"]
)
def test_under_another_name_it_answers_nothing(server, tmp_path, host):
    there = server()
    with connected(tmp_path, there.base) as (app, plan, _said):
        named = {"Host": host.format(port=plan.port)}
        for path in ("/", "/health", "/testing/patients", urlsplit(app.start_link()).path, "/static/app.css"):
            assert requests.get(plan.url + path, headers=named, timeout=60).status_code == 421


def test_production_settings_store_and_keys_are_not_touched(server, tmp_path, browser, monkeypatch):
    for name in ("KEYS", "BASE_URL", "ISSUERS_FILE", "DATABASE_URL", "SITE_FILE", "SIGNING_KEYS", "TIMEZONE"):
        monkeypatch.setenv(f"SMARTAPP_{name}", "/nothing/of/the/kind")
    there = server()
    with connected(tmp_path, there.base, "--patient", PATIENT) as (app, _plan, _said):
        assert "98977" in read(browser, browser.get(app.start_link())).text
    (folder,) = (tmp_path / "state").iterdir()
    assert {path.stat().st_mode & 0o777 for path in (folder, folder / "connect")} == {0o700}
    assert {p.stat().st_mode & 0o077 for p in folder.rglob("*") if p.is_file() and p.name != "lock"} == {0}


def test_what_is_marked_as_test_data_is_shown(server, tmp_path, browser):
    """In production HTEST is left out; here it is what everybody has."""
    there = server()
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
    for resource in there.everything().values():
        there.ehr.sandbox.store.update({**resource, "meta": {"security": [label]}}, None)
    with connected(tmp_path, there.base, "--patient", PATIENT) as (app, _plan, _said):
        page = read(browser, browser.get(app.start_link()))
        told = json.loads(browser.get(page.url + "decisions.json").body)
    assert ("98977", "suggest") in {(one["code"], one["outcome"]) for one in told["decisions"]}
    assert not any(one["reason"] == "test-data" for one in told["excluded"])


def test_what_is_kept_here_is_there_the_next_time(server, tmp_path, browser):
    there = server()
    with connected(tmp_path, there.base, "--patient", PATIENT) as (app, _plan, _said):
        assert (
            "The charge is in the EHR" in accepted(browser, read(browser, browser.get(app.start_link()))).text
        )
    with connected(tmp_path, there.base, "--patient", PATIENT) as (app, _plan, _said):
        page = read(browser, browser.get(app.start_link()))
        told = json.loads(browser.get(page.url + "decisions.json").body)
    assert "charged" in {one["outcome"] for one in told["decisions"] if one["code"] == "98977"}
    tags = [
        r["meta"]["tag"]
        for n, r in there.everything().items()
        if n.startswith("ChargeItem/") and "tag" in r["meta"]
    ]
    assert tags == [[{"system": SYSTEM, "code": "test"}, {"system": SYSTEM, "code": "connect"}]]


def test_without_a_practitioner_one_can_look_and_accept_nothing(server, tmp_path, browser):
    there = server()
    for name in there.everything():
        if name.startswith("Practitioner/"):
            there.ehr.sandbox.store.delete(*name.split("/"))
    with connected(tmp_path, there.base, "--patient", PATIENT) as (app, _plan, said):
        assert "lists no Practitioner" in said
        assert not keys_of(read(browser, browser.get(app.start_link())))


# Through SMART


def test_a_smart_server_is_told_what_to_register_and_opened_by_its_own_sign_in(tmp_path, browser):
    options = options_of(tmp_path, "", "--client-id", "mine")
    app_url = f"http://127.0.0.1:{options.port}"
    client = Client("mine", redirect_uris=(f"{app_url}/callback/test-server",))
    ahead = ahead_of_the_machine(NOON)
    with start_sandbox(
        tmp_path, readings=20, ahead=ahead, clients=(client,), launch_url=f"{app_url}/launch"
    ) as ehr:
        options.url = ehr.config.fhir_base
        plan, lines = prepared(options)
        said = "\n".join(lines)
        assert "sign-in:    SMART App Launch" in said
        assert f"launch URL:     {app_url}/launch\n" in said
        assert f"redirect URI:   {app_url}/callback/test-server\n" in said
        assert re.search(r"scopes, v2: .*patient/ChargeItem\.crus", said)
        with TestingServer(replace(plan, ahead=ahead)) as app:
            assert requests.get(app.start_link(), timeout=60).status_code == 404, "one signs in here"
            form = next(
                form
                for form in browser.get(f"{ehr.base_url}/").forms
                if {PATIENT, "tab"} <= {control.value for control in form.controls}
            )
            page = read(browser, browser.submit(form, mode="tab"))
            assert f"TEST Test data of {ehr.config.fhir_base}." in page.text
            assert "The charge is in the EHR" in accepted(browser, page).text


def test_the_links_own_standalone_launch_is_printed(tmp_path):
    with start_sandbox(tmp_path, readings=20) as ehr:
        plan, lines = prepared(options_of(tmp_path, ehr.config.fhir_base))
    link = urlsplit(lines[-1].strip())
    assert f"{link.scheme}://{link.netloc}{link.path}" == f"{plan.url}/launch"
    assert parse_qs(link.query) == {"iss": [ehr.config.fhir_base]}


def test_another_day_needs_a_server_where_nobody_signs_in(tmp_path):
    with (
        start_sandbox(tmp_path, readings=20) as ehr,
        pytest.raises(Fault, match="--as-of needs a server where nobody signs in"),
    ):
        prepared(options_of(tmp_path, ehr.config.fhir_base, "--as-of", DAY.isoformat()))


# The SMART Health IT launcher


def decoded(code):
    return json.loads(base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)))


def test_the_launchers_link_names_patient_and_provider():
    launcher = launcher_at(base_of("https://launch.smarthealthit.org/v/r4/fhir"))
    link = urlsplit(launcher.link("http://127.0.0.1:8765", "p1", "d1"))
    query = {name: value for name, (value,) in parse_qs(link.query).items()}
    assert query["iss"] == "https://launch.smarthealthit.org/v/r4/fhir"
    assert decoded(query["launch"]) == [0, "p1", "d1", "NONE", 1, 1, 0, "", "", "", "", "", "", "", 0, 2, ""]


def test_a_star_in_the_launchers_base_is_filled_in():
    launcher = launcher_at(base_of("https://launch.smarthealthit.org/v/r4/sim/*/fhir"))
    assert launcher.looked_at.base == "https://launch.smarthealthit.org/v/r4/fhir"
    query = parse_qs(urlsplit(launcher.link("http://127.0.0.1:8765", "p1", None)).query)
    assert query.keys() == {"iss"}
    found = re.fullmatch(r"https://launch\.smarthealthit\.org/v/r4/sim/([\w-]+)/fhir", query["iss"][0])
    assert decoded(found[1])[:6] == [2, "p1", "", "NONE", 0, 0], "who is not known is asked for there"
    assert launcher.base("p1", None).base == query["iss"][0]


def test_a_simulation_that_was_given_stays_as_it_is():
    launcher = launcher_at(base_of("http://127.0.0.1:9102/v/r4/sim/WzJd/fhir"))
    assert launcher.base("p1", "d1").base == "http://127.0.0.1:9102/v/r4/sim/WzJd/fhir"
    assert launcher_at(base_of("https://hospital.example/fhir")) is None


# What counts as test data


AWAY = (("host_name", "127.0.0.2"), ("bind", "127.0.0.2"))
"""This machine under an address that nobody knows to be it."""


def test_another_machines_server_needs_our_tag_on_every_patient_or_somebodys_word(server, tmp_path, capsys):
    there = server(AWAY)
    with pytest.raises(Fault, match="--i-know-this-is-test-data"):
        prepared(options_of(tmp_path, there.base))
    seed = [
        "seed",
        there.base,
        "--as-of",
        DAY.isoformat(),
        "--patients",
        "1",
        "--folder",
        str(tmp_path / "state"),
    ]
    assert main(seed) == 2
    assert main([*seed, "--i-know-this-is-test-data"]) == 2
    assert "not this machine. --yes" in capsys.readouterr().err
    assert there.writes == 0
    assert main([*seed, "--i-know-this-is-test-data", "--yes"]) == 0
    with pytest.raises(Fault, match="holds test data only"):
        prepared(options_of(tmp_path, there.base))
    _, lines = prepared(options_of(tmp_path, there.base, "--i-know-this-is-test-data"))
    assert "because you say so" in "\n".join(lines)
    for name, resource in there.everything().items():
        if name.startswith("Patient/") and "tag" not in resource["meta"]:
            there.ehr.sandbox.store.delete(*name.split("/"))
    _, lines = prepared(options_of(tmp_path, there.base))
    assert "every Patient of its first page was seeded" in "\n".join(lines)


def test_a_server_that_is_not_this_machine_is_written_to_only_under_a_warning(server, tmp_path, browser):
    there = server(AWAY)
    vouched = "--i-know-this-is-test-data"
    with connected(tmp_path, there.base, "--patient", PATIENT, vouched) as (app, _plan, said):
        assert f"WARNING: what you accept is written to {there.ehr.base_url}" in said
        page = read(browser, browser.get(app.start_link()))
        preview = browser.get(next(t for t, text in page.links if text.startswith("Review and accept")))
        assert "What is accepted here is written there: it is not this machine." in preview.text


# As somebody would start it


def test_the_command_looks_says_and_serves_until_it_is_stopped(server, tmp_path, browser):
    there = server()
    command = ["connect", there.base, "--patient", PATIENT, "--port", str(free_port())]
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command, "--folder", str(tmp_path / "state")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "SMARTAPP_KEYS": "nonsense"},
    ) as process:
        said = ""
        while "Open " not in said:
            said += process.stdout.readline()
        assert "test data:  on this machine" in said
        page = browser.get(said.split()[-1])
        assert "TEST" in page.text
        process.send_signal(signal.SIGTERM)
        assert "Stopped." in process.stdout.read()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["http://127.0.0.1:9/fhir"], "metadata"),
        (["https://ehr.example/*/fhir"], "stands for many FHIR bases"),
        (["nonsense"], "is no FHIR base"),
        ([], "URL"),
    ],
)
def test_what_cannot_be_connected_to_is_one_line_and_status_two(arguments, words, capsys, tmp_path):
    assert main(["connect", *arguments, "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_a_patient_who_is_not_there_is_told_before_anything_is_started(server, tmp_path, capsys):
    there = server()
    assert main(["connect", there.base, "--patient", "nobody", "--folder", str(tmp_path / "state")]) == 2
    assert "404 to Patient/nobody" in capsys.readouterr().err
