"""Which release of the app this is."""

from __future__ import annotations

from functools import cache

APP = "smart-remote-monitoring"


@cache
def release() -> str:
    """As it was installed; run from its files alone, it says so."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(APP)
    except PackageNotFoundError:
        return "not installed"
