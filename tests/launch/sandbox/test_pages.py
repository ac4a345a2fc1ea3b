"""The pages: patients, users, launching, the chart, and the headers they come with."""

from __future__ import annotations

import re

import pytest
import requests

from launch.sandbox import stories

PAGES = ("/", "/charts/ready-respiratory", "/charts/messy-chart", "/charts/nothing")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_says_sandbox_and_runs_no_script(ehr, path):
    answer = requests.get(f"{ehr.running.base_url}{path}", timeout=60)
    assert answer.status_code == 200
    assert "SANDBOX: synthetic patients" in answer.text
    assert "<script" not in answer.text
    assert "<style" not in answer.text
    assert not re.search(r"\s(style|on\w+)=", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_the_launch_page_lists_every_patient_with_story_and_buttons(ehr):
    page = requests.get(f"{ehr.running.base_url}/", timeout=60).text
    assert len(stories()) >= 12
    for story in stories(200):
        assert f'id="{story.id}"' in page
        assert story.title in page
    assert page.count("Open the app in a new tab") == len(stories())
    assert page.count("Open inside the chart") == len(stories())


def test_the_user_is_chosen_by_a_link(ehr):
    page = requests.get(f"{ehr.running.base_url}/?user=Practitioner/syn-nurse", timeout=60).text
    assert page.count('name="user" value="Practitioner/syn-nurse"') == 2 * len(stories())
    assert requests.get(f"{ehr.running.base_url}/?user=Practitioner/nobody", timeout=60).status_code == 400


def test_in_a_new_tab_the_browser_goes_to_the_app_with_iss_and_launch(ehr):
    form = {"patient": "nothing", "user": "Practitioner/syn-nurse", "mode": "tab"}
    answer = requests.post(f"{ehr.running.base_url}/launch", data=form, allow_redirects=False, timeout=60)
    assert answer.status_code == 303
    assert re.fullmatch(
        r"http://127\.0\.0\.1:9/launch\?iss=http%3A%2F%2Flocalhost%3A\d+%2Ffhir%2Fr4&launch=[\w-]{40,}",
        answer.headers["Location"],
    )


def test_inside_the_chart_the_app_is_framed_and_no_one_else_may_be(ehr):
    form = {"patient": "nothing", "user": "Practitioner/syn-nurse", "mode": "frame"}
    answer = requests.post(f"{ehr.running.base_url}/launch", data=form, timeout=60)
    assert '<iframe id="app"' in answer.text
    assert "http://127.0.0.1:9/launch?iss=" in answer.text
    assert "frame-src 'self' http://127.0.0.1:9" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"patient": "somebody"}, 404),
        ({"patient": "nothing", "user": "Practitioner/nobody"}, 400),
        ({"patient": "nothing", "client": "nobody"}, 400),
        ({"patient": "nothing", "encounter": "nobody"}, 400),
    ],
)
def test_nobody_and_nothing_unknown_is_launched(ehr, form, status):
    answer = requests.post(f"{ehr.running.base_url}/launch", data=form, allow_redirects=False, timeout=60)
    assert answer.status_code == status


def test_a_launch_is_never_made_by_following_a_link(ehr):
    assert requests.get(f"{ehr.running.base_url}/launch", timeout=60).status_code == 405


def test_a_written_charge_is_seen_in_the_chart_and_its_text_escaped(ehr, new_charge):
    charge = new_charge("ready-cognitive", note=[{"text": "<script>alert(1)</script>"}])
    token = ehr.launched("ready-cognitive")["access_token"]
    stored = ehr.fhir("POST", "ChargeItem", token, json=charge).json()
    page = requests.get(f"{ehr.running.base_url}/charts/ready-cognitive", timeout=60).text
    assert stored["id"] in page
    assert "98977" in page
    assert "<script>" not in page


def test_under_another_name_nothing_is_served(ehr):
    answer = requests.get(f"{ehr.running.base_url}/", headers={"Host": "rebound.example"}, timeout=60)
    assert answer.status_code == 421


def test_the_style_the_app_may_fetch_holds_plain_values(ehr):
    style = requests.get(f"{ehr.running.base_url}/style.json", timeout=60).json()
    assert style["color_background"].startswith("#")
