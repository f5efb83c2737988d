"""Recordings over HTTP: only one's own, and files only as attachments."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from recordings import database
from recordings.database import save_blob

Make = Callable[..., Any]
URL = "/api/v1/recordings"


@pytest.fixture
def as_bob(client: Client, bob: Any) -> Client:
    client.force_login(bob)
    return client


@pytest.fixture(autouse=True)
def _no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "ARTIFACT_POLICY", None)


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


def test_nobody_sees_nothing(client: Client, make_execution: Make) -> None:
    recording = make_execution()

    for url in (URL, f"{URL}/{recording.pk}", f"{URL}/artifacts/{'a' * 64}?execution={recording.execution_id}"):
        assert client.get(url).status_code == 401


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

    monkeypatch.setattr(database, "ARTIFACT_POLICY", lambda user, wanted: user == bob and wanted == execution)

    response = as_bob.get(url)
    assert response.status_code == 200
    assert b"".join(response) == b"png"
