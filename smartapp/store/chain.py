"""The chain of the audit trail: what an entry's text may be, what its digests cover, whether the chain holds.

No database and no key: the trail and its exports are followed alike.

Each entry's digest covers its position, its moment, the digest of its *content* and the entry before it. The
chain runs over digests of contents, never over contents, and the text of an entry has one of four forms:

    {"digest": D, "sealed": TOKEN}   as the trail keeps it: what it says is encrypted, D is its digest
    {"salt": S, "says": TEXT}        the same, opened: what the seal holds, and what an export shows
    {"emptied": D}                   past its retention time: only the digest is left
    {"event": ..., ...}              open: about the trail itself, or from before entries were sealed

D is SHA-256 of the salt, a line feed and the text; of an open entry, SHA-256 of the entry. Why a salted
digest of the text, and not a digest of the encrypted bytes: encrypted bytes change when an old key is
retired, and the chain would break, or tie the trail to its first key for good. The salt (32 random bytes,
inside the seal) keeps the digest from telling anything: who sees it cannot try likely texts. And it binds:
who shows salt and text that give D shows what was said when the entry was written, without any key. So
- a purge drops the sealed text and keeps D: the chain holds as before;
- a new key seals the same text again: D stays what it was;
- an export proves its plain text by itself;
- without a key every digest of the trail can be followed; whether a sealed text is the one its digest names,
  whoever has the keys can tell.

What a person typed with an entry (a reason) is in no export: the text says its salted digest, and the words
lie beside the text in the seal (`sealed_content`).

A sealed text also says which digest it came `after`. So whoever owns the database, but not the keys, cannot
change, remove or insert anything before an entry that still says something, whatever digests they compute
anew; and what they add in the open after sealed entries is found. What they can do is cut off the end, or
empty entries as a purge would: that is what exports are for.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

START = "0" * 64
EMPTIED = "audit-emptied"
"""The event of an entry which says that the contents before it were emptied, up to the position `up_to`.
It stands open: who has no key must see that a content is gone by rule. It names nobody."""
AFTER = "after"
"""The fact of a sealed text which names the digest of the entry before it."""
_SEALED_FORM = re.compile(r'\{"digest": "([0-9a-f]{64})", "sealed": "([A-Za-z0-9_\-=]+)"\}')
_EMPTIED_FORM = re.compile(r'\{"emptied": "([0-9a-f]{64})"\}')
_SALTED_FORM = re.compile(r'\{"salt": "([0-9a-f]{64})", "says": (".*")\}', re.DOTALL)


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def entry_digest(position: int, at: str, content: str, previous: str) -> str:
    """An entry's digest; `content` is the digest of what it says."""
    return _sha256(f"{position}\n{at}\n{content}\n{previous}")


def salted(says: str) -> str:
    """A text with a salt of its own, ready to be sealed."""
    return json.dumps({"salt": secrets.token_hex(32), "says": says}, ensure_ascii=False)


def sealed_content(opened: str, words: Mapping[str, str]) -> str:
    """What is sealed: an opened entry, and in a second line what people typed, each word with its salt."""
    return f"{opened}\n{json.dumps(words)}" if words else opened


def opened_of(content: str) -> str:
    """The opened entry of a seal's content."""
    return content.partition("\n")[0]


def words_of(content: str) -> dict[str, str]:
    """What people typed, by the name of the fact. Raises ValueError where the entry says another digest."""
    opened, _, rest = content.partition("\n")
    kept: dict[str, str] = json.loads(rest) if rest else {}
    said = facts_of(opened)
    found = {}
    for name, word in kept.items():
        text = _salted_text(word)
        if text is None or said.get(f"{name}_digest") != content_digest(word):
            raise ValueError(name)
        found[name] = text[1]
    return found


def sealed_form(opened: str, token: str) -> str:
    """What the trail keeps of an opened entry whose seal is `token`."""
    return json.dumps({"digest": content_digest(opened), "sealed": token})


def emptied_form(entry: str) -> str:
    """What is left of an entry past its time."""
    return json.dumps({"emptied": content_digest(entry)})


def content_digest(entry: str) -> str:
    """The digest of what an entry says, or said before it was emptied; of a sealed one, as it states it."""
    if named := _SEALED_FORM.fullmatch(entry) or _EMPTIED_FORM.fullmatch(entry):
        return named[1]
    salted_text = _salted_text(entry)
    return _sha256(entry if salted_text is None else "\n".join(salted_text))


def _salted_text(entry: str) -> tuple[str, str] | None:
    found = _SALTED_FORM.fullmatch(entry)
    if found is None:
        return None
    try:
        return found[1], str(json.loads(found[2]))
    except ValueError:
        return None


def seal_of(entry: str) -> str | None:
    """The seal of an entry that is sealed; None of any other."""
    sealed = _SEALED_FORM.fullmatch(entry)
    return sealed[2] if sealed else None


def is_emptied(entry: str) -> bool:
    """Whether only the digest of this entry's content is left."""
    return _EMPTIED_FORM.fullmatch(entry) is not None


def is_plain(entry: str) -> bool:
    """Whether what it says stands open and may name somebody: an entry from before entries were sealed."""
    return seal_of(entry) is None and not is_emptied(entry) and not says_emptied(entry)


def facts_of(opened: str) -> dict[str, Any]:
    """What an opened entry says: its event and its facts; of an emptied one, its digest."""
    salted_text = _salted_text(opened)
    facts: dict[str, Any] = json.loads(opened if salted_text is None else salted_text[1])
    facts.pop(AFTER, None)
    return facts


def _came_after(says: str) -> object:
    """Which digest a sealed text says it came after."""
    try:
        said = json.loads(says)
    except (ValueError, RecursionError):
        return None
    return said.get(AFTER) if isinstance(said, dict) else None


def says_emptied(entry: str) -> int:
    """Up to which position an open entry says that contents were emptied; 0 if it says nothing of that."""
    if EMPTIED not in entry:
        return 0
    try:
        said = json.loads(entry)
    except (ValueError, RecursionError):
        return 0
    up_to = said.get("up_to") if isinstance(said, dict) and said.get("event") == EMPTIED else None
    return up_to if isinstance(up_to, int) else 0


class ChainFault(StrEnum):
    """Why a chain does not hold."""

    MISSING = "missing"
    """An entry is not there."""
    CHANGED = "changed"
    """An entry is not what it was."""
    FOREIGN = "foreign"
    """It stands in the open after sealed ones: the app did not write it."""
    UNREADABLE = "unreadable"
    """What it says cannot be opened with the keys at hand."""
    EMPTIED = "emptied"
    """A content is gone, and no entry says that it was emptied."""
    CUT_OFF = "cut-off"
    """The chain ends before its last entry."""
    REWRITTEN = "rewritten"
    """The chain holds in itself, and is not the one an earlier export shows."""
    SHORTENED = "shortened"
    """An earlier export has more entries."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a person typed, as a fact of an entry: the entry says its digest, and no export shows it."""

    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the chain, as stored and as exported."""

    position: int
    at: str
    """ISO 8601, UTC."""
    entry: str
    previous: str
    digest: str


@dataclass(frozen=True, slots=True)
class Point:
    """Where a chain ended once: after so many entries, with this digest."""

    entries: int
    digest: str


@dataclass(frozen=True, slots=True)
class ChainCheck:
    """What was found on the way from the first entry to the last. `fault` None: the whole chain holds."""

    entries: int
    emptied: int
    digest: str
    sealed: int = 0
    """Contents that were not opened: nobody compared them with their digests."""
    broken_at: int | None = None
    fault: ChainFault | None = None


class Chain:
    """Follows a chain entry by entry; the first fault stays.

    `opened`: every sealed entry comes opened, and one that does not is a fault. `since`: where an earlier
    export ended; the chain must pass there.
    """

    def __init__(self, *, opened: bool = False, since: Point | None = None) -> None:
        self._opened, self._since = opened, since
        self._position, self._digest = 0, START
        self._sealed = 0
        self._began_to_seal = False
        self._emptied: list[int] = []
        self._emptied_up_to = 0
        self._broken: tuple[int, ChainFault] | None = None

    def follow(self, link: Link) -> None:
        """The next entry."""
        if self._broken:
            return
        fault = self._fault(link)
        if fault is not None:
            self._broken = (self._position + 1, fault)
            return
        self._position, self._digest = link.position, link.digest
        if is_emptied(link.entry):
            self._emptied.append(link.position)
        elif seal_of(link.entry) is not None:
            self._sealed += 1
        else:
            self._emptied_up_to = max(self._emptied_up_to, says_emptied(link.entry))
        if Point(self._position, self._digest) == self._since:
            self._since = None

    def _fault(self, link: Link) -> ChainFault | None:
        if link.position != self._position + 1:
            return ChainFault.MISSING
        digest = entry_digest(link.position, link.at, content_digest(link.entry), self._digest)
        if link.previous != self._digest or link.digest != digest:
            return ChainFault.CHANGED
        return self._fault_within(link.entry) if self._opened else None

    def _fault_within(self, opened: str) -> ChainFault | None:
        """What is wrong with an entry although its digests fit."""
        if seal_of(opened) is not None:
            return ChainFault.UNREADABLE
        salted_text = _salted_text(opened)
        if salted_text is not None:
            self._began_to_seal = True
            return None if _came_after(salted_text[1]) == self._digest else ChainFault.CHANGED
        return ChainFault.FOREIGN if self._began_to_seal and is_plain(opened) else None

    def end(self, last: Point) -> ChainCheck:
        """The verdict, where the last entry is to be this one."""
        unexplained = next((emptied for emptied in self._emptied if emptied > self._emptied_up_to), None)
        if self._broken is None and Point(self._position, self._digest) != last:
            self._broken = (self._position + 1, ChainFault.CUT_OFF)
        if unexplained is not None and (self._broken is None or unexplained < self._broken[0]):
            self._broken = (unexplained, ChainFault.EMPTIED)
        if self._broken is None:
            self._broken = self._departed()
        broken_at, fault = self._broken or (None, None)
        return ChainCheck(self._position, len(self._emptied), self._digest, self._sealed, broken_at, fault)

    def _departed(self) -> tuple[int, ChainFault] | None:
        """How a chain that holds in itself departs from the earlier export."""
        if self._since is None or self._since == Point(0, START):
            return None
        if self._position < self._since.entries:
            return self._position + 1, ChainFault.SHORTENED
        return self._since.entries, ChainFault.REWRITTEN
