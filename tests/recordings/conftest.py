"""Recordings that tests share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import SyncToAsync
from django.conf import settings
from django.db import connections
from django.test import override_settings

from recordings import ExecutionRecorder, FileRecordingStorage, InMemoryRecordingStorage
from recordings.events import encode_json
from recordings.models import Event, Recording

TEXT = "A calm page about chairs, tables and lamps for small rooms. "


def record_run(name: str = "shop", *, nodes: int = 2, success: bool = True, **options: Any) -> ExecutionRecorder:
    """Return a recorder with a finished run of ``nodes`` nodes."""
    recorder = ExecutionRecorder(name, **options)
    recorder.record_workflow_start({"region": "eu"})
    for number in range(1, nodes + 1):
        recorder.record_node_start(f"node{number}", {"url": f"https://example.com/{number}"}, "get_html")
        recorder.record_node_complete(f"node{number}", {"Html": f"page {number}", f"key{number}": number}, 0.25)
    recorder.record_workflow_complete({"done": True}, success, None if success else "the last node failed")
    return recorder


def record_long(events: int, *, nodes: int = 100, **options: Any) -> ExecutionRecorder:
    """Return a recorder with many repetitive events of about 200 bytes."""
    recorder = ExecutionRecorder("long", **options)
    recorder.record_workflow_start({"region": "eu"})
    for number in range((events - 2) // 2):
        node = f"node{number % nodes}"
        recorder.record_node_start(node, {"url": f"https://example.com/{number}", "text": TEXT * 2}, "get_html")
        recorder.record_node_complete(node, {"Html": TEXT * 3, "number": number}, 0.01)
    recorder.record_workflow_complete({}, True)
    return recorder


@contextmanager
def blob_storage(kind: str, directory: Path) -> Iterator[None]:
    """Keep blobs in ``files`` or in ``rows`` of the database."""
    backend = (
        {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": directory / "blobs"}}
        if kind == "files"
        else {"BACKEND": "recordings.blobs.DatabaseFileStorage"}
    )
    with override_settings(STORAGES={**settings.STORAGES, "blobs": backend}, DATA_DIR=directory / "data"):
        yield
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()


_REAL = pytest.mark.django_db(transaction=True)


@pytest.fixture(
    params=[
        "file",
        "memory",
        pytest.param("database-files", marks=_REAL),
        pytest.param("database-rows", marks=_REAL),
    ]
)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Each kind of storage in turn."""
    kind, _, blobs = request.param.partition("-")
    if kind == "file":
        yield FileRecordingStorage(tmp_path / "storage")
    elif kind == "memory":
        yield InMemoryRecordingStorage()
    else:
        from recordings.database import DatabaseRecordingStorage

        with blob_storage(blobs, tmp_path):
            yield DatabaseRecordingStorage()


@pytest.fixture(params=["files", "rows"])
def blobs(request: pytest.FixtureRequest, transactional_db: None, tmp_path: Path) -> Iterator[str]:
    """The database, with blobs in files and then in rows."""
    with blob_storage(request.param, tmp_path):
        yield request.param


@pytest.fixture
def make_execution(blobs: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recording]:
    """Return a function that writes rows as the engine does: events, outputs elsewhere, a recording."""
    from recordings import sources

    stored: dict[tuple[uuid.UUID, str], dict[str, Any]] = {}
    monkeypatch.setattr(
        sources,
        "OUTPUT_SOURCE",
        lambda execution_id, nodes: {n: stored[execution_id, n] for n in nodes if (execution_id, n) in stored},
    )

    def make(
        *, nodes: int = 3, user: Any = None, finished: bool = True, age_days: float = 0, **fields: Any
    ) -> Recording:
        execution_id = uuid.uuid4()
        rows: list[tuple[str, str, dict[str, Any]]] = [
            ("workflow_start", "", {"workflow": "shop", "version": 1, "initial_context": {"region": "eu"}}),
            ("phase_start", "", {"phase": 0, "node_count": nodes}),
        ]
        for number in range(1, nodes + 1):
            node = f"node{number}"
            rows.append(("node_start", node, {"inputs": {"url": f"https://example.com/{number}"}, "attempt": 1}))
            if number == 2:
                rows.append(("node_retry", node, {"error": "too slow", "delay_seconds": 1.0}))
                rows.append(("node_error", node, {"error": "still too slow", "duration_seconds": 2.0}))
                continue
            stored[execution_id, node] = {"Html": f"page {number}", "Done": True}
            rows.append(("node_complete", node, {"outputs": {"$outputs": True}, "duration_seconds": 0.5}))
        rows.append(("node_skipped", "last", {"reason": "a node before it failed"}))
        if finished:
            rows.append(("workflow_error", "", {"success": False, "error": "node2 failed"}))
        start = datetime(2026, 1, 15, 10, 30, tzinfo=UTC)
        microseconds = int(start.timestamp()) * 1_000_000
        Event.objects.bulk_create(
            Event(
                execution_id=execution_id, seq=seq, type=kind, timestamp=microseconds + seq * 1_001, node_id=node,
                data=encode_json(data).decode(),
            )
            for seq, (kind, node, data) in enumerate(rows, 1)
        )  # fmt: skip
        started = datetime.now(UTC) - timedelta(days=age_days) if age_days else start
        values = {
            "execution_id": execution_id, "workflow_name": "shop", "started_at": started,
            "completed_at": started + timedelta(seconds=4), "duration_seconds": 4.0, "success": False, "status": "failed",
            "error": "node2 failed", "event_count": len(rows), "node_count": nodes, "version_number": 1,
            "user_id": getattr(user, "pk", None), **fields,
        }  # fmt: skip
        recording = Recording(**values)
        if finished:
            recording.save()
        return recording

    return make
