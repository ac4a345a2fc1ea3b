"""`smartapp keys` and /.well-known/jwks.json: both keys during a rotation, and never a private member."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from launch.client_auth import signed_assertion
from launch.sandbox.config import ClientType
from smartapp import create_app
from smartapp.commands.keys import run
from smartapp.configuration.issuers_file import read_issuers
from smartapp.configuration.settings import ConfigurationError, Mode, Settings
from smartapp.configuration.signing_keys import (
    PUBLISHED_FOR,
    KeyAlgorithm,
    KeyFault,
    KeyState,
    PublishedKeys,
    SigningKeys,
    public_pem,
)
from smartapp.serving import AppServer

NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "k"}
ES384, RS384, ED25519 = KeyAlgorithm.ES384, KeyAlgorithm.RS384, KeyAlgorithm.ED25519


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keys(folder: Path) -> SigningKeys:
    return SigningKeys(folder)


def issuers_file(folder: Path, **more: str) -> Path:
    path = folder / "issuers.toml"
    entries = {"client_auth": "private-key-jwt", "signing_key": "@keys", **more}
    lines = [f'{name} = "{value}"' for name, value in entries.items()]
    path.write_text(
        '[issuers.hospital]\nfhir_base = "https://ehr.example/fhir"\nclient_id = "app"\n' + "\n".join(lines)
    )
    return path


def published(folder: Path | None) -> list[dict[str, str]]:
    return PublishedKeys((), folder).jwks()["keys"]


# The folder


@pytest.mark.smart(295)
def test_the_folder_and_everything_in_it_is_its_owners_alone(folder, keys):
    keys.new(ES384, NOW)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.smart(290, 295)
@pytest.mark.parametrize("algorithm", [ES384, RS384])
def test_a_new_key_is_published_with_id_algorithm_and_use_and_nothing_private(folder, keys, algorithm):
    entry = keys.new(algorithm, NOW)
    [jwk] = published(folder)
    assert (jwk["kid"], jwk["alg"], jwk["use"]) == (entry.kid, algorithm.value, "sig")
    assert not PRIVATE & set(jwk)
    assert not PRIVATE & set(json.loads((folder / "index.json").read_text())["keys"][0]["public"])


def test_a_second_new_key_of_the_same_algorithm_is_refused(keys):
    keys.new(ES384, NOW)
    with pytest.raises(KeyFault, match="rotate"):
        keys.new(ES384, NOW)
    assert keys.new(RS384, NOW).state is KeyState.ACTIVE


def test_a_rotation_publishes_both_keys_until_the_old_one_is_retired(folder, keys):
    old = keys.new(ES384, NOW)
    new = keys.rotate(ES384, NOW)
    assert {key["kid"] for key in published(folder)} == {old.kid, new.kid}
    keys.retire(ES384, NOW + PUBLISHED_FOR)
    assert [key["kid"] for key in published(folder)] == [new.kid]


def test_the_old_key_signs_until_everybody_can_know_the_new_one(keys):
    old = keys.new(ES384, NOW)
    new = keys.rotate(ES384, NOW)
    just_before = NOW + PUBLISHED_FOR - timedelta(seconds=1)
    assert keys.to_sign_with(ES384, just_before).kid == old.kid
    assert keys.to_sign_with(ES384, NOW + PUBLISHED_FOR).kid == new.kid


def test_the_old_key_is_not_retired_before_the_hour_is_over_unless_it_must_be(keys):
    keys.new(ES384, NOW)
    keys.rotate(ES384, NOW)
    with pytest.raises(KeyFault, match="--at-once"):
        keys.retire(ES384, NOW + PUBLISHED_FOR - timedelta(seconds=1))
    assert keys.retire(ES384, NOW, at_once=True).state is KeyState.RETIRED


@pytest.mark.smart(295)
def test_retiring_deletes_the_private_half_and_keeps_the_entry(folder, keys):
    old = keys.new(ES384, NOW)
    keys.rotate(ES384, NOW)
    keys.retire(ES384, NOW + PUBLISHED_FOR)
    assert not (folder / f"{old.kid}.pem").exists()
    assert keys.find(old.kid).retired == NOW + PUBLISHED_FOR


def test_a_second_rotation_waits_until_the_first_is_done(keys):
    keys.new(ES384, NOW)
    keys.rotate(ES384, NOW)
    with pytest.raises(KeyFault, match="still retiring"):
        keys.rotate(ES384, NOW)


def test_the_key_that_signs_audit_exports_is_not_published(folder, keys):
    entry = keys.new(ED25519, NOW)
    assert published(folder) == []
    assert "BEGIN PUBLIC KEY" in public_pem(entry)


def test_two_commands_at_once_do_not_change_the_folder_together(folder, keys):
    keys.new(ES384, NOW)
    (folder / "index.lock").touch()
    with pytest.raises(KeyFault, match=r"index\.lock"):
        keys.rotate(ES384, NOW)


def test_a_broken_index_is_said_and_nothing_is_overwritten(folder, keys):
    keys.new(ES384, NOW)
    (folder / "index.json").write_text("{}x")
    with pytest.raises(KeyFault, match="not an index"):
        keys.rotate(ES384, NOW)
    assert (folder / "index.json").read_text() == "{}x"


# The command


@pytest.mark.smart(290, 295)
def test_the_command_makes_rotates_and_lists_without_showing_anything_private(folder, capsys):
    place = ["--folder", str(folder)]
    assert run(["new", *place]) == 0
    private = next(folder.glob("*.pem")).read_text()
    assert run(["rotate", *place]) == 0
    assert run(["list", *place]) == 0
    assert run(["list", "--json", *place]) == 0
    out = capsys.readouterr().out
    assert "retiring" in out
    assert "PRIVATE" not in out
    assert not any(line in out for line in private.splitlines()[1:-1])


def test_the_listing_gives_id_algorithm_date_and_state(folder, capsys):
    run(["new", "--folder", str(folder), "--algorithm", "RS384"])
    capsys.readouterr()
    run(["list", "--json", "--folder", str(folder)])
    [key] = json.loads(capsys.readouterr().out)["keys"]
    assert (key["algorithm"], key["state"], key["published"]) == ("RS384", "active", True)
    assert key["created"]
    assert key["kid"].startswith("rs384-")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "command"),
        (["melt"], "melt"),
        (["new", "--algorithm", "HS256"], "HS256"),
        (["rotate", "--folder", "FOLDER"], "no active ES384 key"),
        (["rotate", "--retire", "--folder", "FOLDER"], "no ES384 key is retiring"),
        (["list"], "SMARTAPP_SIGNING_KEYS"),
        (["public", "nobody", "--folder", "FOLDER"], "no key has that id"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_two(folder, capsys, monkeypatch, arguments, says):
    monkeypatch.delenv("SMARTAPP_SIGNING_KEYS", raising=False)
    assert run([str(folder) if word == "FOLDER" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


# In the issuers file


@pytest.mark.smart(307, 309, 320, 322)
def test_the_issuers_file_refers_to_the_folder_and_the_assertion_names_the_key(tmp_path, folder, keys):
    entry = keys.new(ES384, NOW)
    [issuer] = read_issuers(issuers_file(tmp_path), folder, {})
    token = signed_assertion(issuer, "https://ehr.example/token", NOW)
    read = jwt.decode(token, KeySet.import_key_set({"keys": published(folder)}), algorithms=["ES384"])
    assert read.header["kid"] == entry.kid
    assert "BEGIN" not in repr(issuer)


def test_the_algorithm_of_the_issuer_chooses_the_key(tmp_path, folder, keys):
    keys.new(ES384, NOW)
    rs384 = keys.new(RS384, NOW)
    [issuer] = read_issuers(issuers_file(tmp_path, signing_algorithm="RS384"), folder, {})
    assert issuer.signing_key_id == rs384.kid


def test_a_key_may_be_pinned_as_long_as_it_is_published(tmp_path, folder, keys):
    old = keys.new(ES384, NOW)
    keys.rotate(ES384, NOW)
    [issuer] = read_issuers(issuers_file(tmp_path, signing_key_id=old.kid), folder, {})
    assert issuer.signing_key_id == old.kid
    keys.retire(ES384, NOW, at_once=True)
    with pytest.raises(ConfigurationError, match="no ES384 key of that signing_key_id"):
        read_issuers(issuers_file(tmp_path, signing_key_id=old.kid), folder, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [(None, "SMARTAPP_SIGNING_KEYS"), ("folder", "no active ES384 key")],
)
def test_a_reference_to_a_folder_that_gives_no_key_stops_the_start(tmp_path, folder, given, says):
    with pytest.raises(ConfigurationError, match=says):
        read_issuers(issuers_file(tmp_path), folder if given else None, {})


@pytest.mark.smart(295)
def test_a_key_given_by_name_is_still_read_from_the_secrets_and_published(tmp_path):
    pem = ECKey.generate_key("P-384").as_pem(private=True).decode()
    path = issuers_file(tmp_path, signing_key="HOSPITAL_KEY", signing_key_id="2026-04")
    issuers = read_issuers(path, None, {"HOSPITAL_KEY": pem})
    [jwk] = PublishedKeys(issuers, None).jwks()["keys"]
    assert (jwk["kid"], jwk["alg"]) == ("2026-04", "ES384")
    assert not PRIVATE & set(jwk)


@pytest.mark.smart(322)
def test_one_id_for_two_keys_stops_the_start(tmp_path):
    path = tmp_path / "issuers.toml"
    path.write_text(
        "".join(
            f'[issuers.h{number}]\nfhir_base = "https://ehr{number}.example/fhir"\nclient_id = "app"\n'
            f'client_auth = "private-key-jwt"\nsigning_key = "KEY{number}"\nsigning_key_id = "same"\n'
            for number in (1, 2)
        )
    )
    pems = {f"KEY{number}": ECKey.generate_key("P-384").as_pem(private=True).decode() for number in (1, 2)}
    with pytest.raises(ConfigurationError, match="same signing_key_id same"):
        PublishedKeys(read_issuers(path, None, pems), None)


# Over HTTP


@pytest.mark.smart(295, 299, 302, 303, 313, 314)
def test_the_app_serves_its_key_set_to_everybody_and_a_rotation_needs_no_restart(world, folder):
    keys = SigningKeys(folder)
    first = keys.new(RS384, NOW)
    client = create_app(replace(world.settings, signing_keys=folder)).test_client()
    answer = client.get("/.well-known/jwks.json")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert [key["kid"] for key in answer.json["keys"]] == [first.kid]
    assert "Set-Cookie" not in answer.headers
    second = keys.rotate(RS384, NOW)
    served = client.get("/.well-known/jwks.json").json["keys"]
    assert {key["kid"] for key in served} == {first.kid, second.kid}
    assert not any(PRIVATE & set(key) for key in served)
    assert all(RSAKey.import_key(key).is_private is False for key in served)


def test_an_app_without_keys_serves_an_empty_set(world):
    assert create_app(world.settings).test_client().get("/.well-known/jwks.json").json == {"keys": []}


@pytest.mark.smart(64, 65, 300, 320)
def test_a_launch_during_a_rotation_goes_all_the_way(make_world, browser, folder):
    keys = SigningKeys(folder)
    keys.new(ES384, NOW)
    keys.rotate(ES384, NOW)
    world = make_world(
        signing_keys=folder,
        client={"type": ClientType.ASYMMETRIC, "jwks": {"keys": published(folder)}},
        serve=False,
    )
    world.settings.issuers_file.write_text(
        world.settings.issuers_file.read_text() + 'client_auth = "private-key-jwt"\nsigning_key = "@keys"\n'
    )
    app = create_app(world.settings)
    port = int(world.settings.base_url.rsplit(":", 1)[1])
    world.stack.enter_context(AppServer(app, "127.0.0.1", port))
    assert "summary" in world.open(browser, "ready-musculoskeletal").by_id


def test_a_folder_that_is_not_there_is_refused_at_start(tmp_path):
    issuers = issuers_file(tmp_path)
    with pytest.raises(ConfigurationError, match="SMARTAPP_SIGNING_KEYS"):
        Settings((b"",), "http://127.0.0.1", issuers, signing_keys=tmp_path / "none", mode=Mode.TEST)
