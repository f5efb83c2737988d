"""What the answers about alerts and about rules share."""

from __future__ import annotations

from typing import Literal

Kind = Literal[
    "failure_rate", "queue_backlog", "resource_exhaustion", "cost", "schedule_lag", "dead_letters", "worker_lost"
]
Severity = Literal["info", "warning", "critical"]
