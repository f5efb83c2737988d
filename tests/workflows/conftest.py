"""Small node types of this room's own, so that its tests need no executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from workflows.registry import NODE_REGISTRY, NodeDescription, Port


def description(node_type: str, **fields: Any) -> NodeDescription:
    return NodeDescription(type=node_type, label=node_type.title(), group="Flow Control", credits=1, **fields)


DESCRIPTIONS = (
    description("begin", start=True, outputs=(Port("Text"), Port("Html Content"), Port("Count", "NUMBER"))),
    description("open", start=True, inputs=(Port("Website URL", required=True, handle=False),), outputs=(Port("Page", "BROWSER_INSTANCE"),)),
    description("click", inputs=(Port("Selector", required=True), Port("Page", "BROWSER_INSTANCE", required=True)), outputs=(Port("Page", "BROWSER_INSTANCE"),)),
    description("step", start=True, inputs=(Port("In", "ANY"), Port("More", "ANY")), outputs=(Port("Out", "ANY"), Port("Text"))),
    description("need", inputs=(Port("In", "STRING", required=True),), outputs=(Port("Need Out"),)),
    description("judge", start=True, inputs=(Port("Condition", language="cel"),)),
    description(
        "form",
        start=True,
        inputs=(
            Port("Number", "NUMBER", min=1, max=10),
            Port("Flag", "BOOLEAN"),
            Port("Choice", "SELECT", options=("equals", "contains"), option_aliases=("==",), aliases=("Comparison",)),
            Port("List", "LIST"),
            Port("Json", "JSON"),
            Port("Secret", "CREDENTIAL", handle=False),
            Port("Way", "CREDENTIAL", kinds=("proxy", "bearer"), whole=True, handle=False),
            Port("File", "FILE"),
        ),
        outputs=(Port("Json", "JSON"), Port("File", "FILE")),
    ),
)  # fmt: skip


@contextmanager
def just_before(part: str, act: Callable[[], Any]) -> Iterator[None]:
    """Call ``act`` once, right before the first SQL that has ``part``: somebody else was faster."""
    waiting = [act]

    def execute(run: Any, sql: str, *rest: Any) -> Any:
        if waiting and part in sql:
            waiting.pop()()
        return run(sql, *rest)

    with connection.execute_wrapper(execute):
        yield
    assert not waiting, f"no statement had {part}"


@pytest.fixture
def types() -> Iterator[None]:
    """Replace the registry by the small types above."""
    before = dict(NODE_REGISTRY)
    NODE_REGISTRY.clear()
    for one in DESCRIPTIONS:
        NODE_REGISTRY[one.type] = type(one.label, (), {"description": one})
    yield
    NODE_REGISTRY.clear()
    NODE_REGISTRY.update(before)


@pytest.fixture
def sample() -> dict[str, Any]:
    """The sample workflow of the specification, letter for letter."""
    return {
        "id": "uuid",
        "name": "Workflow Name",
        "description": "Workflow description",
        "nodes": [
            {
                "id": "node-1",
                "type": "launch_standard_browser",
                "position": {"x": 100, "y": 100},
                "data": {"inputs": {"Website URL": "https://example.com"}},
            }
        ],
        "edges": [
            {
                "id": "edge-1",
                "source": "node-1",
                "target": "node-2",
                "sourceHandle": "Web Page",
                "targetHandle": "Web Page",
            }
        ],
        "cron": "0 9 * * 1-5",
        "status": "active",
    }
