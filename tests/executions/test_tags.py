"""Tags that the code of nodes gives: they are on the recording, however the node, the execution and its process end."""

from __future__ import annotations

import signal
from typing import Any
from uuid import UUID

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from executions import local, store
from executions.nodes.base import Environment, NodeCall
from executions.triggers import start_execution
from recordings import keeping
from recordings.context import get_current_recorder, record_workflow
from recordings.models import NotRecorded, Recording
from recordings.recorder import ExecutionRecorder
from recordings.rows import iter_events
from tests.conftest import graph, node, wait_for, wait_until_ended, wire
from tests.executions.edge_nodes import EdgeNode
from tests.executions.test_engine import transform
from tests.executions.worker_app import Tags

pytestmark = [pytest.mark.postgres, pytest.mark.row("S0-32")]


class TagsByRecorder(EdgeNode, type="test_tags_by_recorder"):
    """Tag as any Python code does that records."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return nothing."""
        recorder = get_current_recorder()
        assert recorder is not None
        recorder.tag("by recorder")
        return {}


class TagsBehind(EdgeNode, type="test_tags_behind"):
    """Write a tag as another process does, which the one that ends the execution has not seen."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return nothing."""
        execution_id = UUID(env.execution_id)
        store.committer.run(lambda tx: store.add_tags(tx, execution_id, ["behind"]))
        return {}


def tags(node_id, *words, **policy):
    assert Tags.description.type == "test_tags"
    return node(node_id, "test_tags", policy, Words=list(words))


def tags_of(execution):
    return Recording.objects.get(execution_id=execution.pk).tags


def test_tags_of_all_nodes_are_on_the_recording_each_once(run):
    execution = run(
        [tags("a", "shop", " eu "), tags("b", "shop", "late"), transform("c", x=1), transform("d", x=1)],
        wire("a", "Done", "c", "Execute Condition"), wire("c", "Done", "d", "Execute Condition"),
        settings={"tags": ["nightly", "eu"]},
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    found = tags_of(execution)
    assert found[:3] == ["nightly", "eu", "trigger:manual"]
    assert sorted(found[3:]) == ["late", "shop"]
    told = {event.node_id: event.data["tags"] for event in iter_events(execution.pk) if event.event_type.value == "tag"}
    assert told == {"a": ["shop", "eu"], "b": ["shop", "late"]}


def test_a_node_that_fails_or_tries_again_keeps_its_tags(run):
    execution = run(
        [tags("a", "again", "first", retries=1, backoff_s=0.01), tags("b", "fail", "seen")],
        wire("a", "Done", "b", "Execute Condition"),
    )  # fmt: skip

    assert execution.status == "failed"
    assert set(tags_of(execution)) == {"trigger:manual", "again", "first", "fail", "seen"}


def test_tags_of_an_attempt_are_written_with_it_also_when_another_process_will_make_the_next(run):
    execution = run([tags("a", "again", retries=1, backoff_s=400)])

    assert execution.node_runs.get().status == "retrying"
    assert f'"{store.TAG}again":true' in execution.variables


def test_the_recorder_that_node_code_finds_tags_the_execution(run):
    execution = run([node("a", "test_tags_by_recorder")])

    assert tags_of(execution) == ["trigger:manual", "by recorder"]


def test_a_tag_counts_that_another_process_wrote_meanwhile(run):
    execution = run([node("a", "test_tags_behind")])

    assert tags_of(execution) == ["trigger:manual", "behind"]


def test_a_child_has_the_tags_of_its_own_nodes_only(run, make_workflow):
    make_workflow(graph([tags("inner", "inside")]), name="inner")
    execution = run(
        [tags("outer", "outside"), node("sub", "subflow", Workflow="inner")],
        wire("outer", "Done", "sub", "Execute Condition"), name="outer",
    )  # fmt: skip

    assert execution.status == "completed", execution.error
    assert tags_of(execution)[1:] == ["outside"]
    assert tags_of(execution.children.get())[1:] == ["inside"]


def test_an_execution_that_is_kept_later_has_its_tags(run, settings):
    settings.RECORDING = "off"
    execution = run([tags("a", "shop")])
    assert NotRecorded.objects.filter(pk=execution.pk).exists()

    assert keeping.keep(execution.pk).tags == ["trigger:manual", "shop"]


@pytest.mark.parametrize("bad", ["", "  ", 7, "x" * 101])
def test_what_is_no_tag_fails_the_node_and_says_so(run, bad):
    execution = run([tags("a", "good", bad)])

    assert execution.status == "failed"
    assert "env.tag takes texts of 1 to 100 characters" in execution.error
    assert "good" not in tags_of(execution)


def test_no_statement_is_spent_on_tags_that_nobody_gives(run, monkeypatch):
    asked = []
    monkeypatch.setattr(store, "set_variables", lambda *arguments: asked.append(arguments))

    execution = run([transform("a", x=1), transform("b", x=1)], wire("a", "Done", "b", "Execute Condition"))

    assert (execution.status, asked) == ("completed", [])


def test_runs_in_this_process_and_recorders_take_tags():
    with record_workflow("here", tags=["mine"]) as recorder:
        local.execute_sync(graph([tags("a", "shop", "mine")]))
        recorder.tag("late", "shop")

    assert recorder.metadata.tags == ["mine", "shop", "late"]
    with pytest.raises(ValueError, match="it must be text"):
        ExecutionRecorder("x").tag("")


@pytest.mark.worker
@pytest.mark.redis
def test_tags_survive_the_worker_whose_node_gave_them(processes, alice, make_workflow, tmp_path):
    interval, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    PeriodicTask.objects.get_or_create(name="Reconcile", task="executions.reconcile", interval=interval)
    workflow = make_workflow(
        graph(
            [
                tags("a", "given before"),
                tags("b", "beside"),
                node("heavy", "test_heavy"),
                node("wait", "delay", Duration=0.3),
            ],
            *[wire(name, "Done", "wait", "Execute Condition") for name in ("a", "b", "heavy")],
        )
    )
    app = "tests.executions.worker_app"
    flag = tmp_path / "armed"
    flag.touch()
    doomed = processes.worker(app, FLOWBUILDER_FAILPOINT=f"after-commit:{flag}")
    execution = start_execution(workflow, by=alice)
    wait_for(lambda: doomed.poll() == -signal.SIGKILL, 20, "the death of the worker", processes.logs)
    processes.worker(app)
    processes.beat(app)
    wait_until_ended(execution, 40, processes.logs)

    assert execution.status == "completed", execution.error
    assert sorted(tags_of(execution)) == ["beside", "given before", "trigger:manual"]
