"""What a worker does with a message that is none of ours: keep it as a dead letter at once, and live on.

Celery logs and drops such messages, and some (a body that is no argument list, a header that is missing)
end its loop or hold a slot for ever. So every message is looked at before Celery acts on it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

from celery import current_app
from celery.worker.consumer import Consumer as CeleryConsumer
from django.db import close_old_connections

from executions import letters

logger = logging.getLogger(__name__)

BODY_CHARACTERS = 4_000
HEADER_CHARACTERS = 200


class Consumer(CeleryConsumer):
    """Celery's consumer with another answer to messages that cannot be run."""

    def create_task_handler(self, *arguments: Any, **options: Any) -> Callable[[Any], None]:
        """Return what is called for each message."""
        handle = super().create_task_handler(*arguments, **options)
        here: Any = self
        lost_broker = (*here.connection_errors, *here.channel_errors)

        def on_message(message: Any) -> None:
            try:
                problem = problem_of(message)
                if problem is None:
                    handle(message)
            except lost_broker:
                raise
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem is not None:
                self._refuse(message, problem)

        return on_message

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Keep a message that is none of Celery's."""
        self._refuse(message, "it is no task message")

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Keep a message for a task that does not exist."""
        self._refuse(message, f"there is no task {exc}")

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Keep a message that Celery refuses."""
        self._refuse(message, str(exc))

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Keep a message whose body cannot be read."""
        self._refuse(message, f"its body cannot be read: {exc}")

    def _refuse(self, message: Any, problem: str) -> None:
        here: Any = self
        error = f"a message was refused: {problem}"
        seen = _describe(message)
        logger.error("%s %s", error, {key: value for key, value in seen.items() if key != "body"})
        try:
            close_old_connections()
            letters.keep("message", error, seen)
        except Exception:
            logger.exception("the refused message could not be kept; this is all of it: %s", seen)
        if not message.acknowledged:
            message.reject_log_error(logger, here.connection_errors)


def problem_of(message: Any) -> str | None:
    """Return why ``message`` cannot be run, or None.

    Raises:
        Exception: its body cannot be decoded, or must not be.
    """
    headers = message.headers
    if not isinstance(headers, Mapping) or not isinstance(headers.get("task"), str):
        return "it is no task message: its headers name no task"
    if not isinstance(headers.get("id"), str):
        return "its headers hold no id"
    task = current_app.tasks.get(headers["task"])
    if task is None:
        return f'there is no task "{headers["task"]}"'
    match message.payload:
        case [list() as positional, dict() as named, dict() | None]:
            return _arguments_problem(task, positional, named)
    return "its body is not [arguments, named arguments, options]"


def _arguments_problem(task: Any, positional: list[Any], named: dict[str, Any]) -> str | None:
    try:
        given = _signature(task).bind(*positional, **named).arguments
    except TypeError as error:
        return f"{task.name}: {error}"
    if not task.name.startswith("executions."):
        return None
    for name, value in given.items():
        if name in _EXPECTED and not _EXPECTED[name](value):
            return f'{task.name}: "{name}" cannot be {repr(value)[:HEADER_CHARACTERS]}'
    return None


@lru_cache(maxsize=64)
def _signature(task: Any) -> inspect.Signature:
    return inspect.signature(task.run)


def _is_id(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


_EXPECTED: dict[str, Callable[[object], bool]] = {
    "execution_id": _is_id,
    "phase": _is_index,
    "node_indexes": lambda value: isinstance(value, list) and all(map(_is_index, value)),
    "apart": lambda value: isinstance(value, bool),
}


def _describe(message: Any) -> dict[str, Any]:
    """Return what a person needs to know of a message, as plain text and not longer than that."""
    headers = message.headers if isinstance(message.headers, Mapping) else {"headers": message.headers}
    body = message.body
    text = body.decode("utf-8", "backslashreplace") if isinstance(body, bytes) else str(body)
    return {
        "queue": str((message.delivery_info or {}).get("routing_key") or ""),
        "content_type": str(message.content_type),
        "headers": {
            str(name)[:HEADER_CHARACTERS]: str(value)[:HEADER_CHARACTERS]
            for name, value in list(headers.items())[:20]
            if value is not None
        },
        "body": text if len(text) <= BODY_CHARACTERS else f"{text[:BODY_CHARACTERS]}… ({len(text):,} characters)",
    }
