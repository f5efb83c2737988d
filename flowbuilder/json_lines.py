"""Log lines as JSON objects, one per line, for programs that collect them."""

from __future__ import annotations

import re
from typing import Any, Final

from structlog import processors
from structlog.stdlib import ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict

from executions import logs

_ID: Final = r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
_EXECUTION: Final = re.compile(rf"\bexecution {_ID}\b")
_FIRST_ARGUMENT: Final = re.compile(rf"^[({{]'(?:execution_id': ')?{_ID}'")


class JsonLines(ProcessorFormatter):
    """Formats ``timestamp``, ``level``, ``logger``, ``event``, ``process`` and, where there is one, ``exception``.

    What a line is about is in ``execution_id``, ``node_id`` and ``request_id``. Secrets of this process are replaced
    in the whole line, because its text is made by ``executions.logs.Record``.
    """

    def __init__(self) -> None:
        super().__init__(
            foreign_pre_chain=[add_log_level, add_logger_name, _add_ids, processors.TimeStamper(fmt="iso", utc=True)],
            processors=[
                _add_process,
                processors.format_exc_info,
                ProcessorFormatter.remove_processors_meta,
                processors.JSONRenderer(ensure_ascii=False),
            ],
        )


def _add_ids(logger: Any, method: str, line: EventDict) -> EventDict:
    """Add what the line is about; one that is written beside the work on an execution may name it in its text.

    Celery says of messages that it takes, with the arguments beside the text.
    """
    named = _EXECUTION.search(line["event"])
    message = getattr(line["_record"], "data", None)
    if named is None and isinstance(message, dict) and str(message.get("name")).startswith("executions."):
        texts = (str(message.get(key)) for key in ("args", "kwargs"))
        named = next(filter(None, map(_FIRST_ARGUMENT.match, texts)), None)
    return {**line, **({"execution_id": named[1]} if named else {}), **logs.ids()}


def _add_process(logger: Any, method: str, line: EventDict) -> EventDict:
    return {**line, "process": line["_record"].process}
