"""Entries of the site's file that are for one EHR each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def for_one_each(key: str, names: Sequence[str | None], many: Mapping[str, bool]) -> None:
    """Raises ValueError with one line where an entry of `key` is for no one EHR, or two for the same.
    `names`: their `issuer`s; `many`: the EHRs by name, and whether each stands for several practices."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{key}: {twice} is listed twice")
    for name in names:
        if name is None and len(many) > 1:
            raise ValueError(f"{key}: say for which EHR with `issuer` ({', '.join(sorted(many))})")
        if name is not None and name not in many:
            raise ValueError(f"{key}: {name} is no registered EHR")
        if many[name] if name is not None else any(many.values()):
            raise ValueError(
                f"{key}: an entry of the issuers file with a * stands for many practices; give the "
                "practice an entry of its own, and name that"
            )
