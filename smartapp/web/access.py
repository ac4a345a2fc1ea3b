"""What each page needs: declared beside its view, asked for before it runs, told in docs/reference/pages.md.

A page that declares nothing does not start. What depends on the very charge (who accepted it, in which way it
leaves, whether it can still be changed) is asked for by the page besides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from flask import Flask, g, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from smartapp.web.errors import error_page
from smartapp.web.permission import Action, looking_refusal, present_findings, refused_here

View = TypeVar("View", bound=Callable[..., Any])


class Open(Enum):
    """What needs no permission of the site."""

    PUBLIC = "public"
    """Nobody need be signed in."""
    SIGNED_IN = "signed-in"
    """An open session of this browser, of anybody but a patient or a relative."""
    LOOK = "look"
    """Somebody who the EHR says is a clinician: charges, and what became of them, are told to nobody else."""


Need = Open | Action


@dataclass(frozen=True)
class Access:
    """What a page needs: any one of `needs`. `besides`: what it asks of the very charge, in words."""

    needs: tuple[Need, ...]
    title: str = "This page is for clinicians"
    """The heading of the page that says why not, and the way back from it."""
    way_back: str = "The patient page shows what is earned and why."
    besides: str = ""
    chart: bool = False
    """It stands on a chart that was read; until there is one, the patient page waits for it. A page that a
    session without a patient opens too does so without one."""

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(need for need in self.needs if isinstance(need, Action))


def needs(
    *needed: Need,
    title: str = Access.title,
    way_back: str = Access.way_back,
    besides: str = "",
    chart: bool = False,
) -> Callable[[View], View]:
    """Declare what a view needs. Above it stands the route, so that what is registered carries it."""
    of_chart = chart or any(isinstance(need, Action) for need in needed)

    def declare(view: View) -> View:
        view.access = Access(needed, title, way_back, besides, of_chart)  # type: ignore[attr-defined]
        return view

    return declare


def access_of(app: Flask, endpoint: str | None) -> Access | None:
    """What a page needs, as its view declares; None where it declares nothing."""
    found = getattr(app.view_functions.get(endpoint or ""), "access", None)
    return found if isinstance(found, Access) else None


def register(app: Flask) -> None:
    """Ask before each page. Raises RuntimeError where a page of the app does not say what it needs."""
    silent = sorted(name for name in app.view_functions if access_of(app, name) is None)
    if silent:
        raise RuntimeError(f"these pages do not say what they need: {', '.join(silent)}")

    @app.before_request
    def _only_those_who_may() -> AnyResponse | None:
        access = access_of(app, request.endpoint)
        return None if access is None else _refused(access)


def _refused(access: Access) -> AnyResponse | None:
    """The page that says why not; None for whoever may."""
    if not {Open.PUBLIC, Open.SIGNED_IN}.isdisjoint(access.needs):
        return None  # whose session it is was asked for before (`security`)
    sentence = looking_refusal(g.session)
    of_chart = access.chart and g.session.patient is not None
    if sentence is None and of_chart and present_findings() is None:
        return redirect(url_for("patient.page", sid=g.session.id))
    if sentence is None:
        refusals = [refused_here(action) for action in access.actions]
        if None in refusals or not refusals:
            return None
        sentence = refusals[0]
    return error_page(403, access.title, sentence or "", access.way_back)
