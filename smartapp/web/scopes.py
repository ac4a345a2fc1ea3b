"""What was asked of the EHR at this launch, what it granted, and what is missing for that: a page for IT."""

from __future__ import annotations

from flask import Blueprint, Response, g, make_response, render_template

from fhir_mappings.vocabulary import Role
from launch.scopes import difference
from smartapp.commands.registration import PURPOSES
from smartapp.services import FEATURES
from smartapp.web.access import Open, needs
from smartapp.web.permission import ROLES, role_here

pages = Blueprint("scopes", __name__, url_prefix="/s/<sid>/scopes")


@pages.get("")
@needs(Open.SIGNED_IN)
def page() -> Response:
    """Scopes asked for, granted and lost, and what each lost feature means for the people who use the app."""
    found = difference(g.session.requested_scope, g.session.granted_scope, FEATURES)
    lost = [(feature.value, PURPOSES[feature]) for feature in found.lost_features]
    return make_response(
        render_template(
            "scopes/scopes.html",
            found=found,
            lost=lost,
            requested=g.session.requested_scope.split(),
            role=ROLES[role_here() or Role.UNKNOWN],
        )
    )
