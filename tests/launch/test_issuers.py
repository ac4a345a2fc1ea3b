"""Which EHRs are trusted: looked up by normal form, answered byte for byte, and every fault in one line."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from launch.authorization import LaunchRequest
from launch.errors import ConfigurationError, LaunchError, LaunchReason
from launch.issuers import ClientAuth, SigningAlgorithm
from launch.issuers_table import load_issuers
from launch.profiles import ChargeItemWrite, ScopeStyle, SearchMethod, profile_names

BASE = "https://ehr.example/api/FHIR/R4"
SECRETS = {"EHR_SECRET": "a-secret", "EHR_KEY": "-----BEGIN PRIVATE KEY-----"}


def issuers_of(loopback: bool = False, **settings: Any) -> Any:
    table = {"fhir_base": BASE, "client_id": "app", **settings}
    return load_issuers({"hospital": table}, SECRETS, loopback=loopback)


def fault(**settings: Any) -> str:
    """The one line an administrator reads."""
    with pytest.raises(ConfigurationError) as caught:
        issuers_of(**settings)
    said = str(caught.value)
    assert "\n" not in said
    assert said == f"{caught.value.where}: {caught.value.sentence}"
    return said


# Matching


@pytest.mark.parametrize(
    "iss",
    [
        BASE,
        BASE + "/",
        "https://EHR.example/api/FHIR/R4",
        "HTTPS://ehr.example/api/FHIR/R4",
        "https://ehr.example:443/api/FHIR/R4/",
    ],
)
def test_an_issuer_is_found_by_the_normal_form_of_its_base(iss):
    issuers = issuers_of(fhir_base=BASE + "/")
    assert issuers.match(iss).id == "hospital"
    assert issuers.match(iss).fhir_base == BASE


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "iss",
    [
        "",
        "https://evil.example/api/FHIR/R4",
        "https://ehr.example/api/fhir/r4",
        "https://ehr.example/api/FHIR/R4/more",
        "https://ehr.example/api/FHIR",
        "https://ehr.example/api/FHIR/R4x",
        "https://ehr.example/api/FHIR/R4?x=1",
        "https://ehr.example/api/FHIR/R4#x",
        "https://ehr.example/api/FHIR/R4//",
        "https://ehr.example/api/FHIR/./R4",
        "https://ehr.example/api/FHIR/x/../R4",
        "https://ehr.example/api/FHIR/x/%2e%2e/R4",
        "https://ehr.example/api/FHIR/%52%34",
        "https://ehr.example.:443/api/FHIR/R4",
        "https://ehr.example./api/FHIR/R4",
        "https://user@ehr.example/api/FHIR/R4",
        "https://ehr.example@evil.example/api/FHIR/R4",
        "https://evil.example#@ehr.example/api/FHIR/R4",
        "https://evil.example\\@ehr.example/api/FHIR/R4",
        "https://ehr.example:444/api/FHIR/R4",
        "http://ehr.example/api/FHIR/R4",
        "http://ehr.example:443/api/FHIR/R4",
        "//ehr.example/api/FHIR/R4",
        " https://ehr.example/api/FHIR/R4",
        "https://ehr.example/api/FHIR/R4\n",
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "https://ehr.example.evil.example/api/FHIR/R4",
        "https://ehrXexample/api/FHIR/R4",
    ],
)
def test_an_issuer_that_is_not_listed_is_unknown_however_close_it_looks(iss):
    with pytest.raises(LaunchError) as caught:
        issuers_of().match(iss)
    assert caught.value.reason is LaunchReason.UNKNOWN_ISSUER
    assert "evil" not in f"{caught.value!r}{caught.value}"


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "iss", ["{other}/fhir", "http://169.254.169.254/", "{origin}/fhir/..", "{origin}/fhirx"]
)
def test_an_unknown_issuer_makes_no_request(door, ehr, other_host, iss):
    with pytest.raises(LaunchError) as caught:
        door.begin(iss.format(other=other_host.origin, origin=ehr.origin))
    assert caught.value.reason is LaunchReason.UNKNOWN_ISSUER
    assert ehr.requests == other_host.requests == []
    assert door.store.pending == {}


@pytest.mark.smart(41, 42)
@pytest.mark.parametrize("written", ["{base}", "{base}/", "HTTP://127.0.0.1:{port}/fhir/"])
def test_aud_is_the_launchs_iss_byte_for_byte(door, ehr, written):
    iss = written.format(base=ehr.base, port=ehr.port)
    assert door.begin(iss)["aud"] == iss


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "query",
    [
        [("iss", BASE), ("iss", BASE)],
        [("iss", BASE), ("launch", "x"), ("iss", "https://evil.example/fhir")],
        [("iss", ""), ("iss", BASE)],
        [("iss", BASE), ("launch", "x"), ("launch", "y")],
    ],
)
def test_a_launch_that_names_an_ehr_or_a_chart_twice_is_refused(query):
    with pytest.raises(LaunchError) as caught:
        LaunchRequest.parse(query)
    assert caught.value.reason is LaunchReason.BAD_LAUNCH_REQUEST


@pytest.mark.parametrize("query", [[], [("launch", "x")], [("iss", "")], [("ISS", BASE)]])
def test_a_launch_without_an_ehr_is_refused(query):
    with pytest.raises(LaunchError) as caught:
        LaunchRequest.parse(query)
    assert caught.value.reason is LaunchReason.BAD_LAUNCH_REQUEST


@pytest.mark.smart(161)
def test_a_launch_is_read_as_it_is_and_what_else_stands_there_is_ignored():
    asked = LaunchRequest.parse([("iss", BASE), ("launch", "a b+/=%"), ("next", "https://evil.example")])
    assert (asked.iss, asked.launch) == (BASE, "a b+/=%")
    assert "a b" not in repr(asked)


# A base of many practices


def test_one_star_stands_for_one_segment_of_the_path():
    issuers = issuers_of(fhir_base="https://ehr.example/*/fhir")
    assert (
        issuers.match("https://ehr.example/practice-7/fhir/").fhir_base
        == "https://ehr.example/practice-7/fhir"
    )
    assert issuers.get("hospital").fhir_base == "https://ehr.example/*/fhir"


@pytest.mark.threat("5.1")
@pytest.mark.parametrize("segment", ["", "a/b", "..", ".", "%2e%2e", "a%2fb", "a;b", "a@b", "a:b"])
def test_a_star_is_neither_none_nor_two_segments_nor_anything_odd(segment):
    with pytest.raises(LaunchError):
        issuers_of(fhir_base="https://ehr.example/*/fhir").match(f"https://ehr.example/{segment}/fhir")


CLOUD = {"fhir_base": "https://ehr.example/*/fhir", "client_id": "shared", "profile": "generic"}
NORTH = {"fhir_base": "https://ehr.example/north/fhir/", "client_id": "norths-own", "profile": "epic"}


def cloud_of(*names: str) -> Any:
    """The shared entry, and the practice's own one, in the order of a file."""
    tables = {"cloud": CLOUD, "north": NORTH}
    return load_issuers({name: tables[name] for name in names})


@pytest.mark.threat("5.2")
@pytest.mark.parametrize("order", [("cloud", "north"), ("north", "cloud")])
@pytest.mark.parametrize("iss", ["https://ehr.example/north/fhir", "https://EHR.example:443/north/fhir/"])
def test_a_practice_registered_for_itself_comes_before_the_star_in_whatever_order(order, iss):
    found = cloud_of(*order).match(iss)
    assert (found.id, found.client_id, found.profile.id) == ("north", "norths-own", "epic")
    assert found.redirect_path == "/callback/north"
    assert found.fhir_base == "https://ehr.example/north/fhir"


@pytest.mark.parametrize("order", [("cloud", "north"), ("north", "cloud")])
def test_every_other_practice_is_asked_for_with_the_shared_client(order):
    found = cloud_of(*order).match("https://ehr.example/south/fhir")
    assert (found.client_id, found.profile.id) == ("shared", "generic")
    assert found.redirect_path == "/callback/cloud"


def test_a_session_ends_when_its_practice_gets_an_entry_of_its_own():
    iss = "https://ehr.example/north/fhir"
    shared = cloud_of("cloud").match(iss)
    assert cloud_of("cloud").bound(shared.id, iss).client_id == "shared"
    with pytest.raises(LaunchError, match="registered under another name"):
        cloud_of("cloud", "north").bound(shared.id, iss)


@pytest.mark.threat("5.2", "5.7")
def test_the_practices_of_a_star_have_records_of_their_own():
    """One practice's patient 7 is not another's: what is kept is kept under the id."""
    issuers = cloud_of("cloud", "north")
    south, west = (issuers.match(f"https://ehr.example/{name}/fhir") for name in ("south", "west"))
    assert len({south.id, west.id, "cloud"}) == 3
    assert {south.registration, west.registration} == {"cloud"}
    assert issuers.match("https://EHR.example:443/south/fhir/").id == south.id
    assert issuers.match("https://ehr.example/north/fhir").id == "north"
    assert issuers.bound(south.id, "https://ehr.example/south/fhir").fhir_base.endswith("/south/fhir")
    with pytest.raises(LaunchError):
        issuers.bound(south.id, "https://ehr.example/west/fhir")


@pytest.mark.smart(46)
@pytest.mark.parametrize("scope", ["patient/*.*", "patient/*.rs", "user/Observation.*", "system/*.cruds"])
def test_a_wildcard_is_never_asked_for_not_even_by_configuration(scope):
    assert "wildcard" in fault(extra_scopes=[scope])


def test_a_star_in_an_iss_names_nobody():
    with pytest.raises(LaunchError):
        cloud_of("cloud", "north").match("https://ehr.example/*/fhir")


@pytest.mark.threat("5.2")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://ehr.example/*/fhir", "https://ehr.example/practice/*"),
        ("https://ehr.example/practice/*", "https://ehr.example/*/fhir"),
        ("https://ehr.example/*", "https://EHR.example:443/*/"),
    ],
)
def test_two_stars_that_could_mean_one_practice_are_refused(one, other):
    with pytest.raises(ConfigurationError, match=r"could both mean one base|is used twice"):
        load_issuers({"a": {"fhir_base": one, "client_id": "x"}, "b": {"fhir_base": other, "client_id": "y"}})


@pytest.mark.parametrize(
    "other",
    [
        "https://ehr.example/*/dstu2",
        "https://ehr.example/*",
        "https://ehr.example/a/*/fhir",
        "https://other.example/*/fhir",
        "https://ehr.example:8443/*/fhir",
        "https://ehr.example/a;b/*",
    ],
)
def test_stars_that_never_mean_one_practice_stand_side_by_side(other):
    tables = {"a": CLOUD, "b": {"fhir_base": other, "client_id": "y"}}
    assert len(load_issuers(tables)) == 2


def test_a_session_of_an_ehr_that_was_taken_off_the_list_has_no_issuer_any_more():
    issuers = issuers_of()
    assert issuers.bound("hospital", BASE).id == "hospital"
    with pytest.raises(LaunchError, match="registered under another name"):
        issuers.bound("clinic", BASE)
    with pytest.raises(LaunchError):
        issuers.bound("hospital", "https://gone.example/fhir")


def test_all_issuers_can_be_listed_and_found_by_name():
    issuers = issuers_of()
    assert len(issuers) == 1
    assert [issuer.id for issuer in issuers] == ["hospital"]
    assert issuers.get("clinic") is None


# Configuration


def test_the_defaults_of_an_entry_are_the_careful_ones():
    issuer = issuers_of().get("hospital")
    assert issuer.client_auth is ClientAuth.PUBLIC
    assert issuer.signing_algorithm is SigningAlgorithm.ES384
    assert issuer.scope_style is ScopeStyle.AUTO
    assert (issuer.allow_private, issuer.allow_loopback) == (False, False)
    assert issuer.oauth_hosts == issuer.frame_ancestors == ()
    assert issuer.origins == {"https://ehr.example"}
    assert (issuer.max_parallel, issuer.requests_per_minute) == (4, 240)


@pytest.mark.smart(20, 21, 34)
@pytest.mark.threat("5.2")
def test_every_ehr_has_a_callback_address_of_its_own():
    issuers = load_issuers({name: {"fhir_base": f"{BASE}/{name}", "client_id": "app"} for name in ("a", "b")})
    assert [issuer.redirect_path for issuer in issuers] == ["/callback/a", "/callback/b"]
    assert issuers_of(redirect_path="/cb").get("hospital").redirect_path == "/cb"


def test_the_profile_says_how_hard_to_ask_and_the_entry_overrides_it():
    assert issuers_of(profile="smart-health-it").get("hospital").max_parallel == 2
    assert issuers_of(profile="smart-health-it", max_parallel=1).get("hospital").max_parallel == 1
    assert issuers_of(profile="medplum").get("hospital").scope_style is ScopeStyle.V2
    assert issuers_of(profile="medplum", scope_style="v1").get("hospital").scope_style is ScopeStyle.V1


def test_searches_are_forms_where_the_entry_says_so_whatever_the_profile():
    assert issuers_of().get("hospital").profile.search_method is SearchMethod.GET
    assert issuers_of(search_method="post").get("hospital").profile.search_method is SearchMethod.POST
    assert "is not one of get, post" in fault(search_method="put")


def test_one_entry_may_differ_from_its_profile_in_any_search_or_write():
    found = issuers_of(profile="epic", search={"page_size": 50}, write={"charge_item": "no"}).get("hospital")
    assert (found.profile.page_size, found.profile.charge_item) == (50, ChargeItemWrite.NO)
    assert found.profile.observation_needs_category
    assert fault(search={"pages": 1}) == "issuers.hospital.search: unknown key pages"


def test_an_integrator_brings_a_profile_of_their_own():
    size = {"value": 50, "source": "a letter", "checked": date(2026, 12, 1)}
    entry = {"fhir_base": BASE, "client_id": "app", "profile": "acme"}
    profiles = {"acme": {"based_on": "epic", "title": "Acme", "search": {"page_size": size}}}
    found = load_issuers({"hospital": entry}, profiles=profiles).get("hospital").profile
    assert (found.id, found.title, found.page_size) == ("acme", "Acme", 50)
    assert found.observation_needs_category
    for wrong, said in (
        ({"acme": {"based_on": "acme"}}, "profiles.acme.based_on: is not one of"),
        ({"epic": {}}, "profiles.epic: is the name of a shipped profile"),
        ({"acme": {"search": {"page_size": 50}}}, "profile acme.search.page_size: is not {value"),
        ({"acme": 7}, "profiles.acme: is not a table"),
        ({}, "issuers.hospital.profile: is not one of"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            load_issuers({"hospital": entry}, profiles=wrong)
        assert said in str(caught.value)


def test_other_names_of_the_base_are_kept_in_normal_form_and_no_request_goes_there():
    found = issuers_of(fhir_base_aliases=["HTTP://Inside.example:80/R4/"]).get("hospital")
    assert found.fhir_base_aliases == ("http://inside.example/R4",)
    assert not {origin for origin in found.origins if "inside" in origin}
    assert "holds" in fault(fhir_base_aliases=["inside.example"])
    assert "may hold no *" in fault(fhir_base_aliases=["https://inside.example/*/R4"])
    many = fault(fhir_base="https://ehr.example/*/fhir", fhir_base_aliases=["https://inside.example/R4"])
    assert "needs one FHIR base" in many


@pytest.mark.smart(10, 23, 295)
def test_secrets_stand_outside_the_configuration_and_in_no_repr():
    issuer = issuers_of(client_auth="secret-basic", client_secret="EHR_SECRET").get("hospital")
    assert issuer.client_secret == "a-secret"
    assert "a-secret" not in repr(issuer)
    keyed = issuers_of(client_auth="private-key-jwt", signing_key="EHR_KEY", signing_key_id="1").get(
        "hospital"
    )
    assert keyed.signing_key == SECRETS["EHR_KEY"]
    assert "BEGIN" not in repr(keyed)


@pytest.mark.smart(10, 295)
@pytest.mark.parametrize("key", ["client_secret", "signing_key"])
def test_a_secret_written_into_the_configuration_by_mistake_is_not_repeated(key):
    assert fault(**{key: "the-secret-itself"}) == f"issuers.hospital.{key}: names a secret that is not there"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"fhir_base": ""}, "issuers.hospital.fhir_base: is missing or not text"),
        ({"fhir_base": 7}, "issuers.hospital.fhir_base: is missing or not text"),
        ({"fhir_base": "ehr.example"}, "issuers.hospital.fhir_base: holds neither http nor https"),
        ({"fhir_base": "https://u@ehr.example"}, "issuers.hospital.fhir_base: holds user info"),
        ({"fhir_base": BASE + "?x=1"}, "issuers.hospital.fhir_base: holds a query"),
        ({"fhir_base": "http://ehr.example/fhir"}, "issuers.hospital.fhir_base: must use https"),
        (
            {"fhir_base": "https://ehr.example/*/*"},
            "fhir_base: may hold one *, which is a whole path segment",
        ),
        (
            {"fhir_base": "https://ehr.example/pra*"},
            "fhir_base: may hold one *, which is a whole path segment",
        ),
        ({"client_id": ""}, "issuers.hospital.client_id: is missing or not text"),
        ({"client_id": None}, "issuers.hospital.client_id: is missing or not text"),
        ({"clientid": "x"}, "issuers.hospital: unknown key clientid"),
        ({"verify": False}, "issuers.hospital: unknown key verify"),
        ({"allow_loopback": True}, "issuers.hospital: unknown key allow_loopback"),
        (
            {"profile": "cerner"},
            f"issuers.hospital.profile: is not one of {', '.join(profile_names())}",
        ),
        ({"client_auth": "none"}, "issuers.hospital.client_auth: is not one of public, secret-basic,"),
        ({"signing_algorithm": "HS256"}, "issuers.hospital.signing_algorithm: is not one of RS384, ES384"),
        ({"scope_style": "v3"}, "issuers.hospital.scope_style: is not one of auto, v1, v2"),
        ({"client_auth": "secret-basic"}, "issuers.hospital: secret-basic needs client_secret"),
        ({"client_auth": "secret-post"}, "issuers.hospital: secret-post needs client_secret"),
        ({"client_auth": "private-key-jwt"}, "issuers.hospital: private-key-jwt needs signing_key and"),
        (
            {"client_auth": "private-key-jwt", "signing_key": "EHR_KEY"},
            "issuers.hospital: private-key-jwt needs signing_key and signing_key_id",
        ),
        ({"redirect_path": "callback"}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "/callback?x=1"}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "/callback/*"}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "/callback/../x"}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "/callback/."}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "//evil.example"}, "issuers.hospital: redirect_path is a plain path"),
        ({"redirect_path": "/"}, "issuers.hospital: redirect_path is a plain path"),
        ({"oauth_hosts": "https://login.example"}, "issuers.hospital.oauth_hosts: is not a list of texts"),
        ({"oauth_hosts": [1]}, "issuers.hospital.oauth_hosts: is not a list of texts"),
        ({"oauth_hosts": ["https://login.example/x"]}, "is more than an origin"),
        ({"oauth_hosts": ["https://login.example?x"]}, "is more than an origin"),
        ({"oauth_hosts": ["http://login.example"]}, "must use https"),
        ({"oauth_hosts": ["login.example"]}, "holds neither http nor https"),
        ({"frame_ancestors": ["*"]}, "holds neither http nor https"),
        ({"frame_ancestors": ["https://*.example"]}, "holds a host name of unusual form"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "issuers.hospital: ca_bundle /nowhere/ca.pem is not a file"),
        ({"allow_private": "yes"}, "issuers.hospital.allow_private: is neither true nor false"),
        ({"max_parallel": 0}, "issuers.hospital.max_parallel: is not a number above 0"),
        ({"max_parallel": True}, "issuers.hospital.max_parallel: is not a number above 0"),
        ({"requests_per_minute": "9"}, "issuers.hospital.requests_per_minute: is not a number above 0"),
        ({"extra_scopes": "system/*.rs"}, "issuers.hospital.extra_scopes: is not a list of texts"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_fault_in_the_configuration_is_one_clear_line(settings, said):
    assert said in fault(**settings)


@pytest.mark.parametrize("name", ["Hospital", "", "-a", "a-", "a b", "a/b", "a" * 65, "ü"])
def test_an_issuers_name_is_one_that_can_stand_in_an_address(name):
    with pytest.raises(ConfigurationError, match="lower-case letters"):
        load_issuers({name: {"fhir_base": BASE, "client_id": "app"}})


@pytest.mark.smart(157, 158)
def test_a_scope_for_launch_context_names_one_role_and_two_are_asked_for_apart():
    apart = ["launch/list?role=at-home", "launch/list?role=in-hospital"]
    assert issuers_of(extra_scopes=apart).get("hospital").extra_scopes == tuple(apart)
    said = fault(extra_scopes=["launch/list?role=at-home&role=in-hospital"])
    assert said.startswith("issuers.hospital.extra_scopes: launch/list?role=at-home&role=in-hospital names")


def test_an_entry_that_is_no_table_is_one_clear_line():
    with pytest.raises(ConfigurationError, match=r"^issuers\.hospital: is not a table$"):
        load_issuers({"hospital": "https://ehr.example"})


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"fhir_base": BASE + "/"}, f"fhir_base {BASE} is used twice"),
        (
            {"fhir_base": "https://two.example", "redirect_path": "/callback/a"},
            "redirect_path /callback/a is used",
        ),
    ],
)
@pytest.mark.threat("5.2")
def test_two_ehrs_share_neither_base_nor_callback(second, what):
    with pytest.raises(ConfigurationError, match=what):
        load_issuers({"a": {"fhir_base": BASE, "client_id": "x"}, "b": {"client_id": "y", **second}})


@pytest.mark.smart(1)
def test_loopback_is_set_by_code_and_then_for_every_entry():
    issuer = issuers_of(loopback=True, fhir_base="http://127.0.0.1:9/fhir").get("hospital")
    assert issuer.allow_loopback
    assert issuer.addresses.permits("127.0.0.1")
    assert not issuers_of(allow_private=True).get("hospital").addresses.permits("127.0.0.1")
