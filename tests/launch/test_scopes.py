"""What is asked for and what was given: the grammar, both versions of it, and the difference."""

from __future__ import annotations

import pytest

from launch.ports import LaunchKind
from launch.scopes import (
    CORE_FEATURES,
    FEATURE_SCOPES,
    WITHOUT_PATIENT,
    Feature,
    Interaction,
    Level,
    ResourceScope,
    Scopes,
    difference,
    has_feature,
    parse_scope,
    request_scope,
)

C, R, U, D, S = Interaction


@pytest.mark.smart(120, 121, 122, 124, 125, 135)
@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("c", {C}),
        ("r", {R}),
        ("u", {U}),
        ("d", {D}),
        ("s", {S}),
        ("rs", {R, S}),
        ("cud", {C, U, D}),
        ("cruds", {C, R, U, D, S}),
    ],
)
def test_the_letters_are_create_read_update_delete_search(text, letters):
    assert parse_scope(f"patient/Observation.{text}") == ResourceScope(
        Level.PATIENT, "Observation", frozenset(letters)
    )


@pytest.mark.parametrize(
    ("v1", "v2"), [("read", "rs"), ("write", "cud"), ("*", "cruds")], ids=["read", "write", "star"]
)
def test_version_1_is_read_as_version_2(v1, v2):
    assert parse_scope(f"user/Encounter.{v1}") == parse_scope(f"user/Encounter.{v2}")


@pytest.mark.smart(137, 141, 143)
@pytest.mark.parametrize("level", Level)
def test_the_three_levels_are_told_apart(level):
    scopes = Scopes.parse(f"{level.value}/Observation.rs")
    assert [other for other in Level if scopes.allows(other, "Observation", R)] == [level]


@pytest.mark.smart(135)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "openid",
        "launch",
        "launch/patient",
        "patient/",
        "patient/Observation",
        "patient/Observation.",
        "patient/Observation.sr",
        "patient/Observation.rr",
        "patient/Observation.x",
        "patient/Observation.readwrite",
        "patient/Observation.rread",
        "patient/Observation.READ",
        "patient/observation.rs",
        "patient/Obs ervation.rs",
        "Patient/Observation.rs",
        "practitioner/Observation.rs",
        "/Observation.rs",
        "patient/Observation.rs?",
        "patient/Observation.rs?code",
        "patient/Observation.rs?=x",
        "patient/Observation.rs?code=",
        "patient/Observation.rs?code=a&",
        "patient/Observation.rs?code=a&&x=b",
        "patient/Observation.read?code=a",
        "patient/Observation.*?code=a",
        "patient/**.rs",
        "xpatient/Observation.rs",
    ],
)
def test_what_is_not_the_grammar_is_no_scope_and_grants_nothing(text):
    assert parse_scope(text) is None
    scopes = Scopes.parse(text)
    assert not any(
        scopes.allows(level, type_, letter)
        for level in Level
        for type_ in ("Observation", "observation")
        for letter in Interaction
    )


@pytest.mark.smart(146, 147)
def test_a_wildcard_that_was_granted_covers_every_type():
    scopes = Scopes.parse("patient/*.rs")
    assert scopes.allows(Level.PATIENT, "Observation", R)
    assert scopes.allows(Level.PATIENT, "ChargeItem", S)
    assert not scopes.allows(Level.PATIENT, "ChargeItem", C)
    assert not scopes.allows(Level.USER, "Observation", R)
    assert Scopes.parse("patient/*.*").allows(Level.PATIENT, "ChargeItem", C)


@pytest.mark.smart(131, 147)
def test_split_grants_add_up():
    scopes = Scopes.parse("patient/ChargeItem.rs patient/ChargeItem.cud")
    assert all(scopes.allows(Level.PATIENT, "ChargeItem", letter) for letter in Interaction)


def test_reading_does_not_follow_from_writing():
    scopes = Scopes.parse("patient/ChargeItem.write patient/Observation.cud")
    assert not scopes.can("ChargeItem", R)
    assert not scopes.can("Observation", S)


def test_a_session_may_what_the_patients_or_the_users_level_allows():
    assert Scopes.parse("user/ChargeItem.c").can("ChargeItem", C)
    assert Scopes.parse("patient/ChargeItem.c").can("ChargeItem", C)
    assert not Scopes.parse("system/ChargeItem.c").can("ChargeItem", C)


@pytest.mark.smart(132)
def test_a_restricted_grant_says_to_what_it_is_restricted():
    scopes = Scopes.parse(
        "patient/Observation.rs?category=a|vital-signs&status=final patient/Observation.r?code=x"
    )
    assert scopes.allows(Level.PATIENT, "Observation", S)
    assert scopes.restrictions(Level.PATIENT, "Observation", S) == ("category=a|vital-signs&status=final",)
    assert len(scopes.restrictions(Level.PATIENT, "Observation", R)) == 2
    assert scopes.restrictions(Level.PATIENT, "Device", R) == ()


def test_an_unrestricted_grant_beside_it_lifts_the_restriction():
    scopes = Scopes.parse("patient/Observation.rs?category=survey patient/*.rs")
    assert scopes.restrictions(Level.PATIENT, "Observation", R) == ()


def test_unknown_words_are_kept_and_grant_nothing():
    scopes = Scopes.parse("  launch openid\n\tfhirUser launch urn:x:y patient/Observation.rs ")
    assert scopes.text == "launch openid fhirUser urn:x:y patient/Observation.rs"
    assert scopes.has("openid")
    assert not scopes.has("patient/Observation.rs")
    assert not scopes.has("offline_access")
    assert Scopes.parse("").resources == ()


# Asking


@pytest.mark.smart(131, 135, 137, 148)
def test_what_is_asked_for_is_merged_and_in_the_order_of_the_grammar():
    asked = request_scope(CORE_FEATURES, kind=LaunchKind.EHR, v2=True)
    assert asked == (
        "launch openid fhirUser online_access patient/Patient.r patient/Observation.rs patient/Device.rs "
        "patient/Encounter.rs patient/ChargeItem.crus"
    )


def test_what_is_asked_for_in_version_1_is_read_and_write():
    asked = request_scope(CORE_FEATURES, kind=LaunchKind.EHR, v2=False)
    assert asked == (
        "launch openid fhirUser online_access patient/Patient.read patient/Observation.read "
        "patient/Device.read patient/Encounter.read patient/ChargeItem.read patient/ChargeItem.write"
    )


@pytest.mark.smart(150, 151, 152, 155, 166)
def test_a_standalone_launch_asks_for_a_patient_by_the_lower_case_name():
    asked = request_scope((), kind=LaunchKind.STANDALONE, v2=True)
    assert asked == "launch/patient online_access"


@pytest.mark.threat("5.16")
@pytest.mark.parametrize(("kind", "launch"), [(LaunchKind.EHR, "launch "), (LaunchKind.STANDALONE, "")])
def test_without_a_patient_nothing_at_a_patients_level_is_asked_for_whatever_a_site_adds(kind, launch):
    extra = ("patient/CarePlan.rs", "launch/encounter", "user/Organization.rs")
    asked = request_scope(WITHOUT_PATIENT, kind=kind, v2=True, extra=extra, without_patient=True)
    assert asked == (
        f"{launch}openid fhirUser online_access user/Patient.rs user/Practitioner.rs "
        "user/PractitionerRole.rs user/Organization.rs"
    )


@pytest.mark.smart(153, 156, 158, 162, 216)
def test_a_site_may_ask_for_more_and_is_taken_at_its_word():
    extra = (
        "launch/encounter",
        "launch/list?role=a",
        "launch/list?role=b",
        "offline_access",
        "online_access",
    )
    asked = request_scope((), kind=LaunchKind.EHR, v2=True, extra=extra)
    assert (
        asked == "launch online_access launch/encounter launch/list?role=a launch/list?role=b offline_access"
    )


@pytest.mark.smart(141)
def test_staff_are_asked_for_at_the_users_level():
    asked = request_scope((Feature.STAFF_ROLES,), kind=LaunchKind.EHR, v2=True)
    assert asked.endswith("user/Practitioner.rs user/PractitionerRole.rs")


@pytest.mark.smart(46, 124, 146, 148)
@pytest.mark.parametrize("v2", [True, False])
def test_no_feature_asks_for_a_wildcard_or_for_deleting(v2):
    for word in request_scope(Feature, kind=LaunchKind.EHR, v2=v2).split():
        scope = parse_scope(word)
        assert "*" not in word
        assert not v2 or scope is None or D not in scope.interactions


def test_every_feature_has_scopes_and_each_is_of_the_grammar():
    assert set(FEATURE_SCOPES) == set(Feature)
    words = {word for scopes in FEATURE_SCOPES.values() for word in scopes}
    assert {word for word in words if parse_scope(word) is None} == {"openid", "fhirUser"}


# The difference


@pytest.mark.smart(147)
@pytest.mark.parametrize(
    "granted",
    [
        "patient/Observation.rs",
        "patient/Observation.r patient/Observation.s",
        "patient/Observation.read",
        "patient/Observation.cruds",
        "patient/*.rs",
        "user/Observation.rs",
        "user/Observation.r patient/Observation.s",
    ],
)
def test_a_grant_is_compared_by_what_it_means(granted):
    found = difference("patient/Observation.rs", granted, (Feature.READINGS,))
    assert (found.lost, found.lost_features) == ((), ())


@pytest.mark.smart(147)
@pytest.mark.threat("5.11")
def test_what_was_cut_off_is_named_with_what_is_lost_by_it():
    asked = request_scope(CORE_FEATURES, kind=LaunchKind.EHR, v2=True)
    found = difference(
        asked, "openid fhirUser launch patient/Observation.r user/Practitioner.r", CORE_FEATURES
    )
    assert found.granted == ("launch", "openid", "fhirUser")
    assert "patient/Observation.rs" in found.lost
    assert "patient/ChargeItem.crus" in found.lost
    assert found.unasked == ("user/Practitioner.r",)
    assert found.lost_features == (
        Feature.PATIENT_BANNER,
        Feature.READINGS,
        Feature.DEVICES,
        Feature.CONTACTS,
        Feature.PRIOR_CHARGES,
        Feature.WRITE_CHARGES,
    )


@pytest.mark.threat("5.11")
@pytest.mark.parametrize(
    ("granted", "may"),
    [
        ("patient/ChargeItem.c", True),
        ("user/ChargeItem.write", True),
        ("patient/ChargeItem.rs", False),
        ("patient/ChargeItem.u", False),
        ("system/ChargeItem.c", False),
        ("patient/*.rs", False),
        ("", False),
    ],
)
def test_charges_can_be_written_where_creating_was_granted(granted, may):
    assert has_feature(Feature.WRITE_CHARGES, Scopes.parse(granted)) is may


def test_identity_is_known_by_openid_alone():
    assert has_feature(Feature.IDENTITY, Scopes.parse("openid"))
    assert not has_feature(Feature.IDENTITY, Scopes.parse("fhirUser"))


def test_a_system_scope_is_granted_at_the_system_level_only():
    assert difference("system/Observation.rs", "patient/Observation.rs", ()).lost == (
        "system/Observation.rs",
    )
    assert difference("system/Observation.rs", "system/*.rs", ()).lost == ()
