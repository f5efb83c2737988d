"""The node that waits for a person."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx

from executions.approvals import link
from executions.errors import NetworkError, NodeFailed, NodeWaits
from executions.nodes.base import Environment, NodeCall, NodeExecutor
from workflows.registry import EXECUTE, NodeDescription, Port, register

LONGEST_SECONDS = 30 * 86_400


@register
class Approval(NodeExecutor):
    """Ask a person, and take the path of the answer."""

    description = NodeDescription(
        type="approval",
        label="Approval",
        group="Flow Control",
        credits=0,
        start=True,
        waits=True,
        effect="write",
        weight="io",
        summary="Waits until a person approves or rejects, in the admin or by a signed link.",
        subtitle="Title",
        inputs=(
            Port("Title", "STRING", required=True),
            Port("Message", "STRING", variant="textarea", help="What the person needs to know."),
            Port("Approvers", "STRING", help="User names, separated by commas, who may decide besides the owner."),
            Port("Timeout", "NUMBER", default=86_400, min=1, max=LONGEST_SECONDS, help="Seconds; the default is a day."),
            Port(
                "On Timeout", "SELECT", default="reject", options=("reject", "approve", "fail"), handle=False,
                help="What counts as the answer when nobody decides.",
            ),
            Port("Notify URL", "STRING", help="Gets a JSON POST with title, message and link when the wait begins."),
        ),
        outputs=(
            Port("Approved", "CONDITIONAL"),
            Port("Rejected", "CONDITIONAL"),
            Port("Comment", "STRING"),
            Port("Decided By", "STRING"),
            Port("Timed Out", "BOOLEAN"),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Ask and be set aside; when woken, give the answer."""
        if node.resume is None:
            await self._ask(node, env)
            raise NodeWaits("approval", wake_s=self.inputs(node).number("Timeout"), state=self._question(node))
        if node.resume["reason"] == "timer":
            return self._timed_out(node)
        approved = bool(node.resume["approved"])
        return _answer(approved, str(node.resume["comment"]), str(node.resume["by"]), timed_out=False)

    def _question(self, node: NodeCall) -> dict[str, Any]:
        """Return what the pages show of the approval while it waits."""
        inputs = self.inputs(node)
        approvers = [name.strip() for name in inputs.text("Approvers").split(",")]
        return {
            "title": inputs.text("Title"),
            "message": inputs.text("Message"),
            "approvers": [name for name in approvers if name],
        }

    async def _ask(self, node: NodeCall, env: Environment) -> None:
        inputs = self.inputs(node)
        title, message = inputs.text("Title"), inputs.text("Message")
        env.log(f'Asks for an approval: "{title}"')  # without the link: whoever reads a log may not decide by that
        url = inputs.text("Notify URL")
        if not url:
            return
        where = link(UUID(env.execution_id), node.index)
        body = {"execution_id": env.execution_id, "node_id": node.id, "title": title, "message": message, "link": where}
        headers = {"Idempotency-Key": env.idempotency_key}
        try:
            async with env.http_client(timeout=15) as client:
                answer = await client.post(url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise NetworkError(f'"Notify URL" of "{node.name}" could not be reached: {error}') from error
        if answer.status_code >= 400:
            raise NetworkError(f'"Notify URL" of "{node.name}" answered {answer.status_code}')

    def _timed_out(self, node: NodeCall) -> dict[str, Any]:
        choice = self.inputs(node).choice("On Timeout")
        if choice == "fail":
            seconds = self.inputs(node).number("Timeout") or 0
            raise NodeFailed(f'nobody decided "{node.name}" within {seconds:g} s', code="timeout", retryable=False)
        return _answer(choice == "approve", "", "", timed_out=True)


def _answer(approved: bool, comment: str, by: str, *, timed_out: bool) -> dict[str, Any]:
    return {
        "Approved": EXECUTE if approved else None,
        "Rejected": None if approved else EXECUTE,
        "Comment": comment,
        "Decided By": by,
        "Timed Out": timed_out,
    }
