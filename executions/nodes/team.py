"""Several roles of a language model that work on one task as a team."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from executions.nodes.base import Environment, NodeCall, NodeExecutor
from executions.nodes.chat import ENDPOINT, KEY_KINDS, Chat
from executions.nodes.inputs import Inputs, as_text
from workflows.registry import NodeDescription, Port, register

MOST_MEMBERS = 20
MOST_ROUNDS = 10
TASK = "task"
"""Who hands out the task, as the sender of a message."""
TEAM = "team"
APPROVED = "APPROVED"


@dataclass(frozen=True, slots=True)
class Member:
    """One role of a team; ``model`` is empty for that of the team."""

    id: str
    role: str
    model: str = ""


@dataclass(slots=True)
class _Team:
    """A team at work: who is in it, how to ask the model, and what was said."""

    id: str
    env: Environment
    chat: Chat
    model: str
    members: tuple[Member, ...]
    messages: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    asked: int = 0

    def say(self, sender: str, receiver: str, text: str) -> None:
        """Note a message."""
        self.messages.append({"from": sender, "to": receiver, "message": text})
        self.env.record_team_member_communication(self.id, sender, receiver, text)

    async def ask(self, member: Member, request: str) -> str:
        """Return what a member answers to a request."""
        began = time.monotonic()
        self.env.record_team_member_start(self.id, member.id, {"role": member.role, "request": request})
        try:
            text = await self._complete(member, request)
        except BaseException as error:
            seconds = time.monotonic() - began
            self.env.record_team_member_complete(self.id, member.id, {}, seconds, str(error) or type(error).__name__)
            raise
        self.answers[member.id] = text
        self.env.record_team_member_complete(self.id, member.id, {"answer": text}, time.monotonic() - began)
        return text

    async def _complete(self, member: Member, request: str) -> str:
        self.asked += 1
        messages = [
            {"role": "system", "content": f"You are {member.id}, a member of a team. Your role: {member.role}"},
            {"role": "user", "content": request},
        ]
        answer = await self.chat.ask(member.model or self.model, messages, self.asked)
        self.tokens += answer.total_tokens
        return answer.text


@register
class AgentTeam(NodeExecutor):
    """Let several roles of a language model work on one task."""

    description = NodeDescription(
        type="agent_team",
        label="Agent Team",
        group="Data Extraction",
        credits=10,
        start=True,
        effect="write",
        weight="io",
        timeout_s=600,
        summary="Lets members with roles work on a task, one after another, at once, or as author and reviewers.",
        subtitle="Task",
        inputs=(
            Port("Task", required=True, variant="textarea"),
            Port(
                "Members", "LIST", required=True, variant="json",
                placeholder='[{"id": "writer", "role": "Writes the text"}, {"id": "editor", "role": "Shortens it"}]',
                help='Each has an "id" and a "role", and may have a "model" of its own.',
            ),
            Port(
                "Formation", "SELECT", default="sequential", options=("sequential", "parallel", "review"), handle=False,
                help="sequential: each works on the answer before; parallel: all at once; review: the first writes, the "
                "others approve or ask for changes.",
            ),
            Port("Context", "ANY", variant="textarea", help="What every member gets to know with the task."),
            ENDPOINT,
            Port("API Key", "CREDENTIAL", variant="password", kinds=KEY_KINDS),
            Port("Model", default="gpt-4o-mini"),
            Port("Rounds", "NUMBER", default=2, min=1, max=MOST_ROUNDS, handle=False, help="review: most drafts."),
            Port("Timeout", "NUMBER", default=60, min=1, max=300, handle=False, help="Seconds for one answer."),
        ),
        outputs=(
            Port("Result", help="The last answer, the approved draft, or all answers under the names of their members."),
            Port("Answers", "JSON", help="The last answer of each member."),
            Port("Messages", "LIST", help="Everything that was said: from, to, message."),
            Port("Approved", "BOOLEAN", help="review: whether every reviewer approved."),
            Port("Tokens", "NUMBER", help="As the service counted them."),
        ),
    )  # fmt: skip

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Ask the members in the order of the formation."""
        inputs = self.inputs(node)
        formation = inputs.choice("Formation")
        chat, members = Chat.of(node, env, inputs), _members(inputs, formation)
        team = _Team(node.id, env, chat, inputs.text("Model"), members)
        env.record_team_start(
            team.id, formation, len(team.members),
            {"task": inputs.text("Task"), "members": [{"id": one.id, "role": one.role} for one in team.members]},
        )  # fmt: skip
        began = time.monotonic()
        approved = False
        try:
            match formation:
                case "parallel":
                    result = await _parallel(team, _task(inputs))
                case "review":
                    result, approved = await _review(team, _task(inputs), int(inputs.number("Rounds") or 1))
                case _:
                    result = await _sequential(team, _task(inputs))
        except BaseException:
            env.record_team_complete(team.id, None, time.monotonic() - began, success=False)
            raise
        env.record_team_complete(team.id, result, time.monotonic() - began)
        return {
            "Result": result, "Answers": team.answers, "Messages": team.messages, "Approved": approved,
            "Tokens": team.tokens,
        }  # fmt: skip


def _members(inputs: Inputs, formation: str) -> tuple[Member, ...]:
    given = inputs.json("Members")
    least = 2 if formation == "review" else 1
    if not isinstance(given, list) or not least <= len(given) <= MOST_MEMBERS:
        inputs.refuse("Members", f"must be a list of {least} to {MOST_MEMBERS} members")
    members = []
    for number, one in enumerate(given, 1):
        if not isinstance(one, dict) or not one.get("id") or not one.get("role"):
            inputs.refuse("Members", f'has no "id" or no "role" in member {number}')
        members.append(Member(as_text(one["id"]), as_text(one["role"]), as_text(one.get("model") or "")))
    names = {member.id for member in members}
    if len(names) != len(members) or names & {TASK, TEAM}:
        inputs.refuse("Members", f'must have different ids, none of them "{TASK}" or "{TEAM}"')
    return tuple(members)


def _task(inputs: Inputs) -> str:
    context = inputs.value("Context")
    task = inputs.text("Task")
    return task if context in (None, "") else f"{task}\n\nContext:\n{as_text(context)}"


async def _sequential(team: _Team, task: str) -> str:
    sender, request, answer = TASK, task, ""
    for member in team.members:
        team.say(sender, member.id, request)
        answer = await team.ask(member, request)
        sender, request = member.id, f"{task}\n\n{member.id} says:\n{answer}"
    team.say(sender, TEAM, answer)
    return answer


async def _parallel(team: _Team, task: str) -> str:
    for member in team.members:
        team.say(TASK, member.id, task)
    asked = [asyncio.ensure_future(team.ask(member, task)) for member in team.members]
    try:
        answers = await asyncio.gather(*asked)
    except BaseException:
        for work in asked:
            work.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        raise
    for member, answer in zip(team.members, answers, strict=True):
        team.say(member.id, TEAM, answer)
    return "\n\n".join(f"{member.id}:\n{answer}" for member, answer in zip(team.members, answers, strict=True))


async def _review(team: _Team, task: str, rounds: int) -> tuple[str, bool]:
    author, *reviewers = team.members
    team.say(TASK, author.id, task)
    request, draft = task, ""
    for _ in range(rounds):
        draft = await team.ask(author, request)
        remarks = []
        for reviewer in reviewers:
            question = (
                f"{task}\n\nThe draft of {author.id}:\n{draft}\n\nAnswer {APPROVED} if it is good, else what to change."
            )
            team.say(author.id, reviewer.id, draft)
            remark = await team.ask(reviewer, question)
            team.say(reviewer.id, author.id, remark)
            if not remark.strip().upper().startswith(APPROVED):
                remarks.append(f"{reviewer.id}: {remark}")
        if not remarks:
            return draft, True
        request = f"{task}\n\nYour draft:\n{draft}\n\nChange it by these remarks:\n" + "\n".join(remarks)
    return draft, False
