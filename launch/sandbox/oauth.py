"""The SMART App Launch 2.2 authorization server, on authlib's server side.

Stricter than authlib where SMART or RFC 9700 is: `code_challenge` with S256 for every client type, `state`
and `aud` required, redirect URIs compared as bytes, codes and refresh tokens spent at the first use.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Any

import requests
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    ClientMixin,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    grants,
)
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from launch.sandbox.config import Client, ClientType, SandboxConfig
from launch.sandbox.credentials import Credential, CredentialKind, Credentials
from launch.sandbox.keys import SigningKey
from launch.sandbox.scopes import narrow, without

#: The algorithms SMART asks of clients with a key pair.
ASSERTION_ALGORITHMS = ["RS384", "ES384"]
_ASSERTION_SECONDS = 300
_SKEW_SECONDS = 60
_ONLINE_SECONDS = 8 * 3600
_OFFLINE_SECONDS = 90 * 86400
_AUTH_METHOD = {
    ClientType.PUBLIC: "none",
    ClientType.SYMMETRIC: "client_secret_basic",
    ClientType.ASYMMETRIC: "private_key_jwt",
}


class RegisteredClient(ClientMixin):  # type: ignore[misc]
    """A client as authlib asks for it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get_client_id(self) -> str:
        return self.client.client_id

    def get_default_redirect_uri(self) -> None:
        # SMART: redirect_uri is required, and there is no default to fall back to.
        return None

    def get_allowed_scope(self, scope: str | None) -> str | None:
        return narrow(scope or "", self.client.scope) or None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.client.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        secret = self.client.client_secret or ""
        return bool(secret) and hmac.compare_digest(secret.encode(), client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:  # noqa: ARG002
        return method == _AUTH_METHOD[self.client.type]

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and "authorization_code" in self.client.grant_types

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.client.grant_types


class S256CodeChallenge(CodeChallenge):  # type: ignore[misc]
    """PKCE for every client type, S256 alone.

    authlib's own asks only public clients, only at the token endpoint, and takes `plain` (the default where a
    request names no method).
    """

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012 - authlib's attribute
    _CHALLENGE = re.compile(r"[A-Za-z0-9\-_]{43}")

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge"):
            raise InvalidRequestError("Missing 'code_challenge'")
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("'code_challenge_method' must be S256")
        if not self._CHALLENGE.fullmatch(data["code_challenge"]):
            raise InvalidRequestError("Invalid 'code_challenge'")
        super().validate_code_challenge(grant, redirect_uri)


class PrivateKeyJWT(JWTBearerClientAssertion):  # type: ignore[misc]
    """SMART's asymmetric client authentication: RS384 or ES384, at most five minutes, each `jti` once."""

    CLIENT_AUTH_METHOD = "private_key_jwt"

    def __init__(self, config: SandboxConfig, credentials: Credentials) -> None:
        super().__init__(leeway=_SKEW_SECONDS)
        self._config = config
        self._credentials = credentials

    def get_audiences(self) -> list[str]:
        return [f"{self._config.issuer}/token"]

    def resolve_client_public_key(self, client: RegisteredClient) -> KeySet:
        jwks: Any = client.client.jwks
        try:
            if client.client.jwks_uri:
                answer = requests.get(client.client.jwks_uri, timeout=5, allow_redirects=False)
                answer.raise_for_status()
                jwks = answer.json()
            return KeySet.import_key_set(jwks)
        except (requests.RequestException, JoseError, ValueError, TypeError, KeyError):
            raise InvalidClientError(description="The client's keys can't be read.") from None

    def process_assertion_claims(self, assertion: str, resolve_key: KeySet) -> dict[str, Any]:
        try:
            token = jwt.decode(assertion, resolve_key, algorithms=ASSERTION_ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise InvalidClientError(description="The client assertion can't be verified.") from error
        if "kid" not in token.header:
            raise InvalidClientError(description="The client assertion names no key ('kid').")
        self.verify_claims(token.claims)
        return dict(token.claims)

    def verify_claims(self, claims: Any) -> None:
        expires = claims.get("exp")
        limit = self._config.clock() + _ASSERTION_SECONDS + _SKEW_SECONDS
        if not isinstance(expires, int | float) or expires > limit:
            raise InvalidClientError(description="The client assertion lives longer than five minutes.")
        if not isinstance(claims.get("jti"), str):
            raise InvalidClientError(description="Missing JWT ID.")
        # As authlib does it, but by the sandbox's clock.
        wanted = jwt.JWTClaimsRegistry(
            now=int(self._config.clock()),
            leeway=self.leeway,
            iss={"essential": True},
            sub={"essential": True},
            aud={"essential": True, "values": self.get_audiences()},
            exp={"essential": True},
        )
        try:
            wanted.validate(claims)
        except JoseError as error:
            raise InvalidClientError(description=error.description) from error
        if claims["sub"] != claims["iss"]:
            raise InvalidClientError(description="Issuer and Subject MUST match.")
        if not self.validate_jti(claims, claims["jti"]):
            raise InvalidClientError(description="JWT ID is used before.")

    def validate_jti(self, claims: Any, jti: str) -> bool:
        return self._credentials.keep(
            CredentialKind.ASSERTION,
            f"{claims['sub']} {jti}",
            claims["sub"],
            {},
            _ASSERTION_SECONDS + 2 * _SKEW_SECONDS,
            "",
        )


class _Sandboxed:
    """What our grants need from the server that made them."""

    server: SmartServer
    request: Any
    TOKEN_ENDPOINT_AUTH_METHODS: tuple[str, ...] = ("none", "client_secret_basic", "private_key_jwt")


class AuthorizationCodeGrant(_Sandboxed, grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """The code grant with SMART's `state`, `aud` and launch context."""

    def validate_authorization_request(self) -> str:
        redirect_uri: str = super().validate_authorization_request()
        data = self.request.payload.data
        try:
            if any(len(values) > 1 for values in self.request.payload.datalist.values()):
                raise InvalidRequestError("A parameter stands more than once.")
            if not data.get("state"):
                raise InvalidRequestError("Missing 'state'")
            if data.get("aud") != self.server.config.fhir_base:
                raise InvalidRequestError("'aud' is not the FHIR base URL of this server")
        except OAuth2Error as error:
            error.redirect_uri = redirect_uri
            raise
        return redirect_uri

    def save_authorization_code(self, code: str, request: Any) -> None:
        context = request.launch_context
        config = self.server.config
        self.server.credentials.keep(
            CredentialKind.CODE,
            code,
            request.client.get_client_id(),
            {
                "scope": granted_scope(request.scope, context),
                "redirect_uri": request.payload.redirect_uri,
                "code_challenge": request.payload.data["code_challenge"],
                "nonce": request.payload.data.get("nonce"),
                "context": context,
            },
            config.code_seconds,
            code_family(code),
        )

    def query_authorization_code(self, code: str, client: RegisteredClient) -> Credential | None:
        # Spent at the first try, right or wrong: a code that failed once is never good again.
        return self.server.credentials.spend(CredentialKind.CODE, code, client.get_client_id())

    def delete_authorization_code(self, authorization_code: Credential) -> None:
        """Spent already."""

    def authenticate_user(self, authorization_code: Credential) -> str:
        self.request.grant_source = authorization_code
        return str(authorization_code.data["context"]["user"])

    def validate_token_request(self) -> None:
        if not self.request.form.get("redirect_uri"):
            raise InvalidRequestError("Missing 'redirect_uri'")
        super().validate_token_request()


class RefreshTokenGrant(_Sandboxed, grants.RefreshTokenGrant):  # type: ignore[misc]
    """Refresh with rotation: the old token is spent, the new one belongs to the same family."""

    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Credential | None:
        client_id = self.request.client.get_client_id()
        return self.server.credentials.spend(CredentialKind.REFRESH, refresh_token, client_id)

    def authenticate_user(self, refresh_token: Credential) -> str:
        self.request.grant_source = refresh_token
        return str(refresh_token.data["context"]["user"])

    def revoke_old_credential(self, refresh_token: Credential) -> None:
        """Spent already."""


class ClientCredentialsGrant(_Sandboxed, grants.ClientCredentialsGrant):  # type: ignore[misc]
    """A backend client without a user: `system/` scopes alone."""

    TOKEN_ENDPOINT_AUTH_METHODS = ("client_secret_basic", "private_key_jwt")

    def validate_token_request(self) -> None:
        super().validate_token_request()
        scope = self.request.client.get_allowed_scope(self.request.payload.scope)
        if not scope or not all(word.startswith("system/") for word in scope.split()):
            raise InvalidScopeError()


class Revocation(RevocationEndpoint):  # type: ignore[misc]
    """RFC 7009: revoking any token of an authorization ends the whole of it."""

    CLIENT_AUTH_METHODS = list(_Sandboxed.TOKEN_ENDPOINT_AUTH_METHODS)  # noqa: RUF012 - authlib's attribute
    server: SmartServer

    def query_token(self, token_string: str, token_type_hint: str | None) -> Credential | None:  # noqa: ARG002
        return self.server.find_token(token_string)

    def revoke_token(self, token: Credential, request: Any) -> None:  # noqa: ARG002
        self.server.credentials.revoke_family(token.family)


class Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    """RFC 7662, for the client a token was issued to."""

    CLIENT_AUTH_METHODS = list(_Sandboxed.TOKEN_ENDPOINT_AUTH_METHODS)  # noqa: RUF012 - authlib's attribute
    server: SmartServer

    def query_token(self, token_string: str, token_type_hint: str | None) -> Credential | None:  # noqa: ARG002
        return self.server.find_token(token_string)

    def check_permission(self, token: Credential, client: RegisteredClient, request: Any) -> bool:  # noqa: ARG002
        return token.check_client(client)

    def introspect_token(self, token: Credential) -> dict[str, Any]:
        context = token.data.get("context", {})
        return {
            "active": True,
            "client_id": token.client_id,
            "scope": token.get_scope(),
            "sub": context.get("user", token.client_id),
            "iss": self.server.config.issuer,
            "exp": int(token.expires),
            "iat": int(token.issued),
            **{key: context[key] for key in ("patient", "encounter") if context.get(key)},
        }


class SmartServer(AuthorizationServer):  # type: ignore[misc]
    """The server: grants, endpoints, and what a token answer carries beside the token."""

    def __init__(self, config: SandboxConfig, credentials: Credentials, key: SigningKey) -> None:
        super().__init__()
        self.config = config
        self.credentials = credentials
        self.key = key
        self.register_token_generator("default", self._make_token)
        self.register_client_auth_method("private_key_jwt", PrivateKeyJWT(config, credentials))
        self.register_grant(AuthorizationCodeGrant, [S256CodeChallenge(required=True)])
        self.register_grant(RefreshTokenGrant)
        self.register_grant(ClientCredentialsGrant)
        self.register_endpoint(Revocation)
        self.register_endpoint(Introspection)

    def query_client(self, client_id: str) -> RegisteredClient | None:
        client = self.config.client(client_id)
        return RegisteredClient(client) if client else None

    def find_token(self, secret: str) -> Credential | None:
        """An access or refresh token by its secret."""
        find = self.credentials.find
        return find(CredentialKind.ACCESS, secret) or find(CredentialKind.REFRESH, secret)

    def _make_token(self, client: RegisteredClient, scope: str, **_: Any) -> dict[str, Any]:
        # The secrets are made in save_token, where the credential they stand for is stored.
        granted = client.get_allowed_scope(scope)
        if granted is None:
            raise InvalidScopeError()
        return {"token_type": "Bearer", "expires_in": self.config.access_token_seconds, "scope": granted}

    def save_token(self, token: dict[str, Any], request: Any) -> None:
        """Issue the tokens, and complete the answer with launch context and id_token."""
        client: Client = request.client.client
        source: Credential | None = getattr(request, "grant_source", None)
        data = {"scope": token["scope"], "context": source.data["context"] if source else {}}
        family = source.family if source else ""
        issue = self.credentials.issue
        token["access_token"] = issue(
            CredentialKind.ACCESS, client, data, self.config.access_token_seconds, family
        )
        if source is None:
            return
        if source.kind is CredentialKind.REFRESH:
            # The next refresh may ask for all that was granted at first, however little this one asked for.
            data = source.data
        words = data["scope"].split()
        if {"online_access", "offline_access"} & set(words) and "refresh_token" in client.grant_types:
            seconds = _OFFLINE_SECONDS if "offline_access" in words else _ONLINE_SECONDS
            token["refresh_token"] = issue(CredentialKind.REFRESH, client, data, seconds, family)
        token.update(launch_answer(source.data["context"]))
        if "openid" in words:
            token["id_token"] = self._id_token(client, source, "fhirUser" in words)

    def _id_token(self, client: Client, source: Credential, with_user: bool) -> str:
        now = int(self.config.clock())
        user = source.data["context"]["user"]
        claims = {
            "iss": self.config.issuer,
            "sub": user.replace("/", "-").lower(),
            "aud": client.client_id,
            "iat": now,
            "exp": now + 300,
        }
        if source.kind is CredentialKind.CODE and source.data.get("nonce"):
            claims["nonce"] = source.data["nonce"]
        if with_user:
            claims["fhirUser"] = f"{self.config.fhir_base}/{user}"
        return self.key.sign(claims, with_kid=not self.config.quirks.id_token_without_kid)


def code_family(code: str) -> str:
    """The family a code starts; tokens made from it belong to it."""

    return hashlib.sha256(b"family " + code.encode()).hexdigest()[:32]


def granted_scope(scope: str, context: dict[str, Any]) -> str:
    """What is granted of the allowed scope once the context is known: no patient, no `patient/` scopes."""
    unwanted = []
    if not context.get("patient"):
        unwanted += ["patient/", "launch/patient"]
    if not context.get("encounter"):
        unwanted.append("launch/encounter")
    if "openid" not in scope.split():
        unwanted.append("fhirUser")
    return without(scope, unwanted)


def launch_answer(context: dict[str, Any]) -> dict[str, Any]:
    """The launch context parameters of a token answer."""
    names = ("patient", "encounter", "need_patient_banner", "smart_style_url", "tenant", "intent")
    return {name: context[name] for name in names if context.get(name) is not None}
