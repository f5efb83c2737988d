"""What is wrong with a rule or a channel that somebody wants to store."""

from __future__ import annotations

from collections.abc import Sequence

from workflows.errors import WorkflowError
from workflows.kinds import Problem


class AlertRefused(WorkflowError):
    """A rule or a channel is not stored. ``problems`` are all reasons, by field."""

    def __init__(self, what: str, problems: Sequence[Problem]) -> None:
        super().__init__(f"{what}: " + "; ".join(map(str, problems)))
        self.problems = problems


class Undelivered(WorkflowError):
    """A message did not arrive. ``final`` says that trying again cannot help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final
