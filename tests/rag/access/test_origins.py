"""Which requests a server of this machine answers, as a table."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from livemind.rag.access.origins import Origins

HERE = "127.0.0.1:8000"


def refused(rules: Origins, method: str = "GET", *, body: bool = False, **headers: str) -> str:
    given = CIMultiDict({"Host": HERE})
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    found = rules.refusal(method, given, has_body=body)
    return found.code if found else ""


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1", "127.9.9.9:1", "[::1]:8000", "LOCALHOST."]
)
def test_host_of_this_machine_is_answered(host: str) -> None:
    assert refused(Origins("127.0.0.1"), Host=host) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.7",
        "[::2]",
        "[",
        "evil@127.0.0.1.evil.example",
    ],
)
def test_host_that_is_not_ours_is_refused(host: str) -> None:
    assert refused(Origins("127.0.0.1"), Host=host) == "host_not_allowed"


def test_host_that_is_listed_or_an_address_of_an_open_server_is_answered() -> None:
    assert refused(Origins("127.0.0.1", ["ai.example"]), Host="AI.example:443") == ""
    assert refused(Origins("127.0.0.1", ["*.example"]), Host="a.b.example") == ""
    assert refused(Origins("127.0.0.1", ["*"]), Host="evil.example") == ""
    assert refused(Origins("0.0.0.0"), Host="192.168.1.7:8000") == ""
    assert refused(Origins("0.0.0.0"), Host="evil.example") == "host_not_allowed"
    assert refused(Origins("gpu-7.lan"), Host="gpu-7.lan:8000") == ""


def test_host_without_a_dot_is_answered_where_others_may_come_in_and_not_on_a_laptop() -> None:
    for bound in ("0.0.0.0", "::", "192.168.1.7", "livemind"):
        assert refused(Origins(bound), Host="livemind:8000") == "", bound
    for bound in ("127.0.0.1", "::1", "localhost"):
        assert refused(Origins(bound), Host="livemind:8000") == "host_not_allowed", bound
    assert refused(Origins("127.0.0.1", ["livemind"]), Host="livemind:8000") == ""


@pytest.mark.parametrize(
    "origin",
    [
        "https://page.example",
        "null",
        "http://localhost.page.example",
        "http://127.0.0.1.page.example",
        "file://",
        "http://[",
        "chrome-extension://abc",
        "http://page.example:8000",
    ],
)
def test_origin_of_elsewhere_is_refused(origin: str) -> None:
    assert refused(Origins("127.0.0.1"), Origin=origin) == "origin_not_allowed"


@pytest.mark.parametrize("origin", [f"http://{HERE}", "http://localhost:3000", "https://[::1]:1"])
def test_origin_of_this_machine_is_answered(origin: str) -> None:
    assert refused(Origins("127.0.0.1"), Origin=origin) == ""


def test_origin_that_is_listed_is_answered() -> None:
    rules = Origins("127.0.0.1", origins=["https://App.example/", "null"])
    assert refused(rules, Origin="https://app.example") == ""
    assert refused(rules, Origin="null") == ""
    assert refused(rules, Origin="http://app.example") == "origin_not_allowed"
    assert refused(rules, Origin="https://app.example:444") == "origin_not_allowed"
    assert refused(Origins("127.0.0.1", origins=["*"]), Origin="https://page.example") == ""


def test_request_of_another_sites_page_without_origin_is_refused_unless_it_opens_a_page() -> None:
    rules = Origins("127.0.0.1")
    assert refused(rules, Sec_Fetch_Site="cross-site") == "origin_not_allowed"
    assert refused(rules, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == ""
    assert refused(rules, "POST", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") != ""
    assert refused(rules, Sec_Fetch_Site="same-origin") == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "x",
        ";",
    ],
)
def test_body_that_a_form_can_send_is_refused(method: str, kind: str) -> None:
    rules = Origins("127.0.0.1")
    page = f"http://{HERE}"
    found = refused(rules, method, body=True, Content_Type=kind, Origin=page)
    assert found == "unsupported_content_type"
    assert refused(rules, method, Content_Type=kind, Origin=page) == ""


def test_body_of_json_or_of_a_tool_that_names_no_type_is_taken() -> None:
    rules = Origins("127.0.0.1")
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/merge+json"):
        assert refused(rules, "POST", body=True, Content_Type=kind) == ""
    assert refused(rules, "POST", body=True) == ""
    page = f"http://{HERE}"
    assert refused(rules, "POST", body=True, Origin=page) == "unsupported_content_type"
