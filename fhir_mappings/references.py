"""The shapes a FHIR Reference takes, brought to one: `Type/id`, or a name that only this chart can resolve.

Relative, absolute, versioned, `urn:`, `#contained`, logical (`identifier`) and display-only references all
occur (SMART_AND_FHIR 3.5). Nothing is fetched here: an absolute reference to another server stays as it is.
"""

from __future__ import annotations

from fhir_mappings.resources import Identifier, Reference

HISTORY = "/_history/"
_LOGICAL = "identifier "


class References:
    """Brings references to `Type/id`. `base` is the FHIR server's address; without one (files), an absolute
    reference is read by its last two segments, since a folder of exports has no address of its own."""

    def __init__(self, base: str | None = None) -> None:
        self._base = base.rstrip("/") + "/" if base else None
        self._aliases: dict[str, str] = {}
        self._identifiers: dict[tuple[str, str | None, str], str] = {}
        self._known: dict[str, str] = {}

    def learn(self, name: str, full_url: str | None, identifiers: list[Identifier] | None) -> None:
        """Remember a resource's other names: its Bundle fullUrl and its business identifiers."""
        if full_url and full_url != name:
            self._aliases[full_url] = name
        kind = name.split("/", 1)[0]
        for identifier in identifiers or ():
            if identifier.value:
                self._identifiers.setdefault((kind, identifier.system, identifier.value), name)

    def short(self, text: str) -> str:
        """A literal reference as `Type/id`, where it is one; otherwise the text itself."""
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = self._shorten(text)
        return self._aliases.get(known, known)

    def _shorten(self, text: str) -> str:
        plain = text.split(HISTORY, 1)[0]
        if "://" not in plain:
            return plain
        if self._base is not None:
            return plain.removeprefix(self._base)
        parts = plain.rsplit("/", 2)
        return f"{parts[1]}/{parts[2]}" if len(parts) == 3 and parts[1][:1].isupper() else plain

    def name(self, reference: Reference | None, kind: str) -> str | None:
        """The name of what is referred to, once everything was learned; None where it names nothing.

        `kind` is the resource type that a logical reference is looked up under.
        """
        return self.resolve(pointer(reference, kind))

    def resolve(self, pointed: str | None) -> str | None:
        """What a `pointer` names; None where nothing of that name was learned or could be."""
        if not pointed:
            return None
        if not pointed.startswith(_LOGICAL):
            return self.short(pointed)
        parts = pointed.removeprefix(_LOGICAL).split("\0")
        if len(parts) != 3:
            # A literal reference that begins like one of ours, or a NUL in an identifier: FHIR has neither.
            return None
        kind, system, value = parts
        return self._identifiers.get((kind, system or None, value))


def pointer(reference: Reference | None, kind: str) -> str | None:
    """A reference as one text that can be kept until everything was read: the literal reference, or its
    logical identifier. "" where the element is there and names nothing (a display alone); None without one.
    """
    if reference is None:
        return None
    if reference.reference:
        return reference.reference
    logical = reference.identifier
    if logical is not None and logical.value:
        return f"{_LOGICAL}{reference.type or kind}\0{logical.system or ''}\0{logical.value}"
    return ""
