"""Which statuses exist and which are final; which triggers there are."""

from typing import Final

QUEUED: Final = "queued"
RUNNING: Final = "running"
RETRYING: Final = "retrying"
PAUSED: Final = "paused"
WAITING: Final = "waiting"
COMPLETED: Final = "completed"
COMPLETED_WITH_ERRORS: Final = "completed_with_errors"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
CANCELLED: Final = "cancelled"

EXECUTION_STATUSES: Final = (QUEUED, RUNNING, PAUSED, WAITING, COMPLETED, COMPLETED_WITH_ERRORS, FAILED, CANCELLED)
PHASE_STATUSES: Final = (RUNNING, COMPLETED, FAILED, CANCELLED)
NODE_RUN_STATUSES: Final = (QUEUED, RUNNING, RETRYING, WAITING, COMPLETED, FAILED, SKIPPED, CANCELLED)

OPEN: Final = (QUEUED, RUNNING, PAUSED, WAITING)
"""Statuses of executions that have not ended."""
TERMINAL: Final = frozenset({COMPLETED, COMPLETED_WITH_ERRORS, FAILED, SKIPPED, CANCELLED})
"""Statuses with no way out, of executions, phases and node runs alike."""

FAILURES: Final = (FAILED, COMPLETED_WITH_ERRORS)
"""How an execution ends in which something failed."""

TRIGGERS: Final = (
    "manual", "api", "test", "scheduled", "one_time", "conditional",
    "webhook", "file", "database", "workflow", "retry", "fork",
)  # fmt: skip
BY_ITSELF: Final = ("scheduled", "one_time", "conditional", "webhook", "file", "database")
"""Triggers that no person asks for each time."""
