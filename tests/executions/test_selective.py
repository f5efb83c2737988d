"""Inputs and outputs that a node or a workflow keeps out of recordings: hash and size stay, values do not."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import call_command

from executions import events, local
from executions.nodes.base import Environment, NodeCall
from executions.retry import retry_execution
from executions.triggers import start_execution
from recordings.context import record_workflow
from recordings.events import OMITTED, encode_json, execution_log
from recordings.export import to_json
from recordings.finding import open_replayer
from recordings.models import Blob, Event, Recording
from recordings.packing import purge_rows, seal
from recordings.rows import iter_events
from tests.conftest import graph, node, outputs, wire
from tests.executions.edge_nodes import EdgeNode, run_here
from tests.executions.test_engine import transform

pytestmark = [pytest.mark.postgres]

NEEDLE = "needle-4711"
BIG = NEEDLE + "x" * 40_000
OFF = {"record_inputs": False, "record_outputs": False}


class TalksInATeam(EdgeNode, type="test_talks_in_a_team"):
    """Records a team, sets a variable and notes its input under the name that only the engine may use."""

    async def run(self, node: NodeCall, env: Environment) -> dict[str, Any]:
        """Return the input."""
        word = node.inputs["Kind"]
        env.record_team_start("team", "sequential", 1, {"word": word})
        env.record_team_member_start("team", "ann", {"word": word})
        env.record_team_member_communication("team", "ann", "bob", word)
        env.record_team_member_complete("team", "ann", {"word": word})
        env.record_team_complete("team", word)
        env.set_variable("word", word)
        env.record("mine", {OMITTED: {"recursion_depth": 7}, "note": "kept"})
        return {"Value": word}


def chain(policy=None, value=NEEDLE):
    """Return a workflow in which ``two`` needs what ``one`` gave and ``talk`` what ``two`` gave."""
    return graph(
        [
            transform("one", policy, word=value),
            node(
                "two", "json_transform", policy, Input_JSON={},
                Transform_Rules={"word": {"value": "{{ nodes.one['Transformed JSON'].word }}"}},
            ),
            node("talk", "test_talks_in_a_team", policy, Kind="{{ nodes.two['Transformed JSON'].word }}"),
        ],
        wire("one", "Done", "two", "Execute Condition"),
        wire("two", "Done", "talk", "Execute Condition"),
    )  # fmt: skip


@pytest.fixture
def run_workflow(alice, make_workflow, transactional_db, monkeypatch):
    """Run a definition here; return the execution and what was sent to those who watch."""

    def run(definition, input=None, **own):
        sent: list[dict[str, Any]] = []
        monkeypatch.setattr(events._pusher, "add", lambda _, logs, status: sent.extend(logs))
        execution = run_here(
            start_execution(make_workflow(definition, name=str(uuid4()), settings=own), by=alice, input=input).pk
        )
        assert execution.status == "completed", execution.error
        return execution, sent

    return run


def everything_of(execution):
    """Return all that readers get of a recording, as one text."""
    replayer = open_replayer(execution.pk)
    seen = [event.to_dict() for event in iter_events(execution.pk)]
    seen += [replayer.get_state_at_position(place) for place in range(len(replayer.events))]
    return json.dumps(seen) + to_json(replayer)


def hash_of(value):
    text = encode_json(value, canonical=True)
    return {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}


@pytest.mark.row("S0-33")
@pytest.mark.parametrize(("own", "policy"), [(OFF, None), ({}, OFF)], ids=["workflow", "node"])
@pytest.mark.parametrize("value", [NEEDLE, BIG], ids=["small", "large"])
def test_what_is_not_recorded_is_nowhere_in_the_recording_and_its_hash_is(run_workflow, own, policy, value):
    execution, sent = run_workflow(chain(policy, value), {"who": value if own else "Ada"}, **own)

    assert outputs(execution, "talk")["Value"] == value
    rows = list(Event.objects.filter(execution_id=execution.pk).order_by("seq"))
    assert NEEDLE not in "".join(row.data for row in rows)
    assert not [row for row in rows if "$outputs" in row.data]
    before = [event.to_dict() for event in iter_events(execution.pk)]
    assert NEEDLE not in everything_of(execution) + json.dumps(sent)
    assert sorted(sent, key=lambda log: log["seq"]) == [execution_log(event) for event in iter_events(execution.pk)]
    by_kind = {(event["event_type"], event["node_id"]): event for event in before}
    done = by_kind["node_complete", "talk"]
    assert (done["data"]["outputs"], done["data"]["variables"]) == ({}, {})
    assert {key: done["metadata"][f"outputs_{key}"] for key in ("sha256", "bytes")} == hash_of(
        {"Value": value, "Done": "execute"}
    )
    assert {key: done["metadata"][f"variables_{key}"] for key in ("sha256", "bytes")} == hash_of({"word": value})
    started = by_kind["node_start", "talk"]
    assert (started["data"]["inputs"], started["metadata"]["inputs_bytes"]) == ({}, len(value) + 11)
    assert by_kind["team_communication", "team"]["metadata"]["message_sha256"] == hash_of(value)["sha256"]
    for kind, name in (
        ("team_start", "context"), ("team_member_start", "inputs"), ("team_member_complete", "outputs"),
        ("team_complete", "final_output"),
    ):  # fmt: skip
        assert f"{name}_sha256" in by_kind[kind, "team"]["metadata"], kind
    assert ("initial_context_sha256" in by_kind["workflow_start", None]["metadata"]) is bool(own)
    mine = by_kind["mine", "talk"]
    assert (mine["metadata"], mine["data"]["note"]) == ({"recursion_depth": 0}, "kept")
    state = open_replayer(execution.pk).get_state_at_position(len(before) - 1)
    assert state["$nodes"] == {"one": {}, "two": {}, "talk": {}}

    recording = Recording.objects.get(execution_id=execution.pk)
    assert seal(recording)
    recording.refresh_from_db()
    purge_rows(recording, 1_000)
    assert not Event.objects.filter(execution_id=execution.pk).exists()
    assert [event.to_dict() for event in iter_events(execution.pk)] == before
    assert NEEDLE not in everything_of(execution)
    outside = set(Blob.objects.filter(refs__execution_id=execution.pk).values_list("pk", flat=True))
    kept = {run.outputs_blob for run in execution.node_runs.all() if run.outputs_blob}
    assert outside == {recording.sealed} | kept
    assert len(kept) == (2 if value == BIG else 0)  # of one and two they are equal
    assert outputs(execution, "talk")["Value"] == value


@pytest.mark.row("S0-33")
def test_a_node_wins_over_its_workflow_and_each_switch_is_for_itself(run_workflow):
    execution, _ = run_workflow(
        graph([
            transform("as the workflow", a=NEEDLE),
            transform("all", {"record_inputs": True, "record_outputs": True}, a=NEEDLE),
            transform("outputs only", {"record_outputs": True}, a=NEEDLE),
        ]),
        **OFF,
    )  # fmt: skip
    found = {
        (event.node_id, event.event_type.value): NEEDLE in json.dumps(event.data) for event in iter_events(execution.pk)
    }

    assert {key: seen for key, seen in found.items() if key[1].startswith("node")} == {
        ("as the workflow", "node_start"): False,
        ("as the workflow", "node_complete"): False,
        ("all", "node_start"): True,
        ("all", "node_complete"): True,
        ("outputs only", "node_start"): False,
        ("outputs only", "node_complete"): True,
    }


@pytest.mark.row("S0-33")
@pytest.mark.parametrize("sealed", [False, True], ids=["rows", "sealed"])
def test_runs_whose_values_differ_are_told_apart_by_their_hashes(run_workflow, sealed):
    one, _ = run_workflow(chain(OFF), {"n": 1})
    same, _ = run_workflow(chain(OFF), {"n": 1})
    other, _ = run_workflow(chain(OFF, "needle-0815"), {"n": 1})
    if sealed:
        assert all(seal(recording) for recording in Recording.objects.all())

    assert open_replayer(one.pk).compare(open_replayer(same.pk))["identical"]
    difference = open_replayer(one.pk).compare(open_replayer(other.pk))
    assert not difference["identical"]
    assert set(difference["output_diff"]) == {"one", "two", "talk", "team"}
    assert NEEDLE not in json.dumps(difference, default=str)


@pytest.mark.row("S0-33")
def test_pages_api_and_commands_show_the_hash_in_the_place_of_the_value(run_workflow, client, alice, capsys):
    execution, _ = run_workflow(chain(OFF))
    recording = Recording.objects.get(execution_id=execution.pk)
    sha256 = hash_of({"Value": NEEDLE, "Done": "execute"})["sha256"]
    client.force_login(alice)

    told = client.get(f"/api/v1/recordings/{recording.pk}/events").content.decode()
    alice.is_staff = alice.is_superuser = True
    alice.save()
    page = client.get(f"/admin/recordings/recording/{recording.pk}/change/").content.decode()
    call_command("recordings", "replay", str(recording.pk), "--show-data", "--user", alice.username)
    printed = capsys.readouterr().out
    for text in (told, page, printed):
        assert NEEDLE not in text
    assert sha256 in told
    assert sha256[:12] in page
    assert OMITTED in printed


@pytest.mark.row("S0-33")
def test_results_that_a_retry_takes_over_stay_out_of_its_recording(run_workflow, alice, make_workflow):
    workflow = make_workflow(
        graph(
            [transform("one", OFF, word=NEEDLE), node("bad", "http_request", URL="http://127.0.0.1:1/")],
            wire("one", "Done", "bad", "Execute Condition"),
        )
    )
    failed = run_here(start_execution(workflow, by=alice).pk)
    assert failed.status == "failed"

    again = run_here(retry_execution(failed, failed.owner).pk)

    taken = next(event for event in iter_events(again.pk) if event.data.get("kept"))
    assert (taken.node_id, taken.data["outputs"]) == ("one", {})
    assert taken.metadata["outputs_sha256"] == hash_of(outputs(failed, "one"))["sha256"]
    assert NEEDLE not in everything_of(again)


@pytest.mark.row("S0-33")
def test_a_run_in_this_process_leaves_out_what_its_nodes_say():
    with record_workflow("here") as recorder:
        result = local.execute_sync(chain(OFF))

    assert result.outputs["talk"]["Value"] == NEEDLE
    told = json.dumps([event.to_dict() for event in recorder.events])
    assert NEEDLE not in told
    done = next(event for event in recorder.events if event.event_type.value == "node_complete")
    assert done.metadata["outputs_sha256"] == hash_of(result.outputs["one"])["sha256"]


def test_a_recorder_that_leaves_out_values_leaves_out_those_of_teams():
    with record_workflow("here", record_inputs=False, record_outputs=False) as recorder:
        local.execute_sync(chain())

    teams = [event for event in recorder.events if event.event_type.value.startswith("team_")]
    said = [event.event_type.value for event in teams if NEEDLE in json.dumps(event.to_dict())]
    assert said == ["team_communication"]
