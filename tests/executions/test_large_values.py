"""Outputs just above what a row holds, and as large as may be: the same from the node to every copy, in bounded memory."""

from __future__ import annotations

import json
import random
import tracemalloc

import pytest
from django.conf import settings
from django.core.files.storage import storages
from django.urls import reverse

from monitoring.rows import load_page
from monitoring.wire import Entry
from recordings import DatabaseRecordingStorage, FileRecordingStorage
from recordings.errors import BlobMissing
from recordings.models import Blob, Event, Recording
from recordings.packing import seal
from tests.admin.conftest import logged_in
from tests.conftest import node
from tests.executions import edge_nodes

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
LIMIT = 16 * 1024 * 1024
ABOVE_ROW = settings.INLINE_OUTPUT_BYTES + 1
NEARLY = LIMIT - 1000


@pytest.fixture
def large(run, monkeypatch):
    """Return a function that runs a node with an output of so many letters and returns its recording."""

    def make(size, seed=1):
        text = random.Random(seed).randbytes(size // 2 + 1).hex()[:size]
        monkeypatch.setitem(edge_nodes.VALUES, "large", text)
        execution = run(
            [node("big", "test_gives", Kind="large"), node("small", "test_gives", Kind="nan")], name=f"large {seed}"
        )
        assert execution.status == "completed", execution.error
        return Recording.objects.get(execution_id=execution.pk), text

    return make


@pytest.mark.row("S0-38")
@pytest.mark.parametrize("size", [ABOVE_ROW, NEARLY])
def test_a_large_output_is_the_same_in_rows_sealed_and_in_every_copy(large, size, tmp_path, alice):
    storage = DatabaseRecordingStorage()
    (one, text), (two, _) = large(size), large(size, 2)
    client = logged_in(alice)
    client.get(reverse("admin:recordings_recording_change", args=(two.pk,)))  # loads the code of all pages, once
    tracemalloc.start()
    try:
        for form in ("rows", "sealed"):
            if form == "sealed":
                assert seal(one)
                assert seal(two)
                one.refresh_from_db()
            with storage.load_sync(str(one.pk)) as replayer, storage.load_sync(str(two.pk)) as other:
                values = [
                    event.data["outputs"]["Value"]
                    for event in replayer.step_forward()
                    if event.node_id == "big" and "outputs" in event.data
                ]
                assert values == [text]
                assert replayer.get_state_at_position(len(replayer.events) - 1)["$nodes"]["big"]["Value"] == text
                difference = replayer.compare(other)
                assert list(difference["output_diff"]) == ["big"]
                assert len(str(difference["output_diff"])) < 400_000
            page = client.get(reverse("admin:recordings_recording_change", args=(one.pk,)))
            assert page.status_code == 200
            assert len(page.content) < 200_000
        assert tracemalloc.get_traced_memory()[1] < 12 * size + (8 << 20)
    finally:
        tracemalloc.stop()

    assert one.file_size_bytes < 20_000
    assert sum(len(data) for data in Event.objects.values_list("data", flat=True)) < 20_000
    for name in ("copy.json.gz", "copy.fbrec"):
        files = FileRecordingStorage(tmp_path / f"of {name}")
        storage.export_sync(str(one.pk), tmp_path / name)
        identifier = files.import_file_sync(tmp_path / name)
        with files.load_sync(identifier) as copy, storage.load_sync(str(one.pk)) as original:
            copy.verify()
            assert copy.compare(original)["identical"]


def test_an_output_above_the_limit_fails_its_node_and_leaves_no_blob(run, monkeypatch):
    monkeypatch.setitem(edge_nodes.VALUES, "large", "x" * 24_000_000)

    execution = run([node("big", "test_gives", Kind="large")])

    assert execution.status == "failed"
    assert "24,000,0" in execution.error
    assert "16 MiB" in execution.error
    assert Blob.objects.count() == 0


def test_a_page_of_events_ends_where_its_values_are_large(large, monkeypatch, alice):
    monkeypatch.setattr("recordings.api.PAGE_BYTES", ABOVE_ROW)
    recording, text = large(ABOVE_ROW)
    client = logged_in(alice)
    url, items, pages = reverse("api:recording_events", args=(recording.pk,)), [], 0
    after: int | None = 0
    while after is not None:
        answer = json.loads(client.get(url, {"after": after}).content)
        items += answer["items"]
        after, pages = answer["next"], pages + 1

    assert pages == 2
    assert [item["seq"] for item in items] == list(range(1, recording.event_count + 1))
    assert any(item["data"].get("outputs", {}).get("Value") == text for item in items)


def test_logs_hold_the_values_of_one_event_at_a_time(run, monkeypatch, alice):
    monkeypatch.setitem(edge_nodes.VALUES, "large", "x" * (4 << 20))
    execution = run([node(f"big{number}", "test_gives", Kind="large") for number in range(10)])
    recording = Recording.objects.get(execution_id=execution.pk)
    client, url = logged_in(alice), f"/api/v1/executions/{execution.pk}/logs"
    everything = list(range(1, recording.event_count + 1))
    client.get(url, {"after": recording.event_count - 1})  # loads the code, once
    for form in ("rows", "sealed"):
        assert form == "rows" or seal(recording)
        tracemalloc.start()
        try:
            shown, pages = [], 0
            after: int | None = 0
            while after is not None:
                page = json.loads(client.get(url, {"after": after}).content)
                shown += [log["seq"] for log in page["logs"]]
                after, pages = page["next_after"], pages + 1
            frames: list[Entry] = []
            more, sent = True, 0
            while more:
                frames, more = load_page(execution.pk, sent)
                sent = frames[-1].seq if frames else sent
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (shown, sent) == (everything, len(everything))
        assert pages > 1
        assert peak < 30 << 20, form


def test_a_lost_blob_costs_its_value_and_nothing_else(large):
    storage, (recording, _) = DatabaseRecordingStorage(), large(ABOVE_ROW)
    sha256 = Blob.objects.get().pk
    storages["blobs"].delete(f"{sha256[:2]}/{sha256}")

    def seen():
        with storage.load_sync(str(recording.pk)) as replayer:
            events = list(replayer.events)
        return [(event.seq, event.data) for event in events]

    rows = seen()
    (lost,) = [data for _, data in rows if data.get("outputs_missing")]
    assert lost["outputs"] == {"$blob": sha256}
    assert seal(recording)
    recording.refresh_from_db()
    assert seen() == rows
    with storage.load_sync(str(recording.pk)) as replayer, pytest.raises(BlobMissing, match=sha256[:12]):
        replayer.get_state_at_position(len(replayer.events) - 1)
