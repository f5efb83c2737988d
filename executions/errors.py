"""Errors of running a workflow.

* ExecutionError        base
  - NodeFailed          a node ended in error; ``code`` names the class, ``retryable`` says whether a
                        further attempt may help
    - NodeInputError    an input is missing or of the wrong kind; never retried
    - NodeTimeout       the time limit of an attempt passed
    - SessionLost       the process that held the browser page is gone
    - BrowserError      the page did not do what the node asked for
    - NotAllowed        an address that nodes may not reach; never retried
    - NetworkError      the other side could not be reached or answered with an error
  - NodeWaits           no error: a node asks to be set aside, held by no worker, until something wakes it
  - StartRefused        an execution cannot be started; the message says why
    - KeyReused         its idempotency key began another one
    - Replayed          the signed request that asks for it was accepted before
  - LetterRefused       a dead letter cannot be replayed or discarded; the message says why
  - StaleTransition     somebody else moved this row on first; the caller stops quietly
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid5


class ExecutionError(Exception):
    """Something is wrong with a running workflow."""


class NodeFailed(ExecutionError):
    """A node ended in error."""

    code = "node_failed"
    retryable = True

    def __init__(self, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        if retryable is not None:
            self.retryable = retryable

    @property
    def kinds(self) -> set[str]:
        """Return the names by which ``retry_on`` may mean this failure, from its own code to that of its class.

        A name that cannot be resolved is "network_dns" and "network"; a server that does not answer is "timeout", too.
        """
        named = {self.code, type(self).code}
        named |= {kind.code for kind in type(self).__mro__ if issubclass(kind, NodeFailed) and kind is not NodeFailed}
        return named | {NodeTimeout.code} if self.code.endswith(f"_{NodeTimeout.code}") else named


class NodeInputError(NodeFailed):
    """An input is missing or of the wrong kind."""

    code = "invalid_input"
    retryable = False


class NodeTimeout(NodeFailed):
    """The time limit of an attempt passed."""

    code = "timeout"


class SessionLost(NodeFailed):
    """The process that held the browser page of this execution is gone."""

    code = "session_lost"
    retryable = False


class BrowserError(NodeFailed):
    """The page did not do what the node asked for."""

    code = "browser"


class NotAllowed(NodeFailed):
    """The address is not one that nodes may reach."""

    code = "not_allowed"
    retryable = False


class NetworkError(NodeFailed):
    """The other side could not be reached, or it answered with an error.

    ``retry_after_s`` is how long the other side asked us to wait (its Retry-After header), or None.
    """

    code = "network"
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Child:
    """An execution to run for a node: the active version of a workflow, or (without one) a turn of the node's own body.

    ``item``, ``index`` and ``last`` are what a turn sees; ``input`` is the payload of a subflow. A ``detached`` one
    is started and not waited for.
    """

    index: int
    workflow: str = ""
    input: Any = None
    item: Any = None
    last: bool = False
    detached: bool = False

    @staticmethod
    def id(parent: UUID, node_index: int, index: int) -> UUID:
        """Return the id of a child: the same for the same parent, node and turn, however often it is started."""
        return uuid5(parent, f"{node_index}:{index}")


class NodeWaits(ExecutionError):
    """A node asks to be set aside. It runs again, with ``resume`` and ``state``, when something wakes it.

    ``kind`` says what it waits for: "timer" (``wake_s`` from now), "approval" (a person, or ``wake_s``), or
    "children" (an end of one of its child executions; ``children`` are those to start now). ``state`` is JSON that
    the node gets back. ``collect`` says which results of children it wants to see next: "none", "last" or "all".
    """

    def __init__(
        self, kind: Literal["timer", "approval", "children"], *, wake_s: float | None = None, state: Any = None,
        children: Sequence[Child] = (), collect: Literal["none", "last", "all"] = "none",
    ) -> None:  # fmt: skip
        super().__init__(f"waits for {kind}")
        self.kind, self.wake_s, self.state = kind, wake_s, state
        self.children, self.collect = tuple(children), collect


class StartRefused(ExecutionError):
    """An execution cannot be started."""


class KeyReused(StartRefused):
    """An idempotency key came again with another start."""


class Replayed(StartRefused):
    """A signed request came again, and not as the same delivery."""


class LetterRefused(ExecutionError):
    """A dead letter cannot be replayed or discarded."""


class StaleTransition(ExecutionError):
    """Somebody else moved this row on first."""
