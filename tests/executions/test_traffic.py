"""What a page loaded, kept as HAR files of the recording: complete, without logins, bounded, and off by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from executions import traffic
from executions.browser import BrowserHost, BrowserOptions
from executions.local import execute_sync
from recordings import record_workflow
from tests.conftest import graph, node, wire
from tests.executions.conftest import Site

MakeHost = Callable[..., BrowserHost]


def read(content: bytes) -> list[dict[str, Any]]:
    """Return the requests of a HAR."""
    log = json.loads(content)["log"]
    assert (log["version"], bool(log["creator"]["name"])) == ("1.2", True)
    entries: list[dict[str, Any]] = log["entries"]
    return entries


@pytest.mark.browser
async def test_what_a_page_loads_is_kept_part_by_part_and_without_logins(site: Site, make_host: MakeHost) -> None:
    page = await make_host(f"127.0.0.1:{site.port}").open("e1:main", BrowserOptions(record_har=True))
    site.answer(200, b"set", set_cookie="session=cookie-secret-1; Path=/")
    await page.goto(f"{site.url}/answer?token=query-secret-1&page=2")
    first = await page.traffic()
    await page.goto(f"{site.url}/site/form.html")
    await page.fill("#secret", "typed-secret-1")
    await page.page.evaluate(
        """async () => {
          await fetch('/form', {method: 'POST', body: new URLSearchParams({user: 'ada', password: 'form-secret-1'})});
          await fetch('/json', {method: 'POST', headers: {'content-type': 'application/json', Authorization: 'Bearer head-secret-1'},
                                body: JSON.stringify({name: 'ada', inner: [{api_key: 'json-secret-1'}], note: 'typed-secret-1'})});
          await fetch('/text', {method: 'POST', body: 'text-secret-1'});
          await fetch('/typed?note=typed-secret-1');
          await fetch('/other', {headers: {'X-Session-Token': 'head-secret-2'}});
        }"""
    )
    second = await page.traffic()

    (opened,) = [entry for entry in read(first) if "/answer" in entry["request"]["url"]]
    assert opened["request"]["url"] == f"{site.url}/answer?token=***&page=2"
    assert opened["response"]["status"] == 200
    assert any(header == {"name": "set-cookie", "value": "***"} for header in opened["response"]["headers"])
    by_path = {entry["request"]["url"].removeprefix(site.url): entry["request"] for entry in read(second)}
    assert {"/site/form.html", "/form", "/json", "/text", "/other"} <= set(by_path)
    assert "/answer?token=***&page=2" not in by_path, "each part holds what came after the one before"
    for path in ("/form", "/json", "/text"):
        assert (by_path[path]["postData"]["text"], by_path[path]["postData"]["params"]) == ("", [])
        assert by_path[path]["bodySize"] > 10
    assert by_path["/typed?note=***"]["method"] == "GET"
    assert b"-secret-" not in first + second
    assert str(page.har) not in (first + second).decode()
    assert await page.traffic() == b""


@pytest.mark.browser
async def test_without_the_input_nothing_is_written(site: Site, make_host: MakeHost) -> None:
    host = make_host(f"127.0.0.1:{site.port}")
    page = await host.open("e1:main")
    await page.goto(f"{site.url}/site/result.html")

    assert page.har is None
    assert await page.traffic() == b""


@pytest.mark.browser
@pytest.mark.row("S2-08")
def test_the_traffic_of_each_browser_node_is_a_file_of_the_recording(site_url: str) -> None:
    def flow(**policy: Any) -> dict[str, Any]:
        return graph(
            [node("open", "launch_standard_browser", policy, Website_URL=f"{site_url}/form.html", Record_HAR=True),
             node("fill", "fill_input", policy, Selector="#secret", Value={"$credential": "shop"}),
             node("send", "click_element", policy, Selector="#send", Wait_For_Navigation=True),
             node("miss", "click_element", {"timeout_s": 1, **policy}, Selector="#nowhere")],
            wire("open", "Web Page", "fill", "Web Page"), wire("fill", "Web Page", "send", "Web Page"),
            wire("send", "Web Page", "miss", "Web Page"),
        )  # fmt: skip

    shop = {"shop": {"password": "correct horse/42"}}
    with record_workflow("traffic") as recorder:
        result = execute_sync(flow(), credentials=shop)
    with record_workflow("private") as private:
        execute_sync(flow(record_inputs=False), credentials=shop)

    assert [e for e in private.events if e.event_type.value == "artifact"] == []
    found = [e for e in recorder.events if e.event_type.value == "artifact" and e.data["kind"] == "har"]
    assert [event.node_id for event in found] == ["open", "send"], "a node during which nothing was loaded has no file"
    assert [(event.data["file"], event.data["content_type"]) for event in found] == [
        ("open.har", "application/har+json"), ("send.har", "application/har+json"),
    ]  # fmt: skip
    files = [result.files[event.data["blob"]] for event in found]
    assert read(files[0])[0]["request"]["url"] == f"{site_url}/form.html"
    sent = read(files[1])[0]["request"]["url"]
    assert sent.endswith("?name=&secret=***"), sent
    assert b"horse" not in b"".join(files)
    ends = {e.node_id: e.timestamp for e in recorder.events if e.event_type.value in ("node_complete", "node_error")}
    assert all(event.timestamp <= ends[event.node_id] for event in found if event.node_id)


def har(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"log": {"version": "1.2", "creator": {"name": "x"}, "entries": list(entries)}}).encode()


def entry(url: str = "http://x.com/", **request: Any) -> dict[str, Any]:
    return {
        "request": {"method": "GET", "url": url, **request},
        "response": {"status": 200, "content": {"size": 1, "text": "body"}},
    }


def test_a_large_har_ends_early_and_says_so() -> None:
    many = [entry(f"http://x.com/{number}?x={'y' * 1000}") for number in range(5_000)]

    content = traffic.cleaned(har(*many))

    log = json.loads(content)["log"]
    assert len(content) < traffic.MOST_BYTES * 1.5
    assert len(log["entries"]) > 100
    assert log["comment"].startswith(f"{5_000 - len(log['entries'])} more requests are left out")
    assert traffic.cleaned(har()) == b""


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ada:pw@x.com/a#access_token=t", "https://x.com/a"),
        ("https://x.com/a?b=1&c=%20", "https://x.com/a?b=1&c=%20"),
        ("https://x.com/cb?code=1&state=2", "https://x.com/cb?code=***&state=2"),
        ("http://[x", "***"),
    ],
)
def test_addresses_are_kept_without_what_logs_in(url: str, kept: str) -> None:
    (one,) = read(traffic.cleaned(har(entry(url, headers=[{"name": "Referer", "value": url}]))))

    assert one["request"]["url"] == kept
    assert one["request"]["headers"] == [{"name": "Referer", "value": kept}]
    assert "text" not in one["response"]["content"]


def test_of_bodies_only_the_type_is_kept() -> None:
    data = {"mimeType": "text/plain", "text": "pw", "params": [{"name": "password", "value": "pw"}]}
    (one,) = read(traffic.cleaned(har(entry(postData=data))))

    assert one["request"]["postData"] == {"mimeType": "text/plain", "params": [], "text": ""}
