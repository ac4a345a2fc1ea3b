"""One normal form to compare by, and no URL that two readers could read differently."""

from __future__ import annotations

import pytest

from launch.urls import UnsafeUrl, is_under, parse_base, parse_url


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://ehr.example/fhir", "https://ehr.example/fhir"),
        ("https://ehr.example/fhir/", "https://ehr.example/fhir"),
        ("HTTPS://EHR.Example/fhir", "https://ehr.example/fhir"),
        ("https://ehr.example:443/fhir", "https://ehr.example/fhir"),
        ("https://ehr.example:444/fhir", "https://ehr.example:444/fhir"),
        ("http://ehr.example:80/fhir", "http://ehr.example/fhir"),
        ("http://ehr.example:443/fhir", "http://ehr.example:443/fhir"),
        ("https://ehr.example", "https://ehr.example"),
        ("https://ehr.example/", "https://ehr.example"),
        ("https://[2001:DB8::1]:443/fhir", "https://[2001:db8::1]/fhir"),
        ("https://ehr.example/R4/%7Epractice", "https://ehr.example/R4/%7Epractice"),
    ],
)
def test_scheme_host_port_and_last_slash_are_brought_into_one_form(text, base):
    assert parse_base(text).base == base


def test_the_path_keeps_its_case_because_servers_tell_it_apart():
    assert parse_base("https://ehr.example/FHIR") != parse_base("https://ehr.example/fhir")


@pytest.mark.threat("5.1")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "ehr.example/fhir",
        "//ehr.example/fhir",
        "ftp://ehr.example/fhir",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https:ehr.example/fhir",
        "https:///fhir",
        "https://ehr.example.:443/fhir",  # a trailing dot names the same host in another way
        "https://ehr.example./fhir",
        "https://.ehr.example/fhir",
        "https://ehr..example/fhir",
        "https://-ehr.example/fhir",
        "https://user@ehr.example/fhir",
        "https://user:word@ehr.example/fhir",
        "https://ehr.example@evil.example/fhir",
        "https://@ehr.example/fhir",
        "https://evil.example\\@ehr.example/fhir",
        "https://ehr.example/fhir#part",
        "https://ehr.example/fhir#",
        "https://ehr.example:/fhir",
        "https://ehr.example:0/fhir",
        "https://ehr.example:65536/fhir",
        "https://ehr.example:port/fhir",
        "https://ehr.example:-1/fhir",
        "https://[::1/fhir",
        "https://::1/fhir",
        "https://[fe80::1%25eth0]/fhir",
        "https://[v1.a]/fhir",
        "https://ehr.example/a b",
        "https://ehr.example/a\tb",
        "https://ehr.example/a\r\nHost: evil.example",
        " https://ehr.example/fhir",
        "https://ehr.example/fhir\n",
        "https://ehr.example/\x00",
        "https://ehr.example/<script>",
        "https://ehr.exаmple/fhir",  # a Cyrillic letter
        "https://ehr。example/fhir",
        "https://ehr.example/../fhir",
        "https://ehr.example/fhir/..",
        "https://ehr.example/fhir/.",
        "https://ehr.example/fhir/%2e%2e/admin",
        "https://ehr.example/fhir/%2E./admin",
        "https://ehr.example/fhir/%252e%252e/admin",
        "https://ehr.example/fhir/%25252e%25252e/admin",
        "https://ehr.example/fhir%2f..%2fadmin",
        "https://ehr.example/fhir/..;/admin",
        "https://ehr.example/fhir%5c..%5cadmin",
        "https://ehr.example/fhir/%00",
        "https://ehr.example/fhir/%0d%0aX",
        "https://ehr.example/" + "a" * 8192,
    ],
)
def test_what_two_readers_could_read_differently_is_refused(text):
    with pytest.raises(UnsafeUrl):
        parse_url(text)


def test_the_longest_url_is_8192_characters():
    start = "https://ehr.example/"
    assert parse_url(start + "a" * (8192 - len(start)))
    with pytest.raises(UnsafeUrl):
        parse_url(start + "a" * (8193 - len(start)))


@pytest.mark.parametrize("text", ["https://ehr.example/fhir?x=1", "https://ehr.example/fhir?"])
def test_a_base_has_no_query(text):
    assert parse_url(text)
    with pytest.raises(UnsafeUrl):
        parse_base(text)


def test_a_base_has_no_empty_path_segment():
    with pytest.raises(UnsafeUrl):
        parse_base("https://ehr.example//fhir")
    with pytest.raises(UnsafeUrl):
        parse_base("https://ehr.example/fhir//")


@pytest.mark.threat("5.3")
@pytest.mark.smart(97)
@pytest.mark.parametrize(
    ("text", "under"),
    [
        ("https://ehr.example/fhir", True),
        ("https://ehr.example/fhir/", True),
        ("https://ehr.example/fhir?_getpages=1", True),
        ("https://ehr.example:443/fhir/Patient/p1", True),
        ("HTTPS://EHR.EXAMPLE/fhir/Patient/p1", True),
        ("https://ehr.example/fhirx", False),
        ("https://ehr.example/fhi", False),
        ("https://ehr.example/", False),
        ("https://ehr.example/FHIR/Patient/p1", False),
        ("https://ehr.example/other/fhir/Patient", False),
        ("https://ehr.example:444/fhir/Patient", False),
        ("http://ehr.example/fhir/Patient", False),
        ("https://ehr.example.evil.example/fhir/Patient", False),
        ("https://sub.ehr.example/fhir/Patient", False),
    ],
)
def test_only_the_base_itself_and_what_continues_it_after_a_slash_is_under_it(text, under):
    assert is_under(parse_url(text), parse_base("https://ehr.example/fhir")) is under


def test_everything_of_an_origin_is_under_a_base_without_a_path():
    base = parse_base("https://ehr.example/")
    assert is_under(parse_url("https://ehr.example/Patient/p1"), base)
    assert is_under(parse_url("https://ehr.example"), parse_base("https://ehr.example"))
    assert not is_under(parse_url("https://evil.example/Patient/p1"), base)


def test_the_fault_never_repeats_the_url():
    with pytest.raises(UnsafeUrl) as caught:
        parse_url("https://user:secret-word@ehr.example/Patient/p1")
    assert str(caught.value) == "user info"
    assert "secret-word" not in repr(caught.value)
