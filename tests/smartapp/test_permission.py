"""Who may do what: by the user's kind, the EHR's permission and the role that the site lets do it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from fhir_mappings.vocabulary import Role
from launch.issuers_table import load_issuers
from smartapp.configuration.settings import ConfigurationError
from smartapp.configuration.site import Site
from smartapp.configuration.site_file import Permissions, SiteFileError, UserRole, read_site_file
from smartapp.web.permission import Action, refusal, role_of

CHARGES = "patient/ChargeItem.crus"
BILLING = (
    Role.PHYSICIAN,
    Role.QUALIFIED_PROFESSIONAL,
    Role.PHYSICAL_THERAPIST,
    Role.OCCUPATIONAL_THERAPIST,
    Role.SPEECH_LANGUAGE_PATHOLOGIST,
)


def site(permissions=None, users=()):
    return Site(None, None, None, permissions=permissions or Permissions(), users=tuple(users))


def session(user="Practitioner/7", scope=CHARGES, issuer_id="general"):
    return SimpleNamespace(fhir_user=user, granted_scope=scope, issuer_id=issuer_id, patient="p1")


@pytest.mark.parametrize("role", BILLING)
@pytest.mark.parametrize("action", [one for one in Action if one is not Action.BILL])
def test_whoever_may_bill_may_do_everything_for_a_patient_as_shipped(role, action):
    assert refusal(action, session(), role, site()) is None


@pytest.mark.parametrize("role", Role)
def test_nobody_sees_the_charges_of_all_patients_before_the_site_says_who(role):
    assert refusal(Action.BILL, session(), role, site()) is not None
    if role is not Role.UNKNOWN:
        assert refusal(Action.BILL, session(), role, site(Permissions(bill=frozenset({role})))) is None


@pytest.mark.parametrize("role", [Role.CLINICAL_STAFF, Role.THERAPIST_ASSISTANT])
def test_staff_log_time_and_nothing_else_as_shipped(role):
    refused = {action for action in Action if refusal(action, session(), role, site())}
    assert refused == set(Action) - {Action.LOG}


@pytest.mark.parametrize("action", Action)
def test_an_unknown_role_reads_only_and_is_told_who_can_settle_it(action):
    sentence = refusal(action, session(), Role.UNKNOWN, site())
    assert "Whoever runs this app can settle it." in sentence
    assert "Practitioner/7" not in sentence, "that is for the page of permissions"


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("user", ["Patient/1", "RelatedPerson/1", "Person/1", "Device/1", None, ""])
def test_a_patient_or_relative_never_reaches_charges_whatever_the_site_says(action, user):
    everybody = frozenset(Role) - {Role.UNKNOWN}
    generous = site(
        Permissions(everybody, everybody, everybody, everybody), [UserRole(user or "", BILLING[0])]
    )
    asked = session(user)
    role = role_of(asked, generous, None) or Role.PHYSICIAN
    assert refusal(action, asked, role, generous) is not None


def test_a_site_may_let_a_coder_approve_and_nobody_else():
    own = site(Permissions(approve=frozenset({Role.NON_CLINICAL})))
    assert refusal(Action.APPROVE, session(), Role.NON_CLINICAL, own) is None
    sentence = refusal(Action.APPROVE, session(), Role.PHYSICIAN, own)
    assert "does not approve charges" in sentence
    assert "permissions.approve" not in sentence, "the settings are no clinician's"


def test_before_the_chart_was_read_nobody_is_believed_to_have_a_role():
    assert "not been read" in refusal(Action.ACCEPT, session(), None, site())


@pytest.mark.parametrize(
    ("scope", "refused"),
    [
        ("patient/ChargeItem.rs", {Action.WITHDRAW}),
        ("patient/ChargeItem.crs", {Action.WITHDRAW}),
        ("patient/ChargeItem.rus", set()),
        (CHARGES, set()),
    ],
)
def test_what_the_ehr_did_not_grant_no_role_can_do(scope, refused):
    own = site(Permissions(bill=frozenset({Role.PHYSICIAN})))
    found = {a for a in Action if refusal(a, session(scope=scope), Role.PHYSICIAN, own)}
    assert found == refused


def test_the_sites_own_word_on_a_person_comes_first():
    findings = SimpleNamespace(user_role=Role.PHYSICIAN)
    named = site(users=[UserRole("Practitioner/7", Role.CLINICAL_STAFF)])
    assert role_of(session(), named, findings) is Role.CLINICAL_STAFF
    assert role_of(session("Practitioner/8"), named, findings) is Role.PHYSICIAN


def registered(*names):
    return load_issuers(
        {name: {"fhir_base": f"https://{name}.example", "client_id": "app"} for name in names}
    )


def test_one_and_the_same_reference_is_somebody_else_in_another_ehr():
    named = site(users=[UserRole("Practitioner/7", Role.PHYSICIAN, issuer="general")])
    findings = SimpleNamespace(user_role=Role.UNKNOWN)
    assert role_of(session(issuer_id="general"), named, findings) is Role.PHYSICIAN
    assert role_of(session(issuer_id="other"), named, findings) is Role.UNKNOWN
    with pytest.raises(ConfigurationError, match="no registered EHR"):
        named.check_users(registered("other"))
    with pytest.raises(ConfigurationError, match="say in which"):
        site(users=[UserRole("Practitioner/7", Role.PHYSICIAN)]).check_users(registered("general", "other"))


@pytest.mark.parametrize("issuer", [None, "cloud"])
def test_nobody_has_a_role_in_all_practices_of_a_star_at_once(issuer):
    cloud = {"fhir_base": "https://ehr.example/*/fhir", "client_id": "app"}
    named = site(users=[UserRole("Practitioner/7", Role.PHYSICIAN, issuer=issuer)])
    with pytest.raises(ConfigurationError, match="stands for many practices"):
        named.check_users(load_issuers({"cloud": cloud}))
    own = {"cloud": cloud, "north": {"fhir_base": "https://ehr.example/north/fhir", "client_id": "app"}}
    site(users=[UserRole("Practitioner/7", Role.PHYSICIAN, issuer="north")]).check_users(load_issuers(own))


# site.yaml


def read(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(text)
    return read_site_file(path)


def test_a_site_file_says_who_may_do_what(tmp_path):
    found = read(
        tmp_path,
        "permissions:\n  accept: [physician]\n"
        'users: [{user: "Practitioner/7", role: physician}]\n'
        "second_approval: true\nlock_certified_months: true\n",
    )
    assert found.permissions.accept == {Role.PHYSICIAN}
    assert found.permissions.log == Permissions().log
    assert found.users == (UserRole("Practitioner/7", Role.PHYSICIAN),)
    assert found.second_approval
    assert found.lock_certified_months


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permissions: {acept: [physician]}", "acept"),
        ("permissions: {accept: [doctor]}", "doctor"),
        ("permissions: {accept: [unknown]}", "can only look"),
        ("users: [{user: Practitioner/7}]", "role"),
        ("users: [{user: P/7, role: physician}, {user: P/7, role: clinical-staff}]", "P/7 is listed twice"),
        ("second_aproval: true", "second_aproval"),
        ("second_approval: sometimes", "bool"),
    ],
)
def test_a_mistake_in_it_is_one_clear_line(tmp_path, text, says):
    with pytest.raises(SiteFileError, match=says) as told:
        read(tmp_path, text)
    assert "\n" not in str(told.value)


# In the app

PATIENT = "ready-musculoskeletal"
NURSE = "Practitioner/syn-nurse"
SECRETARY = 'users: [{user: "Practitioner/syn-physician", role: non-clinical}]\n'


def test_a_nurse_sees_what_is_earned_and_why_she_cannot_accept_it(world, browser):
    page = world.open(browser, PATIENT, user=NURSE)
    assert "your role (clinical staff) does not accept charges" in page.text
    assert not [text for _, text in page.links if text.startswith("Review and accept")]


def test_a_form_that_a_nurse_has_no_button_for_is_refused_all_the_same(world, browser):
    before = world.charges(PATIENT)
    doctors = world.final_form(browser, world.open(browser, PATIENT))
    nurses = world.open(browser, PATIENT, user=NURSE)
    session_id = nurses.url.split("/s/")[1].split("/")[0]
    path = doctors.action.split("/charges/")[1]
    base = world.settings.base_url
    again = browser.get(f"{base}/s/{session_id}/charges/{path}")
    assert again.status == 403
    stolen = type(doctors)("post", f"{base}/s/{session_id}/charges/{path}", doctors.controls)
    for control in stolen.controls:
        if control.name == "form_token":
            control.value = nurses.form("/read").controls[0].value
    assert browser.submit(stolen).status == 403
    assert world.charges(PATIENT) == before


def test_the_sites_list_of_users_takes_a_role_away_too(make_world, browser):
    world = make_world(site_more=SECRETARY)
    assert "your role (non-clinical staff) does not accept charges" in world.open(browser, PATIENT).text


def test_somebody_whose_role_the_ehr_does_not_tell_reads_only(world, browser):
    for type_, name in (("Practitioner", "syn-physician"), ("PractitionerRole", "syn-physician-role")):
        world.ehr_changes(type_, name, qualification=None, code=None)
    page = world.open(browser, PATIENT)
    assert "does not say in which role you work" in page.text
    assert "98977" in page.text


def test_a_role_that_only_a_practitioner_role_tells_is_found(world, browser):
    world.ehr_changes("Practitioner", "syn-physician", qualification=None)
    assert "Review and accept" in world.open(browser, PATIENT).text


def test_a_role_that_ended_gives_no_permission(world, browser):
    world.ehr_changes("Practitioner", "syn-physician", qualification=None)
    world.ehr_changes("PractitionerRole", "syn-physician-role", active=False)
    assert "does not say in which role you work" in world.open(browser, PATIENT).text
