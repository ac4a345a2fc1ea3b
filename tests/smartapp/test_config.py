"""Production by default: what the app refuses to start with, and that every setting is documented."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from smartapp import create_app
from smartapp.configuration.settings import SETTINGS, ConfigurationError, Mode, Settings
from smartapp.store import Store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path):
    issuers = tmp_path / "issuers.toml"
    issuers.write_text('[issuers.general]\nfhir_base = "https://ehr.example/fhir"\nclient_id = "app"\n')
    return {
        "SMARTAPP_KEYS": Fernet.generate_key().decode(),
        "SMARTAPP_BASE_URL": "https://app.example",
        "SMARTAPP_ISSUERS_FILE": str(issuers),
        "SMARTAPP_TIMEZONE": "America/New_York",
        "SMARTAPP_DATABASE_URL": f"sqlite:///{tmp_path / 'app.sqlite3'}",
    }


def test_every_setting_is_documented_with_its_default_and_meaning():
    text = (ROOT / "docs" / "settings.md").read_text("utf-8")
    for setting in SETTINGS:
        assert f"`{setting.variable}`" in text
        assert setting.meaning in text
        assert setting.default is None or not setting.default or f"`{setting.default}`" in text


def test_the_tuple_of_settings_is_the_configuration():
    assert {setting.name for setting in SETTINGS} | {"mode", "clock_ahead"} == {
        field.name for field in fields(Settings)
    }


def test_a_server_started_from_the_environment_is_a_production_server(environ):
    assert Settings.from_environment(environ).mode is Mode.PRODUCTION


def test_no_variable_can_turn_production_into_a_demo(environ):
    with pytest.raises(ConfigurationError, match="SMARTAPP_MODE is no setting"):
        Settings.from_environment({**environ, "SMARTAPP_MODE": "demo"})


@pytest.mark.parametrize("name", ["AS_OF", "CLOCK", "CLOCK_AHEAD", "NOW", "TODAY"])
def test_no_variable_tells_production_another_day(environ, name):
    with pytest.raises(ConfigurationError, match=f"SMARTAPP_{name} is no setting"):
        Settings.from_environment({**environ, f"SMARTAPP_{name}": "2026-04-15"})


@pytest.mark.parametrize("ahead", [timedelta(days=-1), timedelta(microseconds=1)])
def test_production_takes_no_clock_but_the_machines(environ, ahead):
    settings = Settings.from_environment(environ)
    with pytest.raises(ConfigurationError, match="clock"):
        replace(settings, clock_ahead=ahead)
    with pytest.raises(ConfigurationError, match="clock"):
        Settings(settings.keys, settings.base_url, settings.issuers_file, clock_ahead=ahead)


def test_production_tells_the_machines_time(environ):
    settings = Settings.from_environment(environ)
    with closing(Store(settings.database_url, settings.keys)) as store:
        store.database.migrate()
    services = create_app(settings).extensions["smartapp"]
    try:
        assert abs(services.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    finally:
        services.close()


@pytest.mark.parametrize("missing", ["SMARTAPP_KEYS", "SMARTAPP_BASE_URL", "SMARTAPP_ISSUERS_FILE"])
def test_production_refuses_to_start_without_key_address_and_issuers(environ, missing):
    del environ[missing]
    with pytest.raises(ConfigurationError, match=missing):
        Settings.from_environment(environ)


def test_production_refuses_an_address_without_tls(environ):
    with pytest.raises(ConfigurationError, match="https"):
        Settings.from_environment({**environ, "SMARTAPP_BASE_URL": "http://app.example"})


def test_a_wrong_key_is_refused_without_being_repeated(environ):
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environment({**environ, "SMARTAPP_KEYS": "correct-horse-battery-staple"})
    assert "correct-horse" not in str(refused.value)


def test_all_problems_are_named_at_once():
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_environment({"SMARTAPP_PAGE_LIMIT": "many"})
    for name in ("SMARTAPP_KEYS", "SMARTAPP_BASE_URL", "SMARTAPP_ISSUERS_FILE", "SMARTAPP_PAGE_LIMIT"):
        assert name in str(refused.value)


def test_a_demo_stays_on_this_machine(environ):
    settings = Settings.from_environment(environ)
    with pytest.raises(ConfigurationError, match="loopback"):
        Settings(settings.keys, "https://app.example", settings.issuers_file, mode=Mode.DEMO)


def test_no_time_zone_anywhere_is_refused(environ):
    del environ["SMARTAPP_TIMEZONE"]
    with pytest.raises(ConfigurationError, match="time zone"):
        create_app(Settings.from_environment(environ))


def test_a_database_without_tables_is_refused_with_what_to_do(environ):
    with pytest.raises(ConfigurationError, match="smartapp migrate"):
        create_app(Settings.from_environment(environ))


def test_secrets_are_not_in_the_settings_repr(environ):
    settings = Settings.from_environment(environ)
    assert environ["SMARTAPP_KEYS"] not in repr(settings)
    assert "sqlite" not in repr(settings)
