"""The documents lead somewhere: every link in them to a file, and to a heading in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "fhir_mappings").rglob("*.md")]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)
MOST_BYTES_OF_PICTURES = 1_500_000
CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The names that a forge gives to the headings."""
    words = (
        heading.strip().lower().replace("`", "") for heading in HEADING.findall(document.read_text("utf-8"))
    )
    return {re.sub(r"[^\w\- ]", "", word).replace(" ", "-") for word in words}


def faults(document: Path, root: Path = ROOT) -> list[str]:
    found = []
    for link in LINK.findall(CODE_BLOCK.sub("", document.read_text("utf-8"))):
        where = urlsplit(link)
        if where.scheme or where.netloc:
            continue
        target = (document.parent / unquote(where.path)).resolve() if where.path else document
        if not target.exists() or not target.is_relative_to(root):
            found.append(f"{link}: no such file")
        elif where.fragment and target.suffix == ".md" and where.fragment not in anchors(target):
            found.append(f"{link}: no such heading")
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    assert faults(document) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    document = tmp_path / "one.md"
    document.write_text("# One\n[a](missing.md) [b](#one) [c](#two)")
    assert faults(document, tmp_path) == ["missing.md: no such file", "#two: no such heading"]


def test_every_page_of_the_docs_can_be_reached_from_the_readme() -> None:
    reached, open_ = set(), [ROOT / "README.md"]
    while open_:
        document = open_.pop()
        if document in reached or document.suffix != ".md" or not document.is_file():
            continue
        reached.add(document)
        text = document.read_text("utf-8")
        open_ += [(document.parent / urlsplit(link).path).resolve() for link in LINK.findall(text)]
    assert sorted(str(page.relative_to(ROOT)) for page in set((ROOT / "docs").rglob("*.md")) - reached) == []


def test_every_test_that_the_threat_model_names_is_there() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    written = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 30
    assert [f"{file}::{name}" for file, name in named if f"\ndef {name}(" not in written.get(file, "")] == []


def test_the_changelog_has_this_version_and_a_part_for_what_comes_next() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_every_picture_is_shown_somewhere_and_all_are_small() -> None:
    shown = {
        (document.parent / unquote(urlsplit(link).path)).resolve()
        for document in DOCUMENTS
        for link in LINK.findall(document.read_text("utf-8"))
    }
    pictures = {path for path in (ROOT / "docs").rglob("*") if path.suffix in {".png", ".svg", ".webp"}}
    assert len(pictures) > 20
    assert pictures <= shown
    assert sum(path.stat().st_size for path in pictures) < MOST_BYTES_OF_PICTURES
