"""The release stands in packets and provenances; an app that was not installed still accepts."""

from __future__ import annotations

import importlib.metadata
import tomllib
from pathlib import Path

import pytest

from smartapp.release import APP, release

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


@pytest.fixture(autouse=True)
def asked_anew():
    release.cache_clear()
    yield
    release.cache_clear()


def test_it_is_that_of_the_project():
    assert (APP, release()) == (PROJECT["name"], PROJECT["version"])


def test_what_was_not_installed_says_so_instead_of_failing(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert release() == "not installed"
