"""The authorization server, seen from outside: what it grants, and all that it refuses."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet

from launch.sandbox import Client, ClientType, ConfigurationError, SandboxConfig

VERIFIER = "v" * 43
CLIENTS = ("public-app", "secret-app", "key-app")


def sent_back(answer: requests.Response) -> dict[str, str]:
    """The parameters with which the browser goes back to the client."""
    assert answer.status_code == 302, answer.text
    assert answer.headers["Location"].startswith("http://127.0.0.1:9/callback?")
    return {name: found[0] for name, found in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


# --- discovery -------------------------------------------------------------------------------------------


def test_discovery_names_endpoints_that_answer(ehr):
    smart = requests.get(f"{ehr.base}/.well-known/smart-configuration", timeout=60).json()
    openid = requests.get(f"{smart['issuer']}/.well-known/openid-configuration", timeout=60).json()
    assert openid["issuer"] == smart["issuer"] != ehr.base
    assert smart["code_challenge_methods_supported"] == ["S256"]
    assert {"launch-ehr", "launch-standalone", "permission-v1", "permission-v2"} <= set(smart["capabilities"])
    [key] = requests.get(openid["jwks_uri"], timeout=60).json()["keys"]
    assert key["kid"]
    assert "d" not in key


# --- an EHR launch ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_an_ehr_launch_gives_each_client_type_a_token_with_its_context(ehr, client):
    answer = ehr.exchange(ehr.code(VERIFIER, client=client), VERIFIER, client)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    token = answer.json()
    assert token["patient"] == "ready-musculoskeletal"
    assert token["need_patient_banner"] is True
    assert token["tenant"] == "sandbox"
    assert token["smart_style_url"].startswith(ehr.running.base_url)
    assert token["intent"] == "remote-monitoring-charges"
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    assert "encounter" not in token


def test_a_launch_from_an_encounter_names_it(ehr):
    token = ehr.backend_token()
    bundle = ehr.fhir("GET", "Encounter?patient=ready-musculoskeletal", token).json()
    encounter = bundle["entry"][0]["resource"]["id"]
    launch = ehr.launch_token(encounter=encounter)
    assert ehr.launched(launch=launch)["encounter"] == encounter


def test_a_launch_inside_the_chart_needs_no_banner(ehr):
    form = {"patient": "ready-cognitive", "user": "Practitioner/syn-nurse", "mode": "frame"}
    page = requests.post(f"{ehr.running.base_url}/launch", data=form, timeout=60)
    assert page.status_code == 200
    launch = page.text.split("launch=")[1].split('"')[0]
    assert ehr.launched(launch=launch)["need_patient_banner"] is False


def test_the_authorization_request_may_be_posted(ehr):
    parameters = ehr.request(VERIFIER, launch=ehr.launch_token())
    back = sent_back(ehr.authorize(parameters, post=True))
    assert back["state"] == "a-state"
    assert ehr.exchange(back["code"], VERIFIER).status_code == 200


def test_the_id_token_names_user_audience_and_nonce(ehr):
    token = ehr.launched()
    keys = KeySet.import_key_set(requests.get(f"{ehr.issuer}/jwks", timeout=60).json())
    found = jwt.decode(token["id_token"], keys, algorithms=["RS256"])
    assert found.header["kid"] == keys.keys[0].kid
    assert found.claims["iss"] == ehr.issuer
    assert found.claims["aud"] == "public-app"
    assert found.claims["nonce"] == "a-nonce"
    assert found.claims["fhirUser"] == f"{ehr.base}/Practitioner/syn-physician"
    assert 0 < found.claims["exp"] - found.claims["iat"] <= 300


def test_without_openid_there_is_no_id_token(ehr):
    assert "id_token" not in ehr.launched(scope="launch patient/Patient.r")


# --- PKCE ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": None},
        {"code_challenge": ""},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": "too-short"},
    ],
)
def test_a_request_without_an_s256_challenge_is_refused_for_every_client_type(ehr, client, changes):
    launch = ehr.launch_token(client=client)
    back = sent_back(ehr.authorize(ehr.request(VERIFIER, client, launch=launch, **changes)))
    assert back["error"] == "invalid_request"
    assert back["state"] == "a-state"
    assert "code" not in back


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("verifier", [None, "w" * 43, "short"])
def test_a_wrong_or_missing_verifier_is_refused_for_every_client_type(ehr, client, verifier):
    code = ehr.code(VERIFIER, client=client)
    answer = ehr.exchange(code, verifier, client)
    assert answer.status_code == 400
    assert answer.json()["error"] in ("invalid_grant", "invalid_request")
    # And the code is burnt: the right verifier comes too late.
    assert ehr.exchange(code, VERIFIER, client).json()["error"] == "invalid_grant"


# --- what an authorization request must say ---------------------------------------------------------------


@pytest.mark.parametrize("aud", [None, "", "http://localhost:1/fhir/r4", "{base}/", "{base}?x"])
def test_an_audience_that_is_not_the_fhir_base_is_refused(ehr, aud):
    changed = aud and aud.replace("{base}", ehr.base)
    back = sent_back(ehr.authorize(ehr.request(VERIFIER, launch=ehr.launch_token(), aud=changed)))
    assert back["error"] == "invalid_request"


def test_a_request_without_state_is_refused(ehr):
    back = sent_back(ehr.authorize(ehr.request(VERIFIER, launch=ehr.launch_token(), state=None)))
    assert back["error"] == "invalid_request"


def test_another_response_type_is_refused(ehr):
    back = sent_back(ehr.authorize(ehr.request(VERIFIER, launch=ehr.launch_token(), response_type="token")))
    assert back["error"] == "unsupported_response_type"


def test_a_parameter_that_stands_twice_is_refused(ehr):
    parameters = [*ehr.request(VERIFIER, launch=ehr.launch_token()).items(), ("aud", "http://evil.example")]
    answer = requests.get(f"{ehr.issuer}/authorize", params=parameters, allow_redirects=False, timeout=60)
    assert sent_back(answer)["error"] == "invalid_request"


@pytest.mark.parametrize(
    "redirect",
    [
        None,
        "http://127.0.0.1:9/callback/",
        "http://127.0.0.1:9/callback?x=1",
        "http://127.0.0.1:9/CALLBACK",
        "https://evil.example/callback",
    ],
)
def test_a_redirect_uri_that_is_not_registered_byte_for_byte_leads_nowhere(ehr, redirect):
    answer = ehr.authorize(ehr.request(VERIFIER, launch=ehr.launch_token(), redirect_uri=redirect))
    assert answer.status_code == 400
    assert "Location" not in answer.headers


def test_an_unknown_client_leads_nowhere_and_its_name_is_escaped(ehr):
    answer = ehr.authorize(ehr.request(VERIFIER, "<script>", redirect_uri="http://<b>", launch="x"))
    assert answer.status_code == 400
    assert "<script>" not in answer.text
    assert "<b>" not in answer.text


# --- the launch token ------------------------------------------------------------------------------------


def test_a_launch_token_serves_once(ehr):
    launch = ehr.launch_token()
    sent_back(ehr.authorize(ehr.request(VERIFIER, launch=launch)))
    again = sent_back(ehr.authorize(ehr.request(VERIFIER, launch=launch)))
    assert again["error"] == "invalid_request"


def test_a_launch_token_of_another_app_is_refused(ehr):
    launch = ehr.launch_token(client="secret-app")
    assert sent_back(ehr.authorize(ehr.request(VERIFIER, launch=launch)))["error"] == "invalid_request"


def test_an_invented_launch_token_is_refused(ehr):
    assert sent_back(ehr.authorize(ehr.request(VERIFIER, launch="made-up")))["error"] == "invalid_request"


def test_a_launch_token_without_the_scope_launch_is_refused(ehr):
    parameters = ehr.request(VERIFIER, launch=ehr.launch_token(), scope="openid patient/*.rs")
    assert sent_back(ehr.authorize(parameters))["error"] == "invalid_request"


def test_launch_token_code_and_access_token_end_with_their_time(make_ehr):
    now = [1_790_000_000.0]
    ehr = make_ehr(clock=lambda: now[0])
    launch = ehr.launch_token()
    now[0] += 301
    assert sent_back(ehr.authorize(ehr.request(VERIFIER, launch=launch)))["error"] == "invalid_request"
    code = ehr.code(VERIFIER)
    now[0] += 61
    assert ehr.exchange(code, VERIFIER).json()["error"] == "invalid_grant"
    token = ehr.launched()["access_token"]
    assert ehr.fhir("GET", "Patient/ready-musculoskeletal", token).status_code == 200
    now[0] += 3601
    late = ehr.fhir("GET", "Patient/ready-musculoskeletal", token)
    assert late.status_code == 401
    assert 'error="invalid_token"' in late.headers["WWW-Authenticate"]


# --- codes -----------------------------------------------------------------------------------------------


def test_a_code_serves_once_and_its_second_use_ends_the_tokens_of_the_first(ehr):
    code = ehr.code(VERIFIER)
    token = ehr.exchange(code, VERIFIER).json()
    assert ehr.exchange(code, VERIFIER).json()["error"] == "invalid_grant"
    assert ehr.fhir("GET", "Patient/ready-musculoskeletal", token["access_token"]).status_code == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": token["refresh_token"]}
    assert ehr.token_request("public-app", refresh).json()["error"] == "invalid_grant"


def test_of_eight_exchanges_at_once_one_succeeds_at_most(ehr):
    code = ehr.code(VERIFIER)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ehr.exchange(code, VERIFIER).status_code, range(8)))
    assert answers.count(200) == 1


@pytest.mark.parametrize("redirect", [None, "http://127.0.0.1:9/other"])
def test_a_code_is_bound_to_its_redirect_uri(ehr, redirect):
    answer = ehr.exchange(ehr.code(VERIFIER), VERIFIER, redirect_uri=redirect)
    assert answer.status_code == 400


def test_a_code_is_bound_to_its_client(ehr):
    code = ehr.code(VERIFIER)
    assert ehr.exchange(code, VERIFIER, "secret-app").json()["error"] == "invalid_grant"
    assert ehr.exchange(code, VERIFIER).status_code == 200


def test_parameters_in_the_token_address_are_refused(ehr):
    form = {"grant_type": "authorization_code", "code": "x", "redirect_uri": "y", "code_verifier": VERIFIER}
    answer = requests.post(f"{ehr.issuer}/token?client_id=public-app", data=form, timeout=60)
    assert answer.status_code == 400


# --- client authentication -------------------------------------------------------------------------------


def test_a_confidential_client_without_its_secret_is_refused(ehr):
    code = ehr.code(VERIFIER, client="secret-app")
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://127.0.0.1:9/callback"}
    form |= {"code_verifier": VERIFIER}
    address = f"{ehr.issuer}/token"
    as_public = requests.post(address, data={**form, "client_id": "secret-app"}, timeout=60)
    wrong = requests.post(address, data=form, auth=("secret-app", "wrong"), timeout=60)
    in_body = requests.post(
        address,
        data={**form, "client_id": "secret-app", "client_secret": "a-url-safe-secret-of-a-test"},
        timeout=60,
    )
    for answer in (as_public, wrong, in_body):
        assert answer.status_code == 401
        assert answer.json()["error"] == "invalid_client"


@pytest.mark.parametrize("alg", ["RS384", "ES384"])
def test_a_client_with_a_key_signs_with_rs384_or_es384(ehr, rsa_key, ec_key, alg):
    key = rsa_key if alg == "RS384" else ec_key
    assertion = ehr.assertion("key-app", key, alg)
    answer = ehr.exchange(
        ehr.code(VERIFIER, client="key-app"), VERIFIER, "key-app", client_assertion=assertion
    )
    assert answer.status_code == 200, answer.text


def test_the_same_assertion_twice_is_refused(ehr):
    assertion = ehr.assertion("key-app")
    for expected in (200, 400):
        code = ehr.code(VERIFIER, client="key-app")
        answer = ehr.exchange(code, VERIFIER, "key-app", client_assertion=assertion)
        assert answer.status_code == expected, answer.text
    assert answer.json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 60 * 60},
        {"exp": -120},
        {"aud": "https://elsewhere.example/token"},
        {"iss": "public-app"},
        {"jti": None},
        {"jti": 7},
    ],
)
def test_an_assertion_with_wrong_claims_is_refused(ehr, claims):
    if "exp" in claims:
        claims = {"exp": int(ehr.running.config.clock()) + claims["exp"]}
    assertion = ehr.assertion("key-app", **claims)
    answer = ehr.exchange(
        ehr.code(VERIFIER, client="key-app"), VERIFIER, "key-app", client_assertion=assertion
    )
    assert answer.json()["error"] == "invalid_client"


def test_an_assertion_of_another_key_or_weaker_algorithm_is_refused(ehr, rsa_key):
    from joserfc.jwk import ECKey

    stranger = ECKey.generate_key("P-384", {"kid": "stranger"})
    for assertion in (
        ehr.assertion("key-app", stranger),
        ehr.assertion("key-app", rsa_key, "RS256"),
        "a.b.c",
    ):
        code = ehr.code(VERIFIER, client="key-app")
        answer = ehr.exchange(code, VERIFIER, "key-app", client_assertion=assertion)
        assert answer.json()["error"] == "invalid_client"


def test_a_backend_client_gets_system_scopes_and_nothing_about_a_patient(ehr):
    form = {"grant_type": "client_credentials", "scope": "system/ChargeItem.rs"}
    answer = ehr.token_request("auditor", form).json()
    assert answer["scope"] == "system/ChargeItem.rs"
    assert not {"patient", "refresh_token", "id_token"} & set(answer)


@pytest.mark.parametrize("scope", [None, "patient/*.rs", "openid"])
def test_a_backend_client_gets_no_other_scopes(ehr, scope):
    form = {"grant_type": "client_credentials", "scope": scope}
    assert ehr.token_request("auditor", form).json()["error"] == "invalid_scope"


def test_an_app_may_not_use_client_credentials(ehr):
    form = {"grant_type": "client_credentials", "scope": "patient/*.rs"}
    assert ehr.token_request("secret-app", form).json()["error"] == "unauthorized_client"


# --- refresh, revocation, introspection ------------------------------------------------------------------


def test_a_refresh_rotates_and_keeps_the_context(ehr):
    first = ehr.launched()
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = ehr.token_request("public-app", refresh).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["patient"] == first["patient"]
    assert ehr.fhir("GET", "Patient/ready-musculoskeletal", second["access_token"]).status_code == 200


def test_an_old_refresh_token_ends_the_whole_authorization(ehr):
    first = ehr.launched()
    refresh = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = ehr.token_request("public-app", refresh).json()
    assert ehr.token_request("public-app", refresh).json()["error"] == "invalid_grant"
    refresh["refresh_token"] = second["refresh_token"]
    assert ehr.token_request("public-app", refresh).json()["error"] == "invalid_grant"
    assert ehr.fhir("GET", "Patient/ready-musculoskeletal", second["access_token"]).status_code == 401


def test_a_refresh_may_ask_for_less_but_not_for_more(ehr):
    first = ehr.launched(scope="launch online_access patient/Patient.r patient/Observation.rs")
    less = {
        "grant_type": "refresh_token",
        "refresh_token": first["refresh_token"],
        "scope": "patient/Patient.r",
    }
    second = ehr.token_request("public-app", less).json()
    assert second["scope"] == "patient/Patient.r"
    more = {**less, "refresh_token": second["refresh_token"], "scope": "patient/ChargeItem.rs"}
    assert ehr.token_request("public-app", more).json()["error"] == "invalid_scope"


def test_without_online_or_offline_access_there_is_no_refresh_token(ehr):
    assert "refresh_token" not in ehr.launched(scope="launch patient/Patient.r")


def test_a_revoked_token_ends_the_authorization(ehr):
    token = ehr.launched()
    form = {"client_id": "public-app", "token": token["refresh_token"]}
    assert requests.post(f"{ehr.issuer}/revoke", data=form, timeout=60).status_code == 200
    assert ehr.fhir("GET", "Patient/ready-musculoskeletal", token["access_token"]).status_code == 401


def test_introspection_tells_the_client_about_its_own_tokens_only(ehr):
    token = ehr.launched()["access_token"]
    own = requests.post(
        f"{ehr.issuer}/introspect", data={"client_id": "public-app", "token": token}, timeout=60
    ).json()
    assert own["active"] is True
    assert own["patient"] == "ready-musculoskeletal"
    auth = ("secret-app", "a-url-safe-secret-of-a-test")
    other = requests.post(f"{ehr.issuer}/introspect", data={"token": token}, auth=auth, timeout=60).json()
    assert other == {"active": False}


# --- granted scopes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requested", "granted"),
    [
        ("launch patient/Patient.r", "launch patient/Patient.r"),
        ("launch patient/Patient.read", "launch patient/Patient.read"),
        ("launch patient/ChargeItem.cruds", "launch patient/ChargeItem.crus"),
        ("launch patient/ChargeItem.write", "launch patient/ChargeItem.cu"),
        ("launch patient/Observation.*", "launch patient/Observation.rs"),
        ("launch patient/Observation.sr patient/Patient.r", "launch patient/Patient.r"),
        ("launch patient/Medication.rs user/Device.r patient/Patient.r", "launch patient/Patient.r"),
        ("launch fhirUser patient/Patient.r nonsense", "launch patient/Patient.r"),
        ("launch patient/Observation.rs?category=vital-signs patient/Patient.r", "launch patient/Patient.r"),
    ],
)
def test_the_granted_scope_is_what_was_asked_and_is_registered(ehr, requested, granted):
    assert ehr.launched(scope=requested)["scope"] == granted


def test_a_wildcard_is_granted_as_the_registered_types(ehr):
    granted = ehr.launched(scope="launch patient/*.rs")["scope"].split()
    assert "patient/Observation.rs" in granted
    assert "patient/ChargeItem.rs" in granted
    assert not any("*" in word for word in granted)


def test_a_request_for_nothing_that_is_registered_is_refused(ehr):
    parameters = ehr.request(VERIFIER, launch=ehr.launch_token(), scope="system/*.rs")
    assert sent_back(ehr.authorize(parameters))["error"] == "invalid_scope"


# --- a standalone launch ---------------------------------------------------------------------------------


def pick(ehr, scope: str, **choice: str) -> requests.Response:
    page = ehr.authorize(ehr.request(VERIFIER, scope=scope))
    assert page.status_code == 200
    form = {**ehr.hidden_fields(page.text), "picker_user": "Practitioner/syn-therapist", **choice}
    return ehr.authorize(form, post=True)


def test_a_standalone_launch_shows_a_picker_and_opens_the_chosen_patient(ehr):
    answer = pick(ehr, "launch/patient openid fhirUser patient/Patient.r", picker_patient="ready-cognitive")
    token = ehr.exchange(sent_back(answer)["code"], VERIFIER).json()
    assert token["patient"] == "ready-cognitive"
    assert "launch/patient" in token["scope"].split()


def test_a_standalone_launch_without_launch_patient_has_no_patient(ehr):
    token = ehr.exchange(
        sent_back(pick(ehr, "openid patient/Patient.r user/Practitioner.r"))["code"], VERIFIER
    )
    assert "patient" not in token.json()
    assert token.json()["scope"] == "openid user/Practitioner.r"


def test_the_picker_s_form_serves_once_and_for_its_own_request(ehr):
    page = ehr.authorize(ehr.request(VERIFIER, scope="launch/patient patient/Patient.r"))
    form = {
        **ehr.hidden_fields(page.text),
        "picker_user": "Practitioner/syn-nurse",
        "picker_patient": "nothing",
    }
    changed = ehr.authorize({**form, "state": "another"}, post=True)
    assert sent_back(changed)["error"] == "invalid_request"
    again = ehr.authorize(form, post=True)
    assert sent_back(again)["error"] == "invalid_request"


def test_a_patient_nobody_knows_can_t_be_picked(ehr):
    answer = pick(ehr, "launch/patient patient/Patient.r", picker_patient="somebody")
    assert sent_back(answer)["error"] == "invalid_request"


# --- registration ----------------------------------------------------------------------------------------


def test_a_client_is_registered_from_json():
    client = Client.from_json(
        '{"client_id": "a", "type": "confidential-symmetric", "client_secret": "s", "redirect_uris": ["http://r"]}'
    )
    assert client.type is ClientType.SYMMETRIC
    assert client.redirect_uris == ("http://r",)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "{}",
        '{"client_id": "a", "colour": "red"}',
        '{"client_id": "a", "type": "secret"}',
        '{"client_id": "a", "type": "confidential-symmetric"}',
        '{"client_id": "a", "type": "confidential-asymmetric"}',
        '{"client_id": "a", "grant_types": ["client_credentials"]}',
    ],
)
def test_a_registration_that_makes_no_sense_is_refused(text):
    with pytest.raises(ConfigurationError):
        Client.from_json(text)


def test_two_clients_of_one_name_are_refused():
    with pytest.raises(ConfigurationError):
        SandboxConfig("http://localhost:1", as_of=date(2026, 4, 1), clients=(Client("a"), Client("a")))


def test_secrets_stand_neither_in_the_store_nor_in_a_text_of_the_configuration(ehr):
    token = ehr.launched()
    with ehr.sandbox.database.read() as connection:
        rows = str(connection.execute("SELECT * FROM credential").fetchall())
    for name in ("access_token", "refresh_token"):
        assert token[name] not in rows
    secret = secrets.token_urlsafe(8)
    assert secret not in repr(Client("a", ClientType.SYMMETRIC, client_secret=secret))
