"""`smartapp seed` and `unseed`: the synthetic charts on somebody's own server, and away again."""

from __future__ import annotations

import json
import re

import pytest

from launch.sandbox.patients import charts
from smartapp.cli import main
from smartapp.commands import seed as seed_command
from smartapp.testing import seeding
from smartapp.testing.sandboxes import sandbox_at, sandboxes
from smartapp.testing.seeding import in_order
from smartapp.testing.tag import SYSTEM
from smartapp.testing.target import base_of
from tests.support.open_fhir import Ways, open_server

DAY = "2026-04-15"


@pytest.fixture(autouse=True)
def few_readings(monkeypatch):
    """Of a chart's readings one in ten: the others would be written, and removed, in the very same way."""

    def thinned(*arguments, **more):
        for story, resources in charts(*arguments, **more):
            yield (
                story,
                [
                    one
                    for number, one in enumerate(resources)
                    if one["resourceType"] != "Observation" or number % 10 == 0
                ],
            )

    monkeypatch.setattr(seed_command, "charts", thinned)


@pytest.fixture
def server(tmp_path):
    """A function that starts an open server of those ways."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **ways: stack.enter_context(open_server(tmp_path, Ways(**ways), readings=20))


@pytest.fixture
def command(tmp_path):
    """Run a subcommand with its lists in the test's own folder."""
    folder = tmp_path / "state"
    return lambda *arguments: main([*arguments, "--folder", str(folder)])


def seed(command, there, *more):
    return command("seed", there.base, "--as-of", DAY, "--patients", "2", "--readings", "20", *more)


def ours(there):
    return {
        name: resource
        for name, resource in there.everything().items()
        if any(tag["system"] == SYSTEM for tag in resource["meta"].get("tag", ()))
    }


def test_charts_are_written_in_transactions_tagged_and_taken_back(server, command, capsys, monkeypatch):
    monkeypatch.setattr(seeding, "MOST_AT_ONCE", 10)
    there = server()
    before = there.everything()
    assert seed(command, there) == 0
    written = ours(there)
    assert sum(name.startswith("Patient/") for name in written) == 2
    assert there.everything().keys() - before.keys() == written.keys()
    assert there.everything() | before == there.everything(), "nothing of anybody else was touched"
    assert sum(line == "POST " for line in there.asked) > 3, "a chart takes several of them"
    assert not any("HTEST" in json.dumps(resource) for resource in written.values())
    said = capsys.readouterr().out
    assert set(re.findall(r"Patient/\S+", said)) == {n for n in written if n.startswith("Patient/")}

    there.asked.clear()
    assert command("unseed", there.base) == 0
    assert there.everything() == before
    deleted = [line.removeprefix("DELETE /") for line in there.asked if line.startswith("DELETE")]
    assert set(deleted) == written.keys(), "by id, each of them and no other"
    assert all(f"GET /{name}" in there.asked[: there.asked.index(f"DELETE /{name}")] for name in deleted)


def test_a_seeded_chart_names_only_seeded_records(server, command):
    there = server()
    assert seed(command, there) == 0
    written = ours(there)
    named = set(re.findall(r'"reference": "([A-Z]\w+/[^"/]+)"', json.dumps(list(written.values()))))
    assert named
    assert named <= written.keys()


@pytest.mark.parametrize(
    "ways", [{"transactions": False}, {"own_ids": False}, {"own_ids": False, "conditional": False}]
)
def test_a_server_without_transactions_or_ids_of_ours_is_written_to_one_by_one(server, command, ways):
    there = server(**ways)
    before = there.everything()
    assert seed(command, there) == 0
    written = ours(there)
    assert sum(name.startswith("Patient/") for name in written) == 2
    named = set(re.findall(r'"reference": "([A-Z]\w+/[^"/]+)"', json.dumps(list(written.values()))))
    assert named <= written.keys()
    assert command("unseed", there.base) == 0
    assert there.everything() == before


def test_a_server_that_refuses_transactions_is_not_asked_for_one_again_and_again(server, command):
    there = server(transactions=False)
    assert seed(command, there) == 0
    assert sum(line == "POST " for line in there.asked) == 1


@pytest.mark.parametrize("own_ids", [True, False])
@pytest.mark.parametrize("fault", ["answers_until", "drops_from"])
def test_after_a_failure_half_way_the_same_command_goes_on(server, command, capsys, own_ids, fault):
    there = server(own_ids=own_ids, **{fault: 3})
    assert seed(command, there) == 1
    assert "goes on from here" in capsys.readouterr().err
    setattr(there.ways, fault, None)
    half = ours(there)
    assert seed(command, there) == 0
    whole = ours(there)
    assert half.keys() <= whole.keys(), "what was written stays as it is"
    patients = [name for name in whole if name.startswith("Patient/")]
    assert len(patients) == 2, "and nothing is there twice"
    assert command("unseed", there.base) == 0
    assert ours(there) == {}


def test_whoever_seeds_again_writes_nothing_and_another_day_is_refused(server, command, capsys):
    there = server()
    assert seed(command, there) == 0
    whole, writes = ours(there), there.writes
    assert command("seed", there.base, "--patients", "2") == 0
    assert (ours(there), there.writes) == (whole, writes)
    assert command("seed", there.base, "--as-of", "2026-05-01") == 2
    assert "as of 2026-04-15" in capsys.readouterr().err


def test_what_the_server_refuses_is_told_and_stops_nothing_else(server, command, capsys):
    there = server(refuses=frozenset({"Coverage"}))
    assert seed(command, there) == 0
    said = capsys.readouterr().out
    assert re.search(r"refused: Coverage/\S+: 422 no Coverage here", said)
    assert not any(name.startswith("Coverage/") for name in ours(there))
    assert sum(name.startswith("Patient/") for name in ours(there)) == 2
    assert command("unseed", there.base) == 0
    assert ours(there) == {}


def test_a_server_that_takes_no_writes_says_so_at_once(server, command, capsys):
    there = server(refuses=frozenset({"Organization"}))
    assert seed(command, there) == 2
    assert "takes no writes: PUT 422, POST 422" in capsys.readouterr().err
    assert there.writes == 2


def test_what_lost_its_tag_belongs_to_somebody_and_stays(server, command, capsys):
    there = server()
    assert seed(command, there) == 0
    name = next(n for n in ours(there) if n.startswith("Observation/"))
    body = {**ours(there)[name], "meta": {}}
    there.ehr.sandbox.store.update(body, None)
    assert command("unseed", there.base) == 1
    assert f"{name}: it does not bear our tag" in capsys.readouterr().out
    assert name in there.everything()
    there.ehr.sandbox.store.delete(*name.split("/"))
    assert command("unseed", there.base) == 0
    assert ours(there) == {}


def test_what_somebody_elses_record_names_stays_and_is_told(server, command, capsys):
    there = server()
    assert seed(command, there) == 0
    patient = next(n for n in ours(there) if n.startswith("Patient/"))
    status = {"resourceType": "Procedure", "status": "completed", "subject": {"reference": patient}}
    made, _ = there.ehr.sandbox.store.create(status)
    assert command("unseed", there.base) == 1
    assert f"{patient}: 409" in capsys.readouterr().out
    assert ours(there).keys() == {patient}
    there.ehr.sandbox.store.delete(made.type, made.id)
    assert command("unseed", there.base) == 0
    assert ours(there) == {}


def test_unseed_without_a_list_asks_for_nothing(server, command, capsys):
    there = server()
    there.asked.clear()
    assert command("unseed", there.base) == 0
    assert there.asked == []
    assert "Nothing is listed" in capsys.readouterr().out


def test_the_list_is_its_owners_alone_and_a_line_that_was_cut_off_is_no_harm(server, command, tmp_path):
    there = server()
    assert seed(command, there) == 0
    (folder,) = (tmp_path / "state").iterdir()
    listed = folder / "written.jsonl"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert listed.stat().st_mode & 0o777 == 0o600
    with listed.open("ab") as file:
        file.write(b'{"event":"held","of":"Patient/other","at":"Pat')
    assert command("unseed", there.base) == 0
    assert ours(there) == {}
    assert not listed.exists()


@pytest.mark.parametrize(
    "name", ["Patient/", "Patient", "Patient/..", "Patient?_id=1", "Patient/a/b", "/Patient/a"]
)
def test_a_list_that_names_anything_but_a_resource_is_not_acted_on(server, command, tmp_path, capsys, name):
    there = server()
    assert seed(command, there) == 0
    (listed,) = (tmp_path / "state").glob("*/written.jsonl")
    with listed.open("a") as file:
        file.write(json.dumps({"event": "held", "of": "x", "at": name}) + "\n")
    there.asked.clear()
    assert command("unseed", there.base) == 2
    assert "names no resource" in capsys.readouterr().err
    assert not any(line.startswith("DELETE") for line in there.asked)


def test_a_folder_that_others_can_look_into_is_refused(server, command, tmp_path, capsys):
    there = server()
    assert seed(command, there) == 0
    (folder,) = (tmp_path / "state").iterdir()
    folder.chmod(0o755)
    assert command("unseed", there.base) == 2
    assert "looked into by others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://127.0.0.1/fhir", "neither http nor https"),
        ("http://127.0.0.1:9/fhir", "metadata"),
        ("http://169.254.169.254/fhir", "network this app must not connect to"),
    ],
)
def test_what_is_no_fhir_server_is_one_line_and_status_two(command, capsys, url, words):
    assert command("seed", url) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == 1


def test_the_shipped_list_says_where_each_address_comes_from():
    assert all(one.source.startswith("https://") and one.checked and one.bases for one in sandboxes())


@pytest.mark.parametrize(
    ("base", "known"),
    [
        ("https://hapi.fhir.org/baseR4", True),
        ("https://hapi.fhir.org/baseR4/", True),
        ("https://launch.smarthealthit.org/v/r4/sim/WzBd/fhir", True),
        ("https://hapi.fhir.org/baseR4x", False),
        ("https://hapi.fhir.org.example/baseR4", False),
        ("https://hapi.fhir.org:444/baseR4", False),
        ("https://api.medplum.com/fhir/R4", False),
        ("https://fhir-ehr-code.cerner.com/r4/some-hospital", False),
    ],
)
def test_only_the_listed_addresses_are_public_sandboxes(base, known):
    assert (sandbox_at(base_of(base)) is not None) is known


def test_what_others_name_comes_first_and_a_circle_ends():
    def named(id_, *others):
        return {
            "resourceType": "Device",
            "id": id_,
            "x": [{"reference": f"Device/{other}"} for other in others],
        }

    ordered = [
        one["id"]
        for one in in_order([named("a", "b"), named("b", "c"), named("c"), named("d", "e"), named("e", "d")])
    ]
    assert ordered.index("c") < ordered.index("b") < ordered.index("a")
    assert sorted(ordered) == ["a", "b", "c", "d", "e"]
