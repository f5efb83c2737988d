"""What a node type is: one class with a description and ``run``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from executions.errors import NodeInputError
from executions.nodes.inputs import Inputs
from workflows.registry import EXECUTE_CONDITION, Effect, NodeDescription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from email.message import EmailMessage

    import httpx

    from executions.browser import BrowserPage
    from executions.mail import MailServer


@dataclass(frozen=True, slots=True)
class NodeCall:
    """The node that runs now. ``inputs`` are resolved and validated, keyed by display name."""

    id: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    attempt: int = 1
    iteration: int = 0
    index: int = 0
    """Its position in the definition."""
    state: Any = None
    """What the node kept when it was set aside (see ``NodeWaits``)."""
    resume: Mapping[str, Any] | None = None
    """What woke it, or None at the first run: ``{"reason": "timer" | "approval" | "children", …}``."""


class Environment(Protocol):
    """What an executor may touch while it runs.

    Nothing here needs the ORM: values come in by ``inputs`` and go out as outputs.
    """

    execution_id: str
    workflow_id: str
    user_id: int
    idempotency_key: str
    """``<execution>:<node>:<iteration>``: identical on every retry and after a crash."""

    def set_variable(self, key: str, value: Any) -> None:
        """Store a variable (JSON) for later nodes, which read it here or as ``{{ vars.key }}``.

        It counts when this node completes, wherever the later nodes run.
        """

    def get_variable(self, key: str) -> Any:
        """Return a variable set by this node or one before it, or one of the workflow, or None."""

    def log(self, message: str, *, level: str = "info", **data: Any) -> None:
        """Write one log line; it is shown live, recorded, and never holds a resolved secret."""

    def record(self, event_type: str, data: dict[str, Any]) -> None:
        """Write a custom event of the recording format.

        Raises:
            NodeInputError: ``event_type`` is one by which the engine tells what it did.
        """

    def tag(self, *tags: str) -> None:
        """Tag the recording of this execution; it counts whether or not this node completes.

        Raises:
            NodeInputError: a tag is no text, empty, or longer than 100 characters.
        """

    def record_team_start(
        self, team_id: str, formation: str, member_count: int, context: dict[str, Any] | None = None
    ) -> None:
        """Record that a team begins."""

    def record_team_complete(
        self, team_id: str, final_output: Any = None, duration_seconds: float | None = None, success: bool = True
    ) -> None:
        """Record that a team ended, well or not."""

    def record_team_member_start(self, team_id: str, member_id: str, inputs: dict[str, Any] | None = None) -> None:
        """Record that a member of a team begins."""

    def record_team_member_complete(
        self, team_id: str, member_id: str, outputs: dict[str, Any] | None = None,
        duration_seconds: float | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        """Record that a member of a team ended."""

    def record_team_member_communication(self, team_id: str, from_member: str, to_member: str, message: Any) -> None:
        """Record a message from one member of a team to another."""

    async def save_artifact(self, kind: str, content: bytes, *, content_type: str, name: str = "") -> str:
        """Store bytes (a screenshot, a page) beside the recording; return their SHA-256."""

    async def page(self) -> BrowserPage:
        """Return the browser page of this execution.

        Raises:
            NodeInputError: no browser was launched.
            SessionLost: the process that held it is gone.
        """

    async def launch(self, **options: Any) -> BrowserPage:
        """Open (or reuse) the browser session of this execution and return its page, still blank.

        ``options`` are the fields of ``executions.browser.BrowserOptions``; the node navigates itself.
        """

    def http_client(self, **options: Any) -> httpx.AsyncClient:
        """Return a client that reaches only allowed addresses.

        ``options`` are those of ``executions.egress.guarded_client``.
        """

    async def send_mail(
        self, server: MailServer | None, message: EmailMessage, sender: str, recipients: Sequence[str]
    ) -> dict[str, str]:
        """Hand a mail in at ``server``, or at that of the installation; return who was refused, with the reasons.

        Raises:
            NodeInputError: there is no server.
            NodeFailed: see ``executions.mail.send``.
        """


class NodeExecutor(ABC):
    """Does the work of one node type.

    Subclasses set ``description`` and write ``run``; ``@register`` makes them known.
    """

    description: ClassVar[NodeDescription]

    @property
    def required_input_keys(self) -> list[str]:
        """Return the display names of required inputs."""
        return [port.name for port in self.description.inputs if port.required]

    @property
    def output_keys(self) -> list[str]:
        """Return the display names of outputs."""
        return [port.name for port in self.description.outputs]

    @property
    def can_be_start_node(self) -> bool:
        """Return whether a workflow may begin with this node."""
        return self.description.start

    def validate(self, node: NodeCall, env: Environment) -> None:
        """Check the inputs before ``run``.

        Raises:
            NodeInputError: a required input is missing.
        """
        for port in self.inputs(node).missing():
            raise NodeInputError(
                f'node "{node.name}" needs the input "{port.name}" ({port.type}); type a value or connect a wire'
            )

    def inputs(self, node: NodeCall) -> Inputs:
        """Return a reader of the inputs of ``node`` that knows this type's ports and defaults."""
        return Inputs(node.name, self.description, node.inputs)

    def effect(self, node: NodeCall) -> Effect:
        """Return what this run may change outside; the description's unless the inputs decide."""
        return self.description.effect

    @abstractmethod
    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Do the work and return the outputs, keyed by display name.

        Raises:
            NodeFailed: with a message for the user.
            NodeWaits: to be set aside until something wakes it; then it runs again.
        """


__all__ = ["EXECUTE_CONDITION", "Environment", "NodeCall", "NodeExecutor"]
