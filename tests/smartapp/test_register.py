"""`smartapp register`: the sheet says exactly what the app will ask for, and to which addresses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from launch.scopes import Feature, Interaction, Scopes
from smartapp.commands.register import run
from smartapp.commands.registration import PURPOSES
from smartapp.services import FEATURES

SECRET = "correct-horse-battery-staple"


@pytest.fixture
def issuers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOSPITAL_KEY", ECKey.generate_key("P-384").as_pem(private=True).decode())
    monkeypatch.setenv("CLINIC_SECRET", SECRET)
    path = tmp_path / "issuers.toml"
    path.write_text(
        """
[issuers.hospital]
fhir_base = "https://ehr.example/fhir"
client_id = "to be assigned"
profile = "epic"
client_auth = "private-key-jwt"
signing_key = "HOSPITAL_KEY"
signing_key_id = "k1"
frame_ancestors = ["https://chart.ehr.example"]
extra_scopes = ["patient/CarePlan.rs", "patient/DeviceMetric.rs"]

[issuers.clinic]
fhir_base = "https://clinic.example/r4"
client_id = "app"
client_auth = "secret-basic"
client_secret = "CLINIC_SECRET"
redirect_path = "/back/clinic"
"""
    )
    return path


@pytest.fixture
def register(issuers: Path, capsys: pytest.CaptureFixture[str]):
    def run_it(iss: str, *more: str) -> str:
        assert run([iss, "--issuers", str(issuers), "--base-url", "https://app.example/", *more]) == 0
        out = capsys.readouterr().out
        assert SECRET not in out
        assert "PRIVATE KEY" not in out
        return out

    return run_it


def test_every_feature_has_words_for_what_it_serves():
    assert set(PURPOSES) == set(Feature)


def test_the_addresses_are_exact(register):
    sheet = json.loads(register("hospital", "--json"))
    assert sheet["launch_url"] == "https://app.example/launch"
    assert sheet["redirect_uri"] == "https://app.example/callback/hospital"
    assert sheet["jwks_url"] == "https://app.example/.well-known/jwks.json"
    assert json.loads(register("clinic", "--json"))["redirect_uri"] == "https://app.example/back/clinic"


def test_the_scopes_are_those_of_a_launch_in_both_grammars_with_what_each_serves(register):
    sheet = json.loads(register("hospital", "--json"))
    v2 = Scopes.parse(sheet["scope_v2"])
    assert v2.can("ChargeItem", Interaction.CREATE)
    assert v2.can("CarePlan", Interaction.SEARCH)
    assert "patient/ChargeItem.write" in sheet["scope_v1"].split()
    required = {line["v2"] for line in sheet["scopes"] if line["required"]}
    assert required == {"launch", "openid", "fhirUser", "patient/Patient.r", "patient/Observation.rs"}
    assert all(line["serves"] and line["without"] for line in sheet["scopes"])
    assert len(sheet["scopes"]) > len(FEATURES)


def test_the_client_is_described_as_it_proves_itself(register):
    hospital, clinic = (json.loads(register(name, "--json")) for name in ("hospital", "clinic"))
    assert (hospital["client_type"], hospital["client_auth"].split(",")[0]) == (
        "confidential",
        "private_key_jwt",
    )
    assert (clinic["client_auth"], clinic["jwks_url"]) == ("client_secret_basic", None)
    assert "S256" in hospital["pkce"]


def test_resources_tell_interactions_and_search_parameters_as_this_ehr_is_asked(register):
    hospital, clinic = (
        {line["type"]: line for line in json.loads(register(name, "--json"))["resources"]}
        for name in ("hospital", "clinic")
    )
    assert hospital["ChargeItem"]["interactions"] == ["create", "read", "update", "search"]
    assert hospital["Observation"]["search_parameters"] == ["patient", "date", "category"]
    assert hospital["DeviceMetric"]["interactions"] == ["read"]  # R4 has no search of it by patient
    assert clinic["Patient"] == {"type": "Patient", "interactions": ["read"], "search_parameters": []}


def test_framing_data_and_questions_are_there(register, monkeypatch):
    monkeypatch.setenv("SMARTAPP_RETENTION_YEARS", "9")
    sheet = json.loads(register("hospital", "--json"))
    assert "https://chart.ehr.example" in sheet["embedding"][0]
    assert any("9 years" in line["how_long"] for line in sheet["data_kept"])
    assert any("JWKS" in question for question in sheet["questions"])
    assert "May not be shown in a frame" in json.loads(register("clinic", "--json"))["embedding"][0]


@pytest.mark.parametrize("shape", [(), ("--markdown",)])
def test_the_sheet_can_be_sent_as_it_is(register, shape):
    text = register("hospital", *shape)
    for wanted in ("https://app.example/launch", "patient/ChargeItem.cu", "Questions for the EHR's team"):
        assert wanted in text
    if shape:
        assert all(line.count("|") >= 3 for line in text.splitlines() if line.startswith("|"))


def test_an_ehr_is_found_by_its_fhir_base_too(register):
    assert register("https://EHR.example/fhir/", "--json") == register("hospital", "--json")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nobody"], "lists no such EHR; it lists: clinic, hospital"),
        (["hospital", "--base-url", "http://app.example"], "https"),
        (["hospital", "--base-url", "nonsense"], "SMARTAPP_BASE_URL is wrong"),
        (["hospital", "--issuers", "nowhere.toml"], "nowhere.toml"),
        ([], "ISS"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_two(issuers, capsys, monkeypatch, arguments, says):
    monkeypatch.setenv("SMARTAPP_ISSUERS_FILE", str(issuers))
    monkeypatch.setenv("SMARTAPP_BASE_URL", "https://app.example")
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
