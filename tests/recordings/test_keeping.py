"""What goes, what stays, and that nothing is left behind, also when a process is killed in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.utils import timezone

from executions import retry
from executions.models import Execution, NodeRun
from executions.triggers import cancel_execution, start_execution
from recordings import DatabaseRecordingStorage, RetentionPolicy, keeping, patience, removing, retention, tasks
from recordings.blobs import read_blob, save_blob, sweep_blobs
from recordings.errors import BlobMissing, RecordingError, RecordingProtected
from recordings.models import Blob, BlobRef, Event, NotRecorded, Recording, StoredFile
from recordings.packing import seal
from recordings.removing import delete_recording
from recordings.rows import open_sealed
from tests.conftest import graph, node, test_environment, wire
from tests.environment import ROOT
from tests.executions.test_engine import transform
from tests.recordings.conftest import record_run

pytestmark = pytest.mark.postgres

Make = Callable[..., Recording]
CONTENT = b"a large output " * 4000
DAY = timedelta(days=1)


@pytest.fixture
def finish(transactional_db: None, alice: Any, make_workflow: Any, settings: Any) -> Callable[..., Execution]:
    """Return a function that gives an ended execution with the big output of a node."""

    def make(content: bytes, name: str = "", **fields: Any) -> Execution:
        workflow = make_workflow(graph([node("one", "delay", Duration=1)]), name=name or uuid.uuid4().hex)
        execution: Execution = start_execution(workflow, by=alice)
        NodeRun.objects.create(
            execution=execution, phase_index=0, node_index=7, node_id="big", node_type="http_request",
            status="completed", outputs_blob=save_blob(content, "application/json", execution.pk), **fields,
        )  # fmt: skip
        cancel_execution(execution, by="alice")
        execution.refresh_from_db()
        return execution

    return make


def files() -> set[str]:
    """Return the names of the files that the blobs storage holds."""
    try:
        root = Path(storages["blobs"].path(""))
    except NotImplementedError:
        return set(StoredFile.objects.values_list("name", flat=True))
    return {str(path.relative_to(root)) for path in root.glob("*/*")}


# --------------------------------------------------------------------------- executions without recording


def test_events_and_outputs_of_what_is_not_kept_go_after_the_grace_period(
    finish: Callable[..., Execution], settings: Any
) -> None:
    settings.RECORDING, settings.EVENT_GRACE_SECONDS = "off", 60
    execution = finish(b'{"text": "large"}')
    name = execution.node_runs.get(node_id="big").outputs_blob

    assert tasks.purge_events() == 0
    assert read_blob(name)
    NotRecorded.objects.update(ended_at=timezone.now() - timedelta(seconds=61))
    assert tasks.purge_events() > 0
    assert tasks.purge_events() == 0

    assert not Event.objects.filter(execution_id=execution.pk).exists()
    assert not BlobRef.objects.filter(execution_id=execution.pk).exists()
    with pytest.raises(BlobMissing):
        read_blob(name)
    assert json.loads(execution.node_runs.get(node_id="big").outputs) == {"$removed": True}
    assert NotRecorded.objects.get().reason.startswith("this installation keeps the recordings 'off'")


def test_what_has_begun_to_go_cannot_be_kept_any_more(
    finish: Callable[..., Execution], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RECORDING = "off"
    monkeypatch.setattr(removing, "PURGE_ROWS", 1)
    execution = finish(b"output")
    assert keeping.keepable(execution.pk)

    assert removing.remove_leftovers([execution.pk], 1) == 1

    assert Event.objects.filter(execution_id=execution.pk).exists(), "the rest goes with the next call"
    assert not keeping.keepable(execution.pk)
    with pytest.raises(RecordingError, match="its events are gone"):
        keeping.keep(execution.pk)


def test_what_a_running_parent_may_still_read_stays(finish: Callable[..., Execution], settings: Any) -> None:
    settings.RECORDING, settings.EVENT_GRACE_SECONDS = "off", 0
    root, middle, leaf = (finish(f"output {number}".encode()) for number in range(3))
    Execution.objects.filter(pk=leaf.pk).update(parent=middle)
    Execution.objects.filter(pk=middle.pk).update(parent=root)
    Execution.objects.filter(pk=root.pk).update(status="paused")
    NotRecorded.objects.filter(pk=root.pk).delete()

    assert tasks.purge_events() == 0
    assert read_blob(leaf.node_runs.get(node_id="big").outputs_blob) == b"output 2"
    Execution.objects.filter(pk=root.pk).update(status="completed")
    assert tasks.purge_events() > 0

    assert set(BlobRef.objects.values_list("execution_id", flat=True)) == {root.pk}


def half_done(make_workflow: Any, alice: Any) -> tuple[Execution, str]:
    """Return an execution that ended after the first of its two nodes, whose outputs are a blob, and that blob's SHA-256."""
    chain = graph([transform("one"), transform("two")], wire("one", "Done", "two", "Execute Condition"))
    execution = start_execution(make_workflow(chain), by=alice)
    output = save_blob(b"{}", "application/json", execution.pk)
    for index, status, blob in ((0, "completed", output), (1, "failed", "")):
        NodeRun.objects.create(
            execution=execution, phase_index=index, node_index=index, node_id=("one", "two")[index],
            node_type="json_transform", status=status, outputs_blob=blob,
        )  # fmt: skip
    cancel_execution(execution, by="alice")
    return execution, output


def test_a_retry_runs_again_what_gave_removed_outputs(
    transactional_db: None, alice: Any, make_workflow: Any, settings: Any
) -> None:
    settings.RECORDING, settings.EVENT_GRACE_SECONDS = "off", 0
    execution, _ = half_done(make_workflow, alice)

    assert [run.node_id for run in retry._kept(execution)] == ["one"]
    tasks.purge_events()

    assert retry._kept(execution) == []


def test_outputs_that_a_retry_took_over_stay_when_the_first_recording_goes(
    transactional_db: None, alice: Any, make_workflow: Any
) -> None:
    execution, output = half_done(make_workflow, alice)
    execution.refresh_from_db()

    again = retry.retry_execution(execution, alice, from_failed=True)
    cancel_execution(again, by="alice")
    delete_recording(Recording.objects.get(execution_id=execution.pk))

    assert BlobRef.objects.get().execution_id == again.pk
    assert read_blob(output) == b"{}"


# --------------------------------------------------------------------------- retention


def test_dry_run_and_real_run_of_the_nightly_job_name_the_same(
    make_execution: Make, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.RECORDING_DAYS, settings.RETENTION = 30, {"max_count": 5, "tags_to_keep": ["gold"]}
    small = uuid.uuid4()
    monkeypatch.setattr(keeping, "WORKFLOW_RETENTION", lambda: {small: {"max_age_days": 5, "max_count": 2}})
    ages: list[tuple[float, dict[str, Any]]] = [
        (1, {}), (2, {}), (31, {}), (31, {"success": False}), (91, {"success": False}), (400, {"tags": ["gold"]}),
        (500, {"tags": ["legal-hold"]}), (3, {}), (1, {"workflow_id": small}), (2, {"workflow_id": small}),
        (6, {"workflow_id": small}), (14, {"workflow_id": small, "success": False}), (16, {"workflow_id": small, "success": False}),
    ]  # fmt: skip
    made = [make_execution(age_days=age, **{"success": True, **fields}) for age, fields in ages]

    dry = keeping.apply_retention(dry_run=True)
    assert Recording.objects.count() == len(made)
    assert tasks.retention() == len(dry["candidate_ids"])

    gone = {str(recording.pk) for recording in made} - {
        str(key) for key in Recording.objects.values_list("pk", flat=True)
    }
    assert gone == set(dry["candidate_ids"])
    assert gone == {str(made[number].pk) for number in (2, 4, 7, 9, 10, 12)}
    assert dry["kept_by_rule"] == {"fresh": 3, "failed": 2, "tag": 1, "legal-hold": 1}
    assert dry["total_recordings"] == len(made)
    reasons = set(NotRecorded.objects.values_list("reason", flat=True))
    assert reasons == {"its recording was removed by retention"}


def test_the_size_of_what_is_not_sealed_yet_counts(make_execution: Make) -> None:
    old, young = make_execution(age_days=2, workflow_name="old"), make_execution(age_days=1, workflow_name="young")
    seal(old)
    old.refresh_from_db()
    size = old.file_size_bytes or 0
    assert young.execution_id is not None
    texts = Event.objects.filter(execution_id=young.execution_id).values_list("data", flat=True)
    waiting = sum(len(text) + removing.ROW_BYTES for text in texts)

    assert retention.sizes_by_workflow() == sorted(
        [
            {"workflow": "old", "recordings": 1, "bytes": size},
            {"workflow": "young", "recordings": 1, "bytes": waiting},
        ],
        key=lambda item: -int(str(item["bytes"])),
    )
    storage = DatabaseRecordingStorage()
    assert storage.get_storage_stats_sync()["total_size_bytes"] == size + waiting
    policy = RetentionPolicy(max_size_gb=(waiting + 1) / (1 << 30), keep_failed=False)
    assert storage.apply_retention_policy_sync(policy, dry_run=True)["candidate_ids"] == [str(old.pk)]
    assert storage.apply_retention_policy_sync(policy)["deleted_ids"] == [str(old.pk)]


def test_legal_hold_protects_from_every_removal(storage: Any, tmp_path: Path) -> None:
    recording_id = storage.save_sync(record_run(tags=["legal-hold"]))

    everything = RetentionPolicy(max_age_days=0, max_count=0, max_size_gb=0, keep_failed=False)
    assert storage.apply_retention_policy_sync(everything)["kept_by_rule"] == {"legal-hold": 1}
    with pytest.raises(RecordingProtected, match=f'{recording_id[:8]}.* is protected by its tag "legal-hold"'):
        storage.delete_sync(recording_id)
    assert len(storage.load_sync(recording_id).events) > 0

    storage.tag_sync(recording_id, remove=["legal-hold"])
    assert storage.delete_sync(recording_id)


def test_a_hold_that_comes_after_the_plan_still_protects(make_execution: Make) -> None:
    recording = make_execution()
    assert recording.execution_id is not None
    Recording.objects.update(tags=["legal-hold"])

    with pytest.raises(RecordingProtected):
        delete_recording(recording)

    assert Event.objects.filter(execution_id=recording.execution_id).count() == recording.event_count


# --------------------------------------------------------------------------- killed in between

KILLED = """
import json, os, signal
from django.core.files.storage import storages
from django.db import connections
from uuid import UUID
from recordings import blobs, removing

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def kill_at(place):
    if place == "file":
        delete = type(storages["blobs"]).delete
        type(storages["blobs"]).delete = lambda self, name: (delete(self, name), deleted.append(name), deleted[1:] and die())
    elif place == "ticked":
        removing.remove_blobs = die
    elif place == "early":
        blobs.refer = die
    else:
        setattr(removing, place, die)

deleted = []
for place, names in json.loads(os.environ["PLACES"]):
    child = os.fork()
    if not child:
        kill_at(place)
        if place == "early":
            blobs.save_blob(b"never finished", "text/plain", names[0])
        else:
            removing.delete_recordings([UUID(name) for name in names], "it is old")
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.row("S0-34")
def test_a_kill_at_any_step_of_a_removal_leaves_nothing_that_the_next_sweep_does_not_find(
    finish: Callable[..., Execution],
) -> None:
    """Each process removes two recordings together; one blob is shared by all, and by one that is kept."""
    places = ["drop_references", "remove_leftovers", "_tick_off", "ticked", "file", "early"]
    kept = finish(CONTENT)
    executions = [[finish(f"output {number} of {place}".encode()) for number in range(2)] for place in places]
    for execution, _ in executions:
        shared = save_blob(CONTENT, "application/json", execution.pk)
    recordings = {row.execution_id: row for row in Recording.objects.all()}
    for recording in recordings.values():
        seal(recording)
    wanted = [
        (place, [str(execution.pk if place == "early" else recordings[execution.pk].pk) for execution in two])
        for place, two in zip(places, executions, strict=True)
    ]
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", KILLED], cwd=ROOT, text=True, check=False,
        env={**test_environment(), "PLACES": json.dumps(wanted)}, capture_output=True,
    )  # fmt: skip
    assert done.stdout.split() == ["-9"] * len(places), done.stdout + done.stderr
    assert read_blob(shared) == CONTENT
    whole = {execution.pk for two in (executions[0], executions[-1]) for execution in two}
    assert set(Recording.objects.values_list("execution_id", flat=True)) == {kept.pk, *whole}
    for key in whole:
        with open_sealed(Recording.objects.get(execution_id=key)) as sealed:
            sealed.verify().check()
        assert Event.objects.filter(execution_id=key).count() == recordings[key].event_count
        assert delete_recording(recordings[key])
    assert NotRecorded.objects.filter(events_removed_at=None).count() == 4
    assert Blob.objects.filter(refs=None).exists()

    keeping.purge_unrecorded(timezone.now() + DAY, 10_000)
    sweep_blobs(timezone.now() + DAY)

    assert not NotRecorded.objects.filter(events_removed_at=None).exists()
    assert set(Event.objects.values_list("execution_id", flat=True)) == {kept.pk}
    assert set(BlobRef.objects.values_list("execution_id", flat=True)) == {kept.pk}
    names = set(Blob.objects.values_list("pk", flat=True))
    assert names == {shared, Recording.objects.get(execution_id=kept.pk).sealed}
    assert files() == {f"{name[:2]}/{name}" for name in names}
    assert all(read_blob(name) for name in names)
    gone = NodeRun.objects.filter(node_id="big").exclude(execution=kept)
    assert set(gone.values_list("outputs", "outputs_blob")) == {(NodeRun.REMOVED, "")}


def test_young_files_without_a_row_are_left_alone_and_old_ones_are_swept(blobs: str) -> None:
    kept = save_blob(b"kept", "text/plain", uuid.uuid4())
    if blobs == "rows":
        assert sweep_blobs(timezone.now() + DAY) == 0
        return
    root = Path(storages["blobs"].path(""))
    lone = [root / name[:2] / name for name in ("a" * 64, "b" * 64, f".{'c' * 64}.x.tmp")]
    for number, path in enumerate(lone):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left behind")
        if number:
            os.utime(path, (1, 1))

    tasks.retention()

    assert [path.exists() for path in lone] == [True, False, False]
    assert read_blob(kept) == b"kept"


def test_the_sweep_takes_everything_in_batches(blobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recordings.blobs.SWEEP_BLOBS", 3)
    owner = uuid.uuid4()
    for number in range(10):
        save_blob(f"{number}".encode(), "text/plain", owner)
    BlobRef.objects.all().delete()
    kept = save_blob(b"5", "text/plain", uuid.uuid4())

    assert sweep_blobs(timezone.now() + DAY) == 9

    assert read_blob(kept) == b"5"


def test_periodic_work_begins_nothing_more_in_a_process_that_ends(
    make_execution: Make, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    recording = make_execution(age_days=1000)
    settings.RECORDING_DAYS = 1
    monkeypatch.setattr(patience, "_ending", threading.Event())

    patience.end()

    assert (tasks.seal_finished(), tasks.purge_events(), tasks.retention()) == (0, 0, 0)
    assert Recording.objects.get() == recording
    monkeypatch.setattr(patience, "_ending", threading.Event())
    assert tasks.retention() == 1
