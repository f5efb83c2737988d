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
  - StartRefused        an execution cannot be started; the message says why
  - StaleTransition     somebody else moved this row on first; the caller stops quietly
"""


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


class StartRefused(ExecutionError):
    """An execution cannot be started."""


class StaleTransition(ExecutionError):
    """Somebody else moved this row on first."""
