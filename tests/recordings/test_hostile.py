"""Strange JSON files: one clear error that names file and place, never a traceback of something else."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recordings import (
    ExecutionReplayer,
    FileRecordingStorage,
    InMemoryRecordingStorage,
    InvalidRecording,
    RecordingNotFound,
    SealedRecording,
    export,
)
from recordings.events import plain, restore
from recordings.shapes import DEPTH_LIMIT
from tests.environment import ROOT
from tests.recordings.conftest import record_run


def written(path: Path) -> dict[str, Any]:
    """Return the content of a recording without its checksum, so that changes are not noticed by that."""
    recorder = record_run(record_state_snapshots=True)
    recorder.record_state_snapshot({"total": 3})
    recorder.save_sync(path)
    whole: dict[str, Any] = json.loads(path.read_text())
    del whole["metadata"]["checksum"]
    return whole


def put(value: Any, *place: Any) -> Callable[[dict[str, Any]], None]:
    """Return a function that sets one value deep in a recording."""

    def change(whole: Any) -> None:
        for step in place[:-1]:
            whole = whole[step]
        whole[place[-1]] = value

    return change


def read_all(path: Path) -> None:
    """Ask a recording everything."""
    replayer = ExecutionReplayer.load(path)
    for event in replayer.step_forward():
        replayer.get_state_at_event(event.event_id)
    replayer.compare(replayer)
    replayer.visualize()
    export.to_summary(replayer)
    export.to_json(replayer)


@pytest.mark.parametrize("packed", [False, True])
def test_what_only_python_writes_as_json_is_read(tmp_path: Path, packed: bool) -> None:
    """The specification's own files are of ``json.dumps``: numbers that are none, and halves of surrogate pairs."""
    whole = written(tmp_path / "a.json")
    values = {"none": float("nan"), "most": float("inf"), "least": float("-inf"), "half": "x\ud800y", "n": 0.5}
    put(values, "events", 2, "data", "outputs")(whole)
    text = b"\xef\xbb\xbf" + json.dumps(whole, indent=2).encode()
    path = tmp_path / ("b.json.gz" if packed else "b.json")
    path.write_bytes(gzip.compress(text) if packed else text)

    storage = InMemoryRecordingStorage()
    replayer = storage.load_sync(storage.import_file_sync(path))
    outputs = replayer.events[2].data["outputs"]
    read_all(path)

    assert outputs == {**{key: plain(value) for key, value in values.items()}, "half": "x\\ud800y"}
    assert restore(outputs)["most"] == float("inf")


def test_a_moment_that_is_no_number_is_refused_with_its_place(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.json")
    put(float("nan"), "events", 1, "timestamp")(whole)
    (tmp_path / "a.json").write_text(json.dumps(whole))

    with pytest.raises(InvalidRecording, match="event 2: timestamp"):
        ExecutionReplayer.load(tmp_path / "a.json")


def test_a_directory_is_no_file_to_recover(tmp_path: Path) -> None:
    with pytest.raises(RecordingNotFound, match="not a file"):
        SealedRecording.recover(tmp_path)


@pytest.mark.row("S0-40")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put([5], "snapshots"), "snapshot 1: Expected `object`, got `int`"),
        (put([1], "events", 2, "data"), "event 3: data: Expected `object | null`, got `array`"),
        (put("x", "events", 0, "data"), "event 1: data: Expected `object | null`, got `str`"),
        (put(7, "events", 1, "metadata"), "event 2: metadata: Expected `object | null`, got `int`"),
        (put(None, "events", 1), "event 2: Expected `object`, got `null`"),
        (put("noon", "events", 1, "timestamp"), "event 2: timestamp: Expected `float`, got `str`"),
        (put(1e300, "events", 1, "timestamp"), "event 2: timestamp: Expected `float` <= "),
        (put(5, "events", 4, "event_type"), "event 5: event_type: Expected `str`, got `int`"),
        (put([], "events", 4, "event_id"), "event 5: event_id: Expected `str`, got `array`"),
        (put({}, "events"), "events: Expected `array | null`, got `object`"),
        (put("now", "metadata", "started_at"), "metadata: started_at: Expected `float`, got `str`"),
        (put([1], "metadata", "duration_seconds"), "metadata: duration_seconds: Expected"),
        (put(-1, "metadata", "node_count"), "metadata: node_count: Expected `int` >= 0"),
        (put([1], "metadata", "tags"), "metadata: tags: [0]: Expected `str`, got `int`"),
        (put(None, "metadata", "recording_id"), "metadata: recording_id: Expected `str`, got `null`"),
        (put([], "snapshots", 0, "state"), "snapshot 1: state: Expected `object`, got `array`"),
        (lambda whole: whole["metadata"].pop("workflow_name"), "metadata: Object missing required field"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = tmp_path / "strange.json"
    whole = written(path)
    change(whole)
    path.write_text(json.dumps(whole))

    with pytest.raises(InvalidRecording) as caught:
        ExecutionReplayer.load(path)

    assert str(caught.value).startswith(f"{path}: not a recording: {message}")


@pytest.mark.row("S0-40")
@pytest.mark.parametrize("text", ["[" * 100_000, '{"metadata": ' * 50_000, '{"a":' * 300 + "1" + "}" * 300])
def test_deep_nesting_is_refused_before_it_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "deep.json"
    path.write_text(text)

    with pytest.raises(InvalidRecording, match=rf"deep\.json: .*nested more than {DEPTH_LIMIT} levels"):
        ExecutionReplayer.load(path)


def test_brackets_in_texts_are_no_nesting(tmp_path: Path) -> None:
    recorder = record_run()
    recorder.record_node_complete("n", {"Html": "[{" * 1000 + '"\\'})
    recorder.save_sync(tmp_path / "x.json")

    assert ExecutionReplayer.load(tmp_path / "x.json").events[-1].data["outputs"]["Html"].endswith('[{"\\')


@pytest.mark.parametrize("compress", [False, True])
def test_the_size_of_what_a_file_holds_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: bool
) -> None:
    path = tmp_path / "bomb.json"
    text = b'{"metadata": ' + b" " * 5_000_000
    path.write_bytes(gzip.compress(text) if compress else text)
    monkeypatch.setattr(export, "JSON_LIMIT_BYTES", 1_000_000)

    with pytest.raises(InvalidRecording, match=r"bomb\.json: it holds more than 1,000,000 bytes of JSON"):
        ExecutionReplayer.load(path)


@pytest.mark.row("S0-40")
def test_a_thousand_changed_files_give_an_answer_or_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    whole = written(path)
    values: list[Any] = [None, True, -1, 1e308, 10**30, "", "x\0\u2028", [], [[]], {}, {"$type": "set", "value": 3}]
    chance = random.Random(7)
    errors: list[str] = []

    for _ in range(1000):
        changed = json.loads(json.dumps(whole))
        places = list(_places(changed))
        for place in chance.sample(places, 2):
            try:
                put(chance.choice(values), *place)(changed)
            except (KeyError, IndexError, TypeError):
                continue  # the first change took this place away
        path.write_text(json.dumps(changed))
        try:
            read_all(path)
        except InvalidRecording as error:
            errors.append(str(error))

    assert 100 < len(errors) < 1000
    assert [error for error in errors if not error.startswith(f"{path}: ")] == []


def _places(value: Any, above: tuple[Any, ...] = ()) -> Any:
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*above, key)
        if isinstance(item, dict | list):
            yield from _places(item, (*above, key))


def test_a_storage_lives_with_strange_files(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    good = storage.save_sync(record_run())
    whole = written(tmp_path / "x.json")
    whole["metadata"]["started_at"] = "then"
    (storage.recordings_dir / "strange.json").write_text(json.dumps(whole))
    (storage.recordings_dir / "deep.json").write_text("[" * 100_000)

    assert [item["recording_id"] for item in storage.list_sync()] == [good]
    assert storage.rebuild_index() == 1
    with pytest.raises(InvalidRecording, match=r"strange\.json: not a recording: metadata: started_at"):
        storage.load_sync("strange")
    with pytest.raises(InvalidRecording, match="nested"):
        storage.import_file_sync(storage.recordings_dir / "deep.json")
    assert storage.cleanup_empty_files_sync() == 2


def test_the_command_says_one_line(tmp_path: Path) -> None:
    storage = FileRecordingStorage(tmp_path / "data")
    path = storage.recordings_dir / "deep.json"
    path.write_text("[" * 100_000)

    done = subprocess.run(
        [sys.executable, "manage.py", "recordings", "verify", "deep", "--storage", str(tmp_path / "data")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert "nested more than" in " ".join((done.stderr + done.stdout).split())
