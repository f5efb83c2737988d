"""The recorder of the code that runs now, and the shortest ways to record something."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import traceback
from collections.abc import Callable, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, cast

from recordings.events import RecordingEventType
from recordings.recorder import ExecutionRecorder

if TYPE_CHECKING:
    from recordings.recorder import OpensWriters
    from recordings.storage import RecordingStorage

Ahead: TypeAlias = "str | os.PathLike[str] | OpensWriters"
_Current = ExecutionRecorder | Callable[[], ExecutionRecorder]
_current: ContextVar[_Current | None] = ContextVar("current_recorder", default=None)
_last: ContextVar[ExecutionRecorder | None] = ContextVar("last_recorder", default=None)
_Function = TypeVar("_Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_NOWHERE = "save_workflow_recording needs a file path or a storage"
_ENDS = (RecordingEventType.WORKFLOW_COMPLETE, RecordingEventType.WORKFLOW_ERROR)


def get_current_recorder() -> ExecutionRecorder | None:
    """Return the recorder of this task or thread, or None. Concurrent tasks have their own.

    Inside a node, on a worker too, what is recorded with it goes into the recording of the node's execution.
    Outside of a recording it is that of the last run which ``executions.local`` made here, until the next run
    or recording begins, so that a run can be saved once it is known how it went.
    """
    return _recording() or _last.get()


def active_recorder() -> ExecutionRecorder | None:
    """Return the recorder that keeps events now: not one whose run has ended, nor that of a node."""
    current = _current.get()
    return current if isinstance(current, ExecutionRecorder) else None


def _recording() -> ExecutionRecorder | None:
    current = _current.get()
    return current if current is None or isinstance(current, ExecutionRecorder) else current()


def keep_last(recorder: ExecutionRecorder | None) -> None:
    """Let ``get_current_recorder`` return the recorder of a run that has ended; None forgets the last one."""
    _last.set(recorder)


def record_into(recorder: _Current) -> None:
    """Let ``recorder``, or what it returns when somebody asks, be the current one of this task or thread."""
    _current.set(recorder)


def carry_recording(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return ``function`` so that it runs with the current recorder of here, in whatever thread it is called.

    ``threading.Thread`` and pools start without a recorder: ``Thread(target=carry_recording(work))``,
    ``pool.submit(carry_recording(work), 1)``. ``asyncio.to_thread`` and tasks need no help.
    """
    recorder = _current.get()

    @functools.wraps(function)
    def carried(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        token = _current.set(recorder)
        try:
            return function(*args, **kwargs)
        finally:
            _current.reset(token)

    return carried


def enable_workflow_recording(
    workflow_name: str,
    record_inputs: bool = True,
    record_outputs: bool = True,
    record_state_snapshots: bool = False,
    compress: bool | None = None,
    tags: Sequence[str] | None = None,
    write_ahead: Ahead | None = None,
) -> ExecutionRecorder:
    """Make a recorder, let it be the current one, and return it; with ``write_ahead`` see ``record_workflow``."""
    recorder = ExecutionRecorder(
        workflow_name,
        record_inputs=record_inputs,
        record_outputs=record_outputs,
        record_state_snapshots=record_state_snapshots,
        compress=compress,
        tags=tags,
    )
    if write_ahead is not None:
        recorder.write_ahead(write_ahead)
    _current.set(recorder)
    _last.set(None)
    return recorder


def disable_workflow_recording() -> None:
    """Stop recording in this task or thread, and forget the last recorder."""
    _current.set(None)
    _last.set(None)


class record_workflow:
    """Record a block or a function: ``with``, ``async with``, or a decorator of a plain or async function.

    At the end the recorder is finalized, also after an exception, which is recorded as ``workflow_error``
    first. Nothing is saved, but with ``write_ahead``, the path of a new ``.fbrec`` file or the storage of the database,
    events are kept there while they happen; see ``ExecutionRecorder.write_ahead``. A decorated function that is called
    more than once needs a storage for it. Blocks may be nested: the outer recorder comes back.
    """

    def __init__(
        self,
        workflow_name: str,
        record_inputs: bool = True,
        record_outputs: bool = True,
        record_state_snapshots: bool = False,
        compress: bool | None = None,
        tags: Sequence[str] | None = None,
        write_ahead: Ahead | None = None,
    ) -> None:
        self._write_ahead = write_ahead
        self._arguments: dict[str, Any] = {
            "workflow_name": workflow_name,
            "record_inputs": record_inputs,
            "record_outputs": record_outputs,
            "record_state_snapshots": record_state_snapshots,
            "compress": compress,
            "tags": tags,
        }
        self._entered: list[tuple[ExecutionRecorder, Token[_Current | None]]] = []

    def __enter__(self) -> ExecutionRecorder:
        """Start recording."""
        recorder = ExecutionRecorder(**self._arguments)
        if self._write_ahead is not None:
            recorder.write_ahead(self._write_ahead)
        self._entered.append((recorder, _current.set(recorder)))
        _last.set(None)
        return recorder

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record the exception if there is one, finalize, and bring back what was current before."""
        recorder, token = self._entered.pop()
        try:
            if error is not None and not any(event.event_type in _ENDS for event in recorder.events[-1:]):
                recorder.record_workflow_complete(
                    None,
                    success=False,
                    error=f"{type(error).__name__}: {error}",
                    error_type=type(error).__qualname__,
                    traceback="".join(traceback.format_exception(error)),
                )
            recorder.finalize()
        finally:
            try:
                _current.reset(token)
            except ValueError:  # left in another context than it was entered in
                _current.set(None if token.old_value is Token.MISSING else cast(Any, token.old_value))

    async def __aenter__(self) -> ExecutionRecorder:
        """Start recording."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End recording."""
        self.__exit__(kind, error, trace)

    def _again(self) -> Self:
        return type(self)(**self._arguments, write_ahead=self._write_ahead)

    def __call__(self, function: _Function) -> _Function:
        """Record every call of ``function``; inside, ``get_current_recorder()`` is its recorder.

        Raises:
            TypeError: it is a generator, of which a call runs nothing yet; record where its items are used.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"record_workflow cannot record the generator {function.__qualname__}: use it with 'with'")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def recorded_async(*args: Any, **kwargs: Any) -> Any:
                async with self._again():
                    return await function(*args, **kwargs)

            return cast(_Function, recorded_async)

        @functools.wraps(function)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return function(*args, **kwargs)

        return cast(_Function, recorded)


async def save_workflow_recording(
    recorder: ExecutionRecorder,
    filepath: str | os.PathLike[str] | None = None,
    storage: RecordingStorage | None = None,
) -> dict[str, Any]:
    """Save to a storage, or to a file, and return the metadata.

    Raises:
        ValueError: neither is given.
    """
    if storage is not None:
        identifier = await storage.save(recorder, filepath)
        return await storage.get_metadata(identifier) or recorder.finalize().to_dict()
    if filepath is None:
        raise ValueError(_NOWHERE)
    return (await recorder.save(filepath)).to_dict()


def save_workflow_recording_sync(
    recorder: ExecutionRecorder,
    filepath: str | os.PathLike[str] | None = None,
    storage: RecordingStorage | None = None,
) -> dict[str, Any]:
    """Do what ``save_workflow_recording`` does, from code that is not async."""
    if storage is not None:
        identifier = storage.save_sync(recorder, filepath)
        return storage.get_metadata_sync(identifier) or recorder.finalize().to_dict()
    if filepath is None:
        raise ValueError(_NOWHERE)
    return recorder.save_sync(filepath).to_dict()


# --------------------------------------------------------------------------- forwards


def record_node_execution_start(
    node_id: str, inputs: dict[str, Any] | None = None, node_type: str | None = None
) -> None:
    """Record the start of a node with the current recorder, if there is one."""
    recorder = _recording()
    if recorder is not None:
        recorder.record_node_start(node_id, inputs, node_type)


def record_node_execution_complete(
    node_id: str,
    outputs: dict[str, Any] | None = None,
    duration_seconds: float | None = None,
    error: str | None = None,
) -> None:
    """Record the end of a node with the current recorder, if there is one."""
    recorder = _recording()
    if recorder is not None:
        recorder.record_node_complete(node_id, outputs, duration_seconds, error)


def record_recursion_enter(operation_type: str, identifier: str) -> None:
    """Record the start of something nested with the current recorder, if there is one."""
    recorder = _recording()
    if recorder is not None:
        recorder.record_recursion_enter(operation_type, identifier)


def record_recursion_exit(operation_type: str, identifier: str) -> None:
    """Record the end of something nested with the current recorder, if there is one."""
    recorder = _recording()
    if recorder is not None:
        recorder.record_recursion_exit(operation_type, identifier)


def record_state_snapshot(
    state: dict[str, Any], node_id: str | None = None, execution_stack: Sequence[str] | None = None
) -> None:
    """Record a state with the current recorder, if there is one."""
    recorder = _recording()
    if recorder is not None:
        recorder.record_state_snapshot(state, node_id, execution_stack)


# --------------------------------------------------------------------------- what is kept


FAILED = "it failed"
EVERY = "every execution is kept"


@dataclass(slots=True)
class RecordingConfig:
    """Which recordings are kept once their run has ended. Capture itself is always on.

    ``sampling_rate`` is brought into 0..1; the same execution always gets the same answer.
    """

    enabled: bool = False
    record_on_failure: bool = True
    record_on_success: bool = False
    sampling_rate: float = 0.0
    storage_path: str = "./recordings"
    compress: bool = True
    retention_policy: dict[str, Any] | None = field(default=None)
    record_longer_than: float | None = None
    """Seconds; a run that took longer is kept, however it ended."""

    def __post_init__(self) -> None:
        """Bring the values into their range."""
        self.sampling_rate = min(max(float(self.sampling_rate), 0.0), 1.0)
        if self.retention_policy is None:
            self.retention_policy = {}

    def keeps(self, success: bool | None, execution_id: str, duration_seconds: float = 0.0) -> bool:
        """Return whether the recording of a run that ended this way is kept."""
        return bool(self.reason(success, execution_id, duration_seconds))

    def reason(self, success: bool | None, execution_id: str, duration_seconds: float = 0.0) -> str:
        """Return why the recording of a run that ended this way is kept; empty when it is not."""
        if not self.enabled:
            return ""
        if not success and self.record_on_failure:
            return FAILED if not self.record_on_success else EVERY
        if success and self.record_on_success:
            return EVERY
        if self.record_longer_than is not None and duration_seconds > self.record_longer_than:
            return f"it took longer than {self.record_longer_than:g} s"
        if sample(execution_id) < self.sampling_rate:
            return f"it is in the sample of {self.sampling_rate * 100:g} %"
        return ""


def sample(execution_id: str) -> float:
    """Return a number in [0, 1) that depends only on the id."""
    return int.from_bytes(hashlib.blake2b(execution_id.encode(), digest_size=7).digest(), "big") / (1 << 56)
