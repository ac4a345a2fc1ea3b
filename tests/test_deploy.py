"""What the files for containers promise: nobody's rights, nothing writable, time to finish a write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from smartapp.commands.nightly import parser as nightly_parser
from smartapp.commands.serve import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parent.parent
CONTAINERFILE = (ROOT / "Containerfile").read_text("utf-8")
NGINX = (ROOT / "deploy" / "nginx.conf").read_text("utf-8")


NIGHTLY = (ROOT / "deploy" / "smartapp-nightly.service").read_text("utf-8")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
    return services


def test_the_last_stage_is_nobodys_and_installs_nothing() -> None:
    last = CONTAINERFILE.split("\nFROM ")[-1]
    assert "USER 10001:10001" in last
    assert "\nRUN " not in last
    assert "HEALTHCHECK" in last


def test_everything_that_is_copied_is_there_and_not_ignored() -> None:
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE)
        for name in line.split()[:-1]
    }
    kept = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("name", ["migrate", "app", "demo"])
def test_the_app_has_no_rights_and_a_root_that_is_read_only(name: str, services: dict[str, Any]) -> None:
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_no_file_of_a_site_goes_into_the_image_or_the_repository() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored.index("deploy/site") > ignored.index("!deploy")
    assert "deploy/site/" in (ROOT / ".gitignore").read_text("utf-8").splitlines()


def test_what_compose_names_is_declared_and_images_are_named_in_full(services: dict[str, Any]) -> None:
    whole = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    for service in services.values():
        assert set(service.get("networks", [])) <= set(whole["networks"])
        assert set(service.get("secrets", [])) <= set(whole["secrets"])
        assert set(service.get("depends_on", [])) <= set(services)
        assert "build" in service or service["image"].startswith("docker.io/library/")
        for source in (volume.split(":")[0] for volume in service.get("volumes", [])):
            known = source in whole["volumes"] or source.startswith("./deploy/site")
            assert known or (ROOT / source).is_file()
    assert all("docker.io/library/" in line for line in re.findall(r"^FROM .+$", CONTAINERFILE, re.MULTILINE))


def test_what_compose_sets_is_a_setting(services: dict[str, Any]) -> None:
    documented = set(
        re.findall(r"^\| `(SMARTAPP_\w+)`", (ROOT / "docs" / "settings.md").read_text("utf-8"), re.MULTILINE)
    )
    assert set(services["app"]["environment"]) <= documented


def test_the_database_is_healthy_only_when_it_takes_connections_from_others(services: dict[str, Any]) -> None:
    """While postgres makes its first database it listens on its socket alone: to migrate then fails."""
    test = services["database"]["healthcheck"]["test"]
    assert test[test.index("-h") + 1] == "127.0.0.1"


def test_only_the_proxy_is_reached_from_outside(services: dict[str, Any]) -> None:
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]


def test_whoever_stops_it_waits_until_a_write_has_ended(services: dict[str, Any]) -> None:
    assert int(services["app"]["stop_grace_period"].removesuffix("s")) > PATIENCE_SECONDS
    assert int(re.findall(r"proxy_read_timeout (\d+)s", NGINX)[0]) > PATIENCE_SECONDS


def test_no_log_of_the_proxy_holds_what_follows_the_path() -> None:
    assert not re.search(r"\$(request|request_uri|args|query_string|http_referer)\b", NGINX)


def test_the_nightly_unit_calls_what_there_is_as_nobody_and_goes_on_after_a_failure() -> None:
    (command,) = re.findall(r"^ExecStart=\S+/smartapp nightly (.+)$", NIGHTLY, re.MULTILINE)
    options = nightly_parser().parse_args(command.split())
    (kept,) = re.findall(r"^StateDirectory=(\S+)$", NIGHTLY, re.MULTILINE)
    assert options.dir == f"/var/lib/{kept}"
    for line in ("User=smartapp", "UMask=0077", "StateDirectoryMode=0700", "Restart=on-failure"):
        assert f"\n{line}\n" in NIGHTLY
    assert "SMARTAPP_KEYS=" not in NIGHTLY
    assert "OnCalendar=" in (ROOT / "deploy" / "smartapp-nightly.timer").read_text("utf-8")
