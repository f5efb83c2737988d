"""Recordings over HTTP: only one's own, and files only as attachments."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from recordings import ExecutionReplayer, sources
from recordings.blobs import save_blob
from recordings.finding import replayer_of
from recordings.models import Recording
from recordings.packing import seal

Make = Callable[..., Any]
URL = "/api/v1/recordings"


@pytest.fixture
def as_bob(client: Client, bob: Any) -> Client:
    client.force_login(bob)
    return client


@pytest.fixture(autouse=True)
def _no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ARTIFACT_POLICY", None)


def test_list_and_read_ones_own(as_bob: Client, bob: Any, alice: Any, make_execution: Make) -> None:
    old, new = make_execution(user=bob, age_days=2), make_execution(user=bob, age_days=1, success=True)
    foreign = make_execution(user=alice)

    page = as_bob.get(URL).json()
    assert [item["recording_id"] for item in page["items"]] == [str(new.pk), str(old.pk)]
    assert page["count"] == 2
    assert [item["recording_id"] for item in as_bob.get(URL, {"limit": 1, "offset": 1}).json()["items"]] == [
        str(old.pk)
    ]
    assert as_bob.get(URL, {"success": "true"}).json()["count"] == 1
    assert as_bob.get(URL, {"limit": 1000}).status_code == 422
    one = as_bob.get(f"{URL}/{old.pk}").json()
    assert one["event_count"] == 11
    assert one == as_bob.get(f"{URL}/{old.execution_id}").json()
    for unknown in (foreign.pk, foreign.execution_id, uuid.uuid4()):
        assert as_bob.get(f"{URL}/{unknown}").status_code == 404
    assert as_bob.get(f"{URL}/{str(old.pk)[:8]}").status_code == 422


def test_every_recording_comes_once_when_each_page_asks_for_those_before_its_last(
    as_bob: Client, bob: Any, alice: Any, make_execution: Make
) -> None:
    made = [make_execution(user=bob, age_days=age) for age in (3, 2, 1, 1, 1)]
    Recording.objects.filter(pk__in=[row.pk for row in made[2:]]).update(started_at=made[2].started_at)
    foreign = make_execution(user=alice)

    seen: list[str] = []
    before: str | None = ""
    while before is not None:
        page = as_bob.get(URL, {"limit": 2} | ({"before": before} if before else {})).json()
        seen += [item["recording_id"] for item in page["items"]]
        before = page["next"]

    assert (len(seen), set(seen)) == (5, {str(row.pk) for row in made})
    assert as_bob.get(URL, {"before": str(foreign.pk)}).status_code == 404


@pytest.mark.parametrize("tag", ["", " ", "\x1c", "t" * 101])
def test_a_tag_that_is_none_is_refused(as_bob: Client, bob: Any, make_execution: Make, tag: str) -> None:
    url = f"{URL}/{make_execution(user=bob).pk}/tags"

    assert as_bob.post(url, {"add": [tag]}, content_type="application/json").status_code == 422


def test_events_are_listed_by_pages(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)
    url = f"{URL}/{recording.pk}/events"

    first = as_bob.get(url, {"limit": 6}).json()
    second = as_bob.get(url, {"limit": 6, "after": first["next"]}).json()

    assert [event["seq"] for event in first["items"] + second["items"]] == list(range(1, 12))
    assert (first["count"], first["next"], second["next"]) == (11, 6, None)
    assert second["items"][0]["event_type"] == "node_error"
    assert as_bob.get(url, {"after": 2_000_000_000}).json() == {"items": [], "count": 11, "next": None}
    assert as_bob.get(url, {"limit": 501}).status_code == 422


def test_the_state_at_an_event_is_named_by_number_or_id(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)
    url = f"{URL}/{recording.pk}/state"

    answer = as_bob.get(url, {"event": "4"}).json()

    assert answer["event"]["node_id"] == "node1"
    assert answer["state"] == {
        "region": "eu", "Html": "page 1", "Done": True, "$nodes": {"node1": {"Html": "page 1", "Done": True}},
    }  # fmt: skip
    assert as_bob.get(url, {"event": answer["event"]["event_id"]}).json() == answer
    for unknown in ("0", "12", "x", "9" * 15, "f" * 32, "²"):
        assert as_bob.get(url, {"event": unknown}).status_code == 404, unknown
    assert as_bob.get(url).status_code == 422
    assert as_bob.get(url, {"event": "1" * 65}).status_code == 422


def test_two_recordings_are_compared(as_bob: Client, bob: Any, make_execution: Make) -> None:
    first, longer = make_execution(user=bob), make_execution(user=bob, nodes=4)

    found = as_bob.get(f"{URL}/{first.pk}/compare/{longer.execution_id}").json()
    ours = replayer_of(first)
    assert found.keys() == ours.compare(ours).keys()

    assert found["identical"] is False
    assert found["node_diff"]["only_in_other"] == ["node4"]
    assert found["path_diff"]["first_difference"] == {"position": 7, "self_node": "last", "other_node": "node4"}
    assert as_bob.get(f"{URL}/{first.pk}/compare/{first.pk}").json()["identical"] is True


@pytest.mark.parametrize("kind", ["fbrec", "json.gz", "json"])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_copy_holds_the_same_events(
    as_bob: Client, bob: Any, make_execution: Make, tmp_path: Path, kind: str, sealed: bool
) -> None:
    recording = make_execution(user=bob)
    if sealed:
        seal(recording)

    response = as_bob.get(f"{URL}/{recording.pk}/download", {"format": kind})

    assert response["Content-Disposition"] == f'attachment; filename="shop-{str(recording.pk)[:8]}.{kind}"'
    assert response["Content-Security-Policy"].startswith("sandbox")
    file = tmp_path / f"copy.{kind}"
    file.write_bytes(b"".join(response))
    copy = ExecutionReplayer.load(file)
    copy.verify()
    events = as_bob.get(f"{URL}/{recording.pk}/events").json()["items"]
    assert [(event.event_id, event.data) for event in copy.events] == [(e["event_id"], e["data"]) for e in events]


def test_copies_for_people(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)

    def copy(kind: str) -> str:
        response = as_bob.get(f"{URL}/{recording.pk}/download", {"format": kind})
        assert response.status_code == 200
        return b"".join(response).decode()

    assert copy("dot").startswith("digraph workflow_execution {")
    assert "Timeline:" in copy("summary")
    assert copy("html").lower().startswith("<!doctype html")
    assert "<svg" in copy("svg")
    assert as_bob.get(f"{URL}/{recording.pk}/download", {"format": "exe"}).status_code == 422


def test_tags_are_changed(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob, tags=["old"])
    url = f"{URL}/{recording.pk}/tags"

    answer = as_bob.post(url, {"add": ["legal-hold", " new "], "remove": ["old"]}, content_type="application/json")

    assert answer.json() == {"tags": ["legal-hold", "new"]}
    recording.refresh_from_db()
    assert recording.tags == ["legal-hold", "new"]
    assert as_bob.post(url, {"add": [" "]}, content_type="application/json").status_code == 422
    assert as_bob.post(url, {"add": ["x"] * 51}, content_type="application/json").status_code == 422
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(bob)
    assert strict.post(url, {"add": ["y"]}, content_type="application/json").status_code in (401, 403)


def test_nobody_sees_nothing(client: Client, make_execution: Make) -> None:
    recording = make_execution()

    inside = ("", "/events", "/state?event=1", "/download", f"/compare/{recording.pk}")
    artifact = f"{URL}/artifacts/{'a' * 64}?execution={recording.execution_id}"
    for url in (URL, artifact, *(f"{URL}/{recording.pk}{page}" for page in inside)):
        assert client.get(url).status_code == 401, url
    assert client.post(f"{URL}/{recording.pk}/tags", {}, content_type="application/json").status_code == 401


def test_what_belongs_to_others_does_not_exist(as_bob: Client, alice: Any, make_execution: Make) -> None:
    recording = make_execution(user=alice, tags=["hers"])

    for page in ("", "/events", "/state?event=1", "/download", f"/compare/{recording.pk}"):
        assert as_bob.get(f"{URL}/{recording.pk}{page}").status_code == 404, page
    answer = as_bob.post(f"{URL}/{recording.pk}/tags", {"remove": ["hers"]}, content_type="application/json")
    assert answer.status_code == 404
    recording.refresh_from_db()
    assert recording.tags == ["hers"]


def test_artifacts_are_attachments(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)
    name = save_blob(b"<script>alert(1)</script>", "text/html; charset=utf-8", recording.execution_id)

    response = as_bob.get(f"{URL}/artifacts/{name}", {"execution": str(recording.execution_id)})

    assert response.status_code == 200
    assert b"".join(response) == b"<script>alert(1)</script>"
    assert response["Content-Disposition"] == f'attachment; filename="{name[:12]}.html"'
    assert response["Content-Security-Policy"].startswith("sandbox")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_artifacts_of_others_do_not_exist(as_bob: Client, bob: Any, alice: Any, make_execution: Make) -> None:
    mine, foreign = make_execution(user=bob), make_execution(user=alice)
    name = save_blob(b"secret page", "text/html", foreign.execution_id)

    for execution in (mine.execution_id, foreign.execution_id, uuid.uuid4()):
        assert as_bob.get(f"{URL}/artifacts/{name}", {"execution": str(execution)}).status_code == 404
    assert as_bob.get(f"{URL}/artifacts/{name}").status_code == 422
    assert as_bob.get(f"{URL}/artifacts/..%2f..%2fetc", {"execution": str(mine.execution_id)}).status_code == 404


def test_artifacts_of_a_running_execution_are_decided_by_the_engine(
    as_bob: Client, bob: Any, blobs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execution = uuid.uuid4()
    name = save_blob(b"png", "image/png", execution)
    url = f"{URL}/artifacts/{name}?execution={execution}"
    assert as_bob.get(url).status_code == 404

    monkeypatch.setattr(sources, "ARTIFACT_POLICY", lambda user, wanted: user == bob and wanted == execution)

    response = as_bob.get(url)
    assert response.status_code == 200
    assert b"".join(response) == b"png"


def test_a_recording_has_so_many_tags_and_no_more(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)
    url = f"{URL}/{recording.pk}/tags"

    def post(add: list[str], remove: tuple[str, ...] = ()) -> Any:
        return as_bob.post(url, {"add": add, "remove": list(remove)}, content_type="application/json")

    have = len(recording.tags or ())
    assert post([f"t{number}" for number in range(50 - have)]).status_code == 200
    answer = post(["one more"])
    assert (answer.status_code, answer.json()["detail"]) == (
        409, "a recording has at most 50 tags, these would be 51; remove some first",
    )  # fmt: skip
    assert post(["one more"], remove=("t0",)).status_code == 200
    assert post(["one more"]).status_code == 200
    recording.refresh_from_db()
    assert len(recording.tags) == 50


@pytest.mark.postgres
def test_a_nul_character_is_refused_or_names_nothing(as_bob: Client, bob: Any, make_execution: Make) -> None:
    recording = make_execution(user=bob)

    answer = as_bob.post(f"{URL}/{recording.pk}/tags", {"add": ["a\0b"]}, content_type="application/json")
    assert (answer.status_code, "NUL" in answer.json()["detail"]) == (422, True)
    artifact = as_bob.get(f"{URL}/artifacts/%00", query_params={"execution": str(recording.execution_id)})
    assert artifact.status_code == 404
