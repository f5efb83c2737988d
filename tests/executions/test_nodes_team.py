"""The team of a language model, over real HTTP against a server that speaks the chat protocol; and what is recorded."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from executions.egress import EgressPolicy
from executions.errors import NetworkError, NodeFailed, NodeInputError
from executions.triggers import start_execution
from recordings.models import Recording
from recordings.packing import seal
from recordings.rows import iter_events
from tests.conftest import graph, node, outputs
from tests.executions import edge_nodes
from tests.executions.conftest import Site, TestEnvironment
from tests.executions.edge_nodes import run_here

MEMBERS = [{"id": "writer", "role": "Writes"}, {"id": "editor", "role": "Shortens", "model": "small"}]


class Chat(ThreadingHTTPServer):
    """Answers chat completions: what ``answers`` holds for a member, else who was asked with which model."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[str]] = {}
        self.requests: list[dict[str, Any]] = []
        self.status = 200
        self.together = threading.Barrier(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append({"path": self.path, "key": self.headers.get("authorization"), **body})
        self.server.together.wait(60)
        member = body["messages"][0]["content"].split(",")[0].removeprefix("You are ")
        queued = self.server.answers.get(member)
        text = queued.pop(0) if queued else f"{member} by {body['model']}"
        answer = {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"total_tokens": 7}}
        content = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def chat() -> Iterator[Chat]:
    server = Chat()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def chat_env(chat: Chat) -> TestEnvironment:
    return TestEnvironment(EgressPolicy([f"127.0.0.1:{chat.server_port}"]))


def kinds(env: TestEnvironment) -> list[tuple[str, Any]]:
    """Return what the team recorded: the type, and who or between whom."""
    return [
        (kind, data.get("member_id") or (data.get("from_member"), data.get("to_member")))
        for kind, _, data in env.logs
        if kind.startswith("team_")
    ]


def said(sender: str, receiver: str) -> tuple[str, tuple[str, str]]:
    return "team_communication", (sender, receiver)


async def test_in_a_sequence_each_member_works_on_the_answer_before(chat: Chat, chat_env: TestEnvironment) -> None:
    found = await chat_env.run(
        "agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url, API_Key="k3y-of-the-team", Model="large"
    )

    assert found["Result"] == "editor by small"
    assert found["Answers"] == {"writer": "writer by large", "editor": "editor by small"}
    assert found["Tokens"] == 14
    assert [(one["from"], one["to"]) for one in found["Messages"]] == [
        ("task", "writer"), ("writer", "editor"), ("editor", "team"),
    ]  # fmt: skip
    assert {request["path"] for request in chat.requests} == {"/v1/chat/completions"}
    assert {request["key"] for request in chat.requests} == {"Bearer k3y-of-the-team"}
    assert "writer by large" in chat.requests[1]["messages"][1]["content"]
    assert kinds(chat_env) == [
        ("team_start", (None, None)), said("task", "writer"), ("team_member_start", "writer"),
        ("team_member_complete", "writer"), said("writer", "editor"), ("team_member_start", "editor"),
        ("team_member_complete", "editor"), said("editor", "team"), ("team_complete", (None, None)),
    ]  # fmt: skip


async def test_in_parallel_all_are_asked_before_any_has_answered(chat: Chat, chat_env: TestEnvironment) -> None:
    chat.together = threading.Barrier(2)

    found = await chat_env.run("agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url, Formation="parallel")

    assert found["Result"] == "writer:\nwriter by gpt-4o-mini\n\neditor:\neditor by small"
    names = [kind for kind, _ in kinds(chat_env)]
    assert names.index("team_member_complete") > names.index("team_member_start") + 1


async def test_in_a_review_the_author_changes_the_draft_until_all_approve(
    chat: Chat, chat_env: TestEnvironment
) -> None:
    chat.answers = {"writer": ["first", "second"], "editor": ["shorter, please", "Approved."]}

    found = await chat_env.run("agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url, Formation="review")

    assert (found["Result"], found["Approved"]) == ("second", True)
    assert "shorter, please" in chat.requests[2]["messages"][1]["content"]

    chat.answers = {"editor": ["no"] * 9}
    found = await chat_env.run(
        "agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url, Formation="review", Rounds=3
    )
    assert found["Approved"] is False
    assert chat.answers["editor"] == ["no"] * 6


async def test_a_team_that_fails_is_recorded_as_failed(chat: Chat, chat_env: TestEnvironment) -> None:
    chat.status = 429

    with pytest.raises(NetworkError, match="429") as failure:
        await chat_env.run("agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url)

    assert failure.value.retryable
    ends = [data for kind, _, data in chat_env.logs if kind in ("team_member_complete", "team_complete")]
    assert "429" in ends[0]["error"]
    assert ends[1]["success"] is False


@pytest.mark.parametrize(
    ("members", "formation", "why"),
    [
        ([], "sequential", "1 to 20"),
        (MEMBERS[:1], "review", "2 to 20"),
        ([{"id": "a"}], "parallel", "member 1"),
        ([MEMBERS[0], MEMBERS[0]], "parallel", "different ids"),
    ],
)
async def test_a_team_that_cannot_work_says_why(
    chat: Chat, chat_env: TestEnvironment, members: Any, formation: str, why: str
) -> None:
    with pytest.raises(NodeInputError, match=why):
        await chat_env.run("agent_team", Task="x", Members=members, Formation=formation, Endpoint=chat.url)


async def test_an_answer_that_is_no_completion_fails_the_node(site: Site, site_env: TestEnvironment) -> None:
    with pytest.raises(NodeFailed, match="no chat completion: 'ok'"):
        await site_env.run("agent_team", Task="x", Members=MEMBERS, Endpoint=site.url)


@pytest.mark.row("S0-02")
@pytest.mark.redis
@pytest.mark.postgres
def test_a_team_and_each_call_of_it_are_in_the_recording_of_its_execution(
    transactional_db: None, chat: Chat, alice: Any, make_workflow: Any, settings: Any
) -> None:
    settings.EGRESS_ALLOW = [f"127.0.0.1:{chat.server_port}"]
    team = node(
        "team", "agent_team", Task="Say it", Members=MEMBERS, Endpoint=chat.url, API_Key="k3y", Formation="review"
    )
    chat.answers = {"editor": ["APPROVED"]}
    assert edge_nodes.Gives.description.type == "test_gives"

    execution = run_here(start_execution(make_workflow(graph([team])), by=alice).pk)

    assert execution.status == "completed", execution.error
    assert outputs(execution, "team")["Approved"] is True
    events = list(iter_events(execution.pk))
    mine = [event for event in events if event.event_type.value.startswith("team_")]
    assert {event.node_id for event in mine} == {"team"}
    assert [event.event_type.value for event in mine] == [
        "team_start", "team_communication", "team_member_start", "team_member_complete", "team_communication",
        "team_member_start", "team_member_complete", "team_communication", "team_complete",
    ]  # fmt: skip
    assert len([event for event in mine if event.event_type.value == "team_communication"]) == len(
        outputs(execution, "team")["Messages"]
    )
    assert all(event.data["duration_seconds"] > 0 for event in mine if event.event_type.value.endswith("_complete"))
    calls = [event.data for event in events if event.event_type.value == "external_call"]
    assert [(call["method"], call["url"], call["status"]) for call in calls] == [
        ("POST", f"{chat.url}/chat/completions", 200)
    ] * 2
    assert all(call["bytes"] > 50 and call["duration_seconds"] > 0 and call["error"] is None for call in calls)

    recording = Recording.objects.get(execution_id=execution.pk)
    seal(recording)
    recording.refresh_from_db()
    assert recording.team_count == 1
