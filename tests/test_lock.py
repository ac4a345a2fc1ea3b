"""What is deployed is named with its hash, and is what pyproject.toml's ranges allow."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
RUNNING, BUILDING = "requirements.lock", "requirements-build.lock"
RANGES = {
    RUNNING: [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgresql"],
    ],
    BUILDING: PROJECT["build-system"]["requires"],
}
EVERY = pytest.mark.parametrize("lock", RANGES)


def entries(lock: str) -> Iterator[tuple[Requirement, int]]:
    """What a lock file asks for, and by how many hashes each is known."""
    text = (ROOT / lock).read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            asked, *hashes = line.split("--hash=")
            assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one.strip()) for one in hashes), line
            yield Requirement(asked), len(hashes)


def locked(lock: str) -> dict[NormalizedName, Requirement]:
    return {canonicalize_name(entry.name): entry for entry, _ in entries(lock)}


def version(entry: Requirement) -> str:
    [specifier] = entry.specifier
    assert specifier.operator == "=="
    return specifier.version


def beyond(ranges: Iterable[str], lock: str) -> list[str]:
    """Which of these the lock file leaves out, or pins to a version that is not allowed."""
    pins = locked(lock)
    return [
        text
        for text in ranges
        if (name := canonicalize_name((asked := Requirement(text)).name)) not in pins
        or not asked.specifier.contains(version(pins[name]))
    ]


@EVERY
def test_every_entry_is_one_version_known_by_its_hashes(lock: str) -> None:
    found = list(entries(lock))
    assert found
    assert len(locked(lock)) == len(found), "a package stands there twice"
    for entry, hashes in found:
        assert version(entry)
        assert hashes, entry.name


@EVERY
def test_what_is_locked_is_what_the_ranges_allow(lock: str) -> None:
    assert beyond(RANGES[lock], lock) == [], "run `make lock`"


def test_a_range_that_moved_on_is_noticed() -> None:
    assert beyond(["flask>=99"], RUNNING) == ["flask>=99"]
    assert beyond(["unheard-of"], RUNNING) == ["unheard-of"]


def needs(name: str) -> list[Requirement]:
    """What the installed package of that name needs; nothing is known of one that is not installed here."""
    try:
        return [Requirement(text) for text in requires(name) or ()]
    except PackageNotFoundError:
        return []


@EVERY
def test_what_a_locked_package_needs_is_locked_too(lock: str) -> None:
    """As far as those are installed here. Extras were asked for by name: `psycopg[binary]`."""
    extras = {canonicalize_name((one := Requirement(text)).name): one.extras or {""} for text in RANGES[lock]}
    missing = [
        f"{name} needs {need}"
        for name in locked(lock)
        for need in needs(name)
        if any(
            need.marker is None or need.marker.evaluate({"extra": extra}) for extra in extras.get(name, {""})
        )
        and canonicalize_name(need.name) not in locked(lock)
    ]
    assert missing == []


@EVERY
def test_a_lock_file_names_no_place_to_download_from(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE), "an option of pip"


def test_nothing_is_deployed_that_is_not_locked() -> None:
    """Each call of pip that could fetch something asks for hashes, or may fetch nothing."""
    install = (ROOT / "deploy" / "install").read_text("utf-8").replace("\\\n", "")
    calls = re.findall(r"^(?:pip|.*-m pip wheel) .*$", install, re.MULTILINE)
    assert len(calls) == 4, calls
    assert install.count("pip install") == 1, "what `pip` stands for"
    for call in calls:
        assert "--require-hashes" in call or "--no-deps" in call, call
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "deploy/install . build/shipped" in makefile
    assert "RUN /src/deploy/install /src /app" in (ROOT / "Containerfile").read_text("utf-8")
