"""What this server says of itself: CapabilityStatement, SMART configuration, OpenID configuration."""

from __future__ import annotations

from typing import Any

from launch.sandbox.config import SandboxConfig
from launch.sandbox.oauth import ASSERTION_ALGORITHMS
from launch.sandbox.scopes import PLAIN_SCOPES
from launch.sandbox.search_parameters import PARAMETERS

_CAPABILITIES = (
    "launch-ehr launch-standalone authorize-post client-public client-confidential-symmetric"
    " client-confidential-asymmetric sso-openid-connect context-banner context-style context-ehr-patient"
    " context-ehr-encounter context-standalone-patient permission-offline permission-online"
    " permission-patient permission-user permission-v1 permission-v2"
)


def capability_statement(config: SandboxConfig) -> dict[str, Any]:
    """The CapabilityStatement; quirks change it, so that it stays true."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": config.as_of.isoformat(),
        "kind": "instance",
        "software": {"name": "Sandbox EHR (synthetic patients)"},
        "implementation": {"description": "Synthetic patients only", "url": config.fhir_base},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {
                    "service": [
                        {
                            "coding": [
                                {
                                    "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                                    "code": "SMART-on-FHIR",
                                }
                            ]
                        }
                    ],
                    "extension": [
                        {
                            "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                            "extension": [
                                {"url": name, "valueUri": f"{config.issuer}/{name}"}
                                for name in ("authorize", "token", "revoke", "introspect")
                            ],
                        }
                    ],
                },
                "resource": [_resource(config, type_) for type_ in PARAMETERS],
                "operation": []
                if config.quirks.no_export
                else [
                    {
                        "name": "export",
                        "definition": "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
                    }
                ],
                "interaction": [] if config.quirks.no_batch else [{"code": "batch"}],
            }
        ],
    }


def _resource(config: SandboxConfig, type_: str) -> dict[str, Any]:
    quirks = config.quirks
    interactions = ["read", "search-type", "create", "update"]
    if type_ == "ChargeItem" and quirks.no_charge_item_search:
        interactions.remove("search-type")
    if type_ == "ChargeItem" and (quirks.no_charge_item_create or quirks.own_charge_operation):
        interactions.remove("create")
    found: dict[str, Any] = {
        "type": type_,
        "interaction": [{"code": code} for code in interactions],
        "versioning": "versioned",
        "readHistory": False,
        "updateCreate": quirks.update_create,
        "conditionalCreate": "create" in interactions and not quirks.no_conditional_create,
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
    }
    if type_ == "ChargeItem" and quirks.own_charge_operation:
        found["operation"] = [{"name": "create", "definition": "urn:synthetic:operation:create"}]
    if "search-type" in interactions:
        found["searchParam"] = [
            {"name": "_id", "type": "token"},
            *([] if quirks.no_last_updated else [{"name": "_lastUpdated", "type": "date"}]),
            *(
                {"name": name, "type": str(parameter.kind)}
                for name, parameter in sorted(PARAMETERS[type_].items())
            ),
        ]
    return found


def smart_configuration(config: SandboxConfig) -> dict[str, Any]:
    """`/.well-known/smart-configuration`."""
    return {
        "issuer": config.issuer,
        "jwks_uri": f"{config.issuer}/jwks",
        "authorization_endpoint": f"{config.issuer}/authorize",
        "token_endpoint": f"{config.issuer}/token",
        "revocation_endpoint": f"{config.issuer}/revoke",
        "introspection_endpoint": f"{config.issuer}/introspect",
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ASSERTION_ALGORITHMS,
        "scopes_supported": [
            *PLAIN_SCOPES,
            *(f"{level}/{type_}.cruds" for level in ("patient", "user", "system") for type_ in PARAMETERS),
        ],
        "capabilities": _CAPABILITIES.split(),
    }


def openid_configuration(config: SandboxConfig) -> dict[str, Any]:
    """`/.well-known/openid-configuration` of the issuer."""
    smart = smart_configuration(config)
    return {
        **{name: value for name, value in smart.items() if name != "capabilities"},
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": ["iss", "sub", "aud", "exp", "iat", "nonce", "fhirUser"],
    }
