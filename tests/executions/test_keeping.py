"""Which executions keep a recording, why, and what is said of the others. One worker serves all strategies."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db.models import Q
from django.utils import timezone
from django.utils.html import escape

from executions import ending, report
from executions.models import Execution
from executions.tasks import purge_dead_letters
from executions.triggers import cancel_execution, start_execution
from recordings import keeping, tasks
from recordings.context import RecordingConfig, sample
from recordings.errors import RecordingError, RecordingNotFound
from recordings.finding import find_recording, open_replayer
from recordings.models import Event, NotRecorded, Recording
from recordings.packing import seal
from recordings.rows import open_sealed
from tests.conftest import graph, node, wait_until_ended, wire
from tests.environment import ROOT
from tests.executions.edge_nodes import run_here
from tests.executions.test_engine import transform
from workflows.keeping import recording_rules

pytestmark = [pytest.mark.postgres]

GOOD = graph([transform("one"), transform("two")], wire("one", "Done", "two", "Execute Condition"))
BAD = graph([node("one", "http_request", URL="http://127.0.0.1:1/")])
SLOW = graph([node("wait", "delay", Duration=0.3)])


def facts(execution):
    recording = Recording.objects.filter(execution_id=execution.pk).first()
    reason = NotRecorded.objects.filter(pk=execution.pk).values_list("reason", flat=True).first()
    return None if recording is None else (recording.kept_because, recording.tags), reason


@pytest.mark.worker
@pytest.mark.redis
@pytest.mark.row("S0-18", "S0-19", "S0-20", "S0-21", "S0-32", "S0-37")
def test_each_strategy_keeps_what_it_says_and_the_reason_is_shown(
    processes, alice, make_workflow, settings, client, capsys
):
    processes.worker(FLOWBUILDER_RECORDING="failed")

    def run(definition, name, **own):
        workflow = make_workflow(definition, name=name, settings=own)
        return start_execution(workflow, by=alice)

    good, bad = run(GOOD, "good"), run(BAD, "bad", tags=["shop"])
    slow, quick = run(SLOW, "slow", recording="long:0.2"), run(GOOD, "quick", recording="long:60")
    everything, nothing = run(GOOD, "all", recording="all"), run(BAD, "off", recording="off")
    workflow = make_workflow(GOOD, name="sampled", settings={"recording": "sample:0.5"})
    sampled = [start_execution(workflow, by=alice) for _ in range(12)]
    for execution in (good, bad, slow, quick, everything, nothing, *sampled):
        wait_until_ended(execution, detail=processes.logs)

    installation = "this installation keeps the recordings 'failed', and this execution is not one of them"
    assert facts(good) == (None, installation)
    assert facts(bad) == (("it failed", ["shop", "trigger:manual", "auto-failure"]), None)
    assert facts(slow) == (("it took longer than 0.2 s", ["trigger:manual"]), None)
    assert facts(quick)[0] is None
    assert facts(everything) == (("every execution is kept", ["trigger:manual"]), None)
    assert facts(nothing) == (
        None, "the workflow keeps the recordings 'off', and this execution is not one of them",
    )  # fmt: skip
    for execution in sampled:
        assert (facts(execution)[0] is not None) == (sample(str(execution.pk)) < 0.5)

    shown = report.detail(good)
    assert (shown["recording_id"], shown["recording_note"]) == (None, f"none: {installation}")
    assert report.detail(bad)["recording_note"] == "kept: it failed"
    client.force_login(alice)
    assert (
        "keeps the recordings &#x27;failed&#x27;"
        in client.get(f"/admin/executions/execution/{good.pk}/change/").content.decode()
    )
    assert client.get(f"/api/v1/executions/{good.pk}").json()["recording_note"] == f"none: {installation}"
    call_command("executions", "show", str(good.pk))
    assert f"recording none: {installation}" in " ".join(capsys.readouterr().out.split())

    row = NotRecorded.objects.get(pk=good.pk)
    replayer = open_replayer(good.pk)
    assert (replayer.metadata.status, len(replayer.events)) == ("completed", row.event_count)
    assert (row.node_count, row.event_count) == (2, Event.objects.filter(execution_id=good.pk).count())
    assert "Keep the recording" in client.get(f"/admin/executions/execution/{good.pk}/change/").content.decode()
    said = client.post(f"/admin/executions/execution/{good.pk}/keep/", follow=True).content.decode()
    assert "The recording is kept." in said
    assert "Keep the recording" not in said
    kept = Recording.objects.get(execution_id=good.pk)
    assert keeping.keep(str(good.pk)) == kept
    assert facts(good) == (("it was kept by hand", ["trigger:manual"]), None)
    same = Recording.objects.get(execution_id=everything.pk)
    assert (kept.node_count, kept.event_count, kept.status, kept.workflow_id, kept.trigger, kept.version_number) == (
        2, same.event_count, "completed", good.workflow_id, same.trigger, 1,
    )  # fmt: skip
    assert kept.completed_at is not None
    assert (kept.completed_at - kept.started_at).total_seconds() == pytest.approx(kept.duration_seconds, abs=0.001)
    assert abs(kept.started_at - good.queued_at) < timedelta(milliseconds=1)


@pytest.mark.row("S0-37")
def test_why_there_is_no_recording_is_said_and_it_can_be_kept_from_page_api_and_command(
    transactional_db, alice, bob, make_workflow, settings, client
):
    settings.RECORDING = "off"
    workflow = make_workflow(GOOD, owner=bob)
    waiting = start_execution(workflow, by=bob)
    by_api, by_page, by_command, late = (run_here(start_execution(workflow, by=bob).pk) for _ in range(4))
    NotRecorded.objects.filter(pk=late.pk).update(recording="")
    client.force_login(bob)
    bob.user_permissions.set(Permission.objects.all())
    reason = "this installation keeps the recordings 'off', and this execution is not one of them"

    def keep(execution):
        return client.post(f"/api/v1/executions/{execution.pk}/keep")

    def page(execution):
        return client.get(f"/admin/executions/execution/{execution.pk}/change/").content.decode()

    assert client.get(f"/api/v1/executions/{by_api.pk}").json()["recording_note"] == f"none: {reason}"
    assert [keep(one).status_code for one in (by_api, by_api, waiting, late)] == [200, 200, 409, 409]
    assert "has not ended" in keep(waiting).json()["detail"]
    assert "its events are gone" in keep(late).json()["detail"]
    recording = Recording.objects.get(execution_id=by_api.pk)
    assert keep(by_api).json() == {"recording_id": str(recording.pk)}
    assert client.get(f"/api/v1/recordings/{recording.pk}/events").json()["items"]

    assert f"None: {escape(reason)}" in page(by_page)
    assert [">Keep the recording<" in page(one) for one in (by_page, by_api, late, waiting)] == [
        True,
        False,
        False,
        False,
    ]
    told = client.post(f"/admin/executions/execution/{by_page.pk}/keep/", follow=True).content.decode()
    assert "The recording is kept." in told
    assert "Kept: it was kept by hand" in told
    told = client.post(f"/admin/executions/execution/{late.pk}/keep/", follow=True).content.decode()
    assert "its events are gone" in told

    Event.objects.filter(execution_id=late.pk).delete()
    with pytest.raises(CommandError, match=re.escape(f"execution {late.pk} has no recording: {reason}")):
        call_command("recordings", "inspect", str(late.pk)[:13], "--user", "bob")
    with pytest.raises(RecordingNotFound, match=f"{re.escape(reason)}; ./flow recordings keep keeps it"):
        find_recording(by_command.pk, bob)
    with pytest.raises(RecordingNotFound, match="no recording or execution"):
        find_recording(by_command.pk, django_user("carol"))
    call_command("recordings", "keep", str(by_command.pk), "--user", "bob")
    kept = Recording.objects.filter(execution_id__in=[one.pk for one in (by_page, by_command)])
    assert set(kept.values_list("kept_because", flat=True)) == {"it was kept by hand"}
    client.force_login(django_user("dave"))
    assert keep(late).status_code == 404


def django_user(name):
    return get_user_model().objects.create(username=name, is_staff=True)


def test_a_cancelled_run_did_not_fail(transactional_db, alice, make_workflow, settings):
    settings.RECORDING = "failed"
    execution = start_execution(make_workflow(GOOD), by=alice)

    cancel_execution(execution, by="alice")

    assert facts(execution)[0] is None
    assert (
        NotRecorded.objects.get(pk=execution.pk).event_count == Event.objects.filter(execution_id=execution.pk).count()
    )
    assert keeping.keep(execution.pk).status == "cancelled"


def test_what_has_not_ended_or_is_gone_cannot_be_kept(transactional_db, alice, make_workflow, settings):
    settings.RECORDING = "off"
    execution = start_execution(make_workflow(GOOD), by=alice)
    with pytest.raises(RecordingNotFound, match="has not ended"):
        keeping.keep(execution.pk)
    with pytest.raises(RecordingNotFound, match="not the id of an execution"):
        keeping.keep("what")

    cancel_execution(execution, by="alice")
    NotRecorded.objects.update(recording="")

    with pytest.raises(RecordingError, match="FLOWBUILDER_EVENT_GRACE_SECONDS"):
        keeping.keep(execution.pk)


@pytest.mark.row("S0-20")
def test_a_sample_keeps_executions_with_all_that_ran_inside_them_or_without(
    transactional_db, alice, make_workflow, settings
):
    settings.RECORDING = "sample:0.5"
    make_workflow(GOOD, name="inner")
    turns = [node("loop", "loop_items", Items=["a", "b"]), node("sub", "subflow", Workflow="inner")]
    outer = make_workflow(graph(turns, wire("loop", "Each", "sub", "Execute Condition")), name="outer")
    families: list[tuple[Execution, bool]] = []
    while len({keeps for _, keeps in families}) < 2:
        root = run_here(start_execution(outer, by=alice).pk)
        families.append((root, sample(str(root.pk)) < 0.5))
        assert len(families) < 30

    for root, keeps in families:
        inside = list(Execution.objects.filter(Q(parent=root) | Q(parent__parent=root)).values_list("pk", flat=True))
        assert len(inside) == 4
        kept = Recording.objects.filter(execution_id__in=[root.pk, *inside])
        assert kept.count() == (5 if keeps else 0)
        assert set(kept.values_list("kept_because", flat=True)) <= {"it is in the sample of 50 %"}


def test_a_recording_says_by_which_program_it_was_made_also_once_it_is_sealed(
    transactional_db, alice, make_workflow, settings
):
    settings.RECORDING = "failed"
    execution = run_here(start_execution(make_workflow(GOOD), by=alice).pk)
    recording = keeping.keep(execution.pk)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def said():
        metadata = open_replayer(execution.pk).metadata
        return metadata.engine_version, metadata.env_fingerprint

    version, where = before = said()
    assert version == project["version"]
    assert where is not None
    assert re.fullmatch(rf".*-{re.escape(platform.python_version())}-.*-p[0-9a-f]{{8}}-n[0-9a-f]{{8}}", where)
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-v", "0", "-c", "from executions.ending import _made_by as m; print(m())"],
        env=dict(os.environ, PYTHONHASHSEED="7"), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.rpartition("-n")[0] in done.stdout  # the node types of these tests are not there
    recording.details = json.dumps({"engine_version": "0.0.1", "env_fingerprint": "another machine"})
    recording.save()
    assert seal(recording)
    assert said() == ("0.0.1", "another machine")
    recording.refresh_from_db()
    with open_sealed(recording) as sealed:
        assert (sealed.metadata.engine_version, sealed.metadata.env_fingerprint) == ("0.0.1", "another machine")
    assert before != said()


@pytest.mark.row("S0-20")
def test_a_rate_of_a_tenth_keeps_about_a_tenth_of_a_thousand_whether_they_fail_or_not():
    config = RecordingConfig(**recording_rules("sample:0.1"))

    for success in (True, False):
        kept = [config.keeps(success, f"execution-{number}") for number in range(1000)]
        assert 60 <= sum(kept) <= 140
        assert kept == [config.keeps(success, f"execution-{number}") for number in range(1000)]


@pytest.mark.row("S0-21")
def test_strategies_combine():
    config = RecordingConfig(**recording_rules("failed, long:60"))

    assert [config.reason(*run) for run in ((False, "a", 1), (True, "a", 1), (True, "a", 60), (True, "a", 60.5))] == [
        "it failed", "", "", "it took longer than 60 s",
    ]  # fmt: skip


def test_a_setting_of_a_workflow_that_cannot_be_read_does_not_lose_recordings(settings):
    settings.RECORDING = "all"

    for text in ("sometimes", 7, None, "sample:2"):
        config, source = ending.recording_config({"recording": text})
        assert config.keeps(True, "x")
        assert source.startswith("this installation")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("FLOWBUILDER_RECORDING", "some", 'FLOWBUILDER_RECORDING has "some", which is none of all, off, manual'),
        ("FLOWBUILDER_RECORDING", "sample:2", 'FLOWBUILDER_RECORDING has "sample:2"; its number goes from 0 to 1'),
        ("FLOWBUILDER_RETENTION", "[]", "FLOWBUILDER_RETENTION must be a JSON object, not"),
        ("FLOWBUILDER_RETENTION", '{"max_count": 1.5}', "max_count must be a number from 0"),
        ("FLOWBUILDER_RETENTION", "{", "FLOWBUILDER_RETENTION must be a JSON object"),
    ],
)
def test_a_bad_setting_stops_the_start_and_names_what_is_wrong(name, value, complaint):
    done = subprocess.run(
        [sys.executable, "-c", "import flowbuilder.settings"], env={**os.environ, name: value}, cwd=ROOT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert complaint in done.stderr


@pytest.mark.redis
@pytest.mark.django_db(transaction=True)
@pytest.mark.row("S2-30")
def test_status_log_and_results_are_there_after_a_fortnight_of_nightly_jobs(alice, make_workflow, client, monkeypatch):
    workflow = make_workflow(GOOD, name="good")
    execution = run_here(start_execution(workflow, by=alice).pk)

    def answers():
        path = f"/api/v1/executions/{execution.pk}"
        return [client.get(path + part).json() for part in ("", "/logs?limit=1000")]

    client.force_login(alice)
    before = answers()
    rows = Event.objects.filter(execution_id=execution.pk)
    assert before[0]["status"] == "completed"
    assert before[0]["nodes"]
    assert len(before[1]["logs"]) == rows.count() > 6

    for day in range(1, 16):
        later = timezone.now() + timedelta(days=1)
        monkeypatch.setattr(timezone, "now", lambda later=later: later)
        for job in (tasks.seal_finished, tasks.purge_events, tasks.retention, purge_dead_letters):
            job()
        client.force_login(alice)  # a login ends after a fortnight, too
        assert answers() == before, f"day {day}"

    assert not rows.exists(), "the log still comes from the rows"
