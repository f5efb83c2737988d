"""Record, store and replay what workflows do.

    from recordings import record_workflow, ExecutionReplayer

    with record_workflow("my_workflow") as recorder:
        recorder.record_node_start("fetch", {"url": "https://example.com"})
        recorder.record_node_complete("fetch", {"status": 200}, duration_seconds=0.4)
    recorder.save_sync("run.fbrec")

    replayer = ExecutionReplayer.load("run.fbrec")
    for event in replayer.step_forward():
        print(event.event_type.value, replayer.get_state_at_event(event.event_id))

All names but ``DatabaseRecordingStorage`` work without Django settings. Modules are imported when one
of their names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recordings.context import (
        RecordingConfig,
        carry_recording,
        disable_workflow_recording,
        enable_workflow_recording,
        get_current_recorder,
        record_node_execution_complete,
        record_node_execution_start,
        record_recursion_enter,
        record_recursion_exit,
        record_state_snapshot,
        record_workflow,
        save_workflow_recording,
        save_workflow_recording_sync,
    )
    from recordings.database import DatabaseRecordingStorage as DatabaseRecordingStorage
    from recordings.errors import (
        BlobMissing,
        DamagedRecording,
        InvalidRecording,
        RecordingError,
        RecordingNotFound,
        UnsupportedVersion,
    )
    from recordings.events import RecordingEvent, RecordingEventType, RecordingMetadata, StateSnapshot
    from recordings.recorder import ExecutionRecorder
    from recordings.redaction import Redactor
    from recordings.replayer import ExecutionReplayer
    from recordings.retention import RetentionPolicy
    from recordings.sealed import SealedRecording, SealedWriter
    from recordings.storage import (
        FileRecordingStorage,
        InMemoryRecordingStorage,
        RecordingQuery,
        RecordingStorage,
        StorageBackend,
    )

_MODULES = {
    "context": (
        "RecordingConfig",
        "carry_recording",
        "disable_workflow_recording",
        "enable_workflow_recording",
        "get_current_recorder",
        "record_node_execution_complete",
        "record_node_execution_start",
        "record_recursion_enter",
        "record_recursion_exit",
        "record_state_snapshot",
        "record_workflow",
        "save_workflow_recording",
        "save_workflow_recording_sync",
    ),
    "database": ("DatabaseRecordingStorage",),
    "errors": (
        "BlobMissing",
        "DamagedRecording",
        "InvalidRecording",
        "RecordingError",
        "RecordingNotFound",
        "UnsupportedVersion",
    ),
    "events": ("RecordingEvent", "RecordingEventType", "RecordingMetadata", "StateSnapshot"),
    "recorder": ("ExecutionRecorder",),
    "redaction": ("Redactor",),
    "replayer": ("ExecutionReplayer",),
    "retention": ("RetentionPolicy",),
    "sealed": ("SealedRecording", "SealedWriter"),
    "storage": (
        "FileRecordingStorage",
        "InMemoryRecordingStorage",
        "RecordingQuery",
        "RecordingStorage",
        "StorageBackend",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = [
    "BlobMissing",
    "DamagedRecording",
    "ExecutionRecorder",
    "ExecutionReplayer",
    "FileRecordingStorage",
    "InMemoryRecordingStorage",
    "InvalidRecording",
    "RecordingConfig",
    "RecordingError",
    "RecordingEvent",
    "RecordingEventType",
    "RecordingMetadata",
    "RecordingNotFound",
    "RecordingQuery",
    "RecordingStorage",
    "Redactor",
    "RetentionPolicy",
    "SealedRecording",
    "SealedWriter",
    "StateSnapshot",
    "StorageBackend",
    "UnsupportedVersion",
    "carry_recording",
    "disable_workflow_recording",
    "enable_workflow_recording",
    "get_current_recorder",
    "record_node_execution_complete",
    "record_node_execution_start",
    "record_recursion_enter",
    "record_recursion_exit",
    "record_state_snapshot",
    "record_workflow",
    "save_workflow_recording",
    "save_workflow_recording_sync",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
