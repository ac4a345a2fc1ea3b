"""Where an EHR reads our public keys: open to everybody, public halves alone, kept for an hour."""

from __future__ import annotations

import json

import pytest
from flask import Flask
from joserfc import jwt
from joserfc.jwk import KeySet

from launch.client_auth import signed_assertion
from launch.issuers_table import load_issuers
from smartapp.web.jwks import PATH, blueprint


@pytest.mark.smart(225, 291, 294, 299, 301, 302, 303, 313, 314, 315, 322)
def test_the_key_set_is_read_without_credentials_and_verifies_what_each_key_signed(rsa_pem, p384_pem, clock):
    keyed = {"client_id": "app", "client_auth": "private-key-jwt"}
    issuers = load_issuers(
        {
            "a": {"fhir_base": "https://a.example", "signing_key": "A", "signing_key_id": "2026-10", **keyed},
            "b": {
                "fhir_base": "https://b.example",
                "signing_key": "B",
                "signing_key_id": "2026-04",
                "signing_algorithm": "RS384",
                **keyed,
            },
        },
        {"A": p384_pem, "B": rsa_pem},
    )
    app = Flask(__name__)
    app.register_blueprint(blueprint(issuers, None))
    answer = app.test_client().get(PATH)
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert "Set-Cookie" not in answer.headers
    document = json.loads(answer.data)
    assert [key["kid"] for key in document["keys"]] == ["2026-04", "2026-10"]
    assert not [key for key in document["keys"] if {"d", "p", "q", "dp", "dq", "qi"} & set(key)]
    for issuer in issuers:
        assertion = signed_assertion(issuer, "https://a.example/token", clock.now())
        keys = KeySet.import_key_set(document)
        assert jwt.decode(assertion, keys, algorithms=["RS384", "ES384"]).claims["iss"] == "app"


def test_an_app_without_keys_has_an_empty_key_set():
    app = Flask(__name__)
    app.register_blueprint(blueprint((), None))
    assert app.test_client().get(PATH).json == {"keys": []}
