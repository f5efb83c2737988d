"""The pages of recordings: list, player, tags, files, comparison."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin import site
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.test import Client, RequestFactory
from django.urls import reverse

from recordings import ExecutionRecorder
from recordings.admin import WatchedAdmin
from recordings.blobs import save_blob
from recordings.database import DatabaseRecordingStorage
from recordings.models import Event, Recording
from recordings.packing import seal
from recordings.pages import EMPTY
from tests.admin.conftest import logged_in
from tests.recordings.conftest import blobs as blobs
from tests.recordings.conftest import make_execution as make_recording
from tests.recordings.conftest import record_run

Make = Callable[..., Any]
LIST = "/admin/recordings/recording/"

__all__ = ["blobs", "make_recording"]


def page_of(recording: Recording, page: str = "change", **query: Any) -> str:
    """Return the address of a page of a recording."""
    address = reverse(f"admin:recordings_recording_{page}", args=(recording.pk,))
    return address + ("?" + "&".join(f"{key}={value}" for key, value in query.items()) if query else "")


def listed(client: Client, **query: str) -> list[Any]:
    """Return the keys of the recordings that the list shows."""
    return [row.pk for row in client.get(LIST, query).context["cl"].result_list]


# --------------------------------------------------------------------------- the list


@pytest.mark.postgres
def test_the_list_is_filtered_by_workflow_tag_duration_status_and_trigger(make_recording: Make, bob: Any) -> None:
    shop = make_recording(user=bob, duration_seconds=0.4, tags=["a", "a b"], trigger="api", age_days=3)
    other = make_recording(
        user=bob, workflow_name="other", duration_seconds=90, tags=["A"], success=True, status="completed", age_days=2
    )
    client = logged_in(bob)

    assert listed(client) == [other.pk, shop.pk]
    assert listed(client, workflow="other") == [other.pk]
    assert listed(client, tag="a") == [shop.pk]
    assert listed(client, tag="a b") == [shop.pk]
    assert listed(client, tag="A") == [other.pk]
    assert listed(client, tag="%") == []
    assert listed(client, tag="' OR 1=1 --") == []
    assert listed(client, duration="1") == [shop.pk]
    assert listed(client, duration="600") == [other.pk]
    assert listed(client, duration="nonsense") == [other.pk, shop.pk]
    assert listed(client, status__exact="completed") == [other.pk]
    assert listed(client, trigger__exact="api") == [shop.pk]
    assert listed(client, status__exact="-") == []
    offered = client.get(LIST).content.decode()
    assert ">Completed</a>" in offered
    assert ">Failed</a>" in offered
    assert ">API</a>" in offered


@pytest.mark.postgres
def test_the_filters_offer_only_what_the_user_has(make_recording: Make, alice: Any, bob: Any) -> None:
    make_recording(user=bob, tags=["mine"], workflow_name="bobs")
    make_recording(user=alice, tags=["foreign"], workflow_name="alices")

    page = logged_in(bob).get(LIST).content.decode()

    assert "mine" in page
    assert "bobs" in page
    assert "foreign" not in page
    assert "alices" not in page


@pytest.mark.postgres
def test_totals_are_those_of_the_filtered_list(make_recording: Make, alice: Any, bob: Any) -> None:
    make_recording(user=bob, duration_seconds=2.0)
    make_recording(user=bob, duration_seconds=4.0, success=True, status="completed", file_size_bytes=2048)
    make_recording(user=bob, duration_seconds=None, success=None, status="")
    make_recording(user=alice)
    client = logged_in(bob)

    totals = client.get(LIST).context["totals"]

    assert totals["total"] == "3"
    assert (totals["good"], totals["bad"], totals["unfinished"]) == ("1", "1", "1")
    assert (totals["success_rate"], totals["mean"], totals["seconds"]) == ("50.0", "3.0 s", "6.0 s")
    assert totals["size"] == "2.0\xa0KB"
    only = client.get(LIST, {"status__exact": "completed"}).context["totals"]
    assert (only["total"], only["success_rate"]) == ("1", "100.0")


# --------------------------------------------------------------------------- the player


@pytest.mark.row("S0-06")
@pytest.mark.parametrize("sealed", [False, True])
def test_a_failed_run_opens_at_its_failing_event(make_recording: Make, bob: Any, sealed: bool) -> None:
    recording = make_recording(user=bob)
    if sealed:
        assert seal(recording)

    answer = logged_in(bob).get(page_of(recording))

    player = answer.context["player"]
    assert player["number"] == 7
    assert player["event"]["text"] == "node2 failed: still too slow"
    groups = {group["title"]: group["entries"] for group in player["groups"]}
    variables = {entry.key: (entry.text, entry.change) for entry in groups["Variables"]}
    assert variables == {"region": ("eu", ""), "Html": ("page 1", ""), "Done": ("true", "")}
    assert [(entry.key, entry.change) for entry in groups["Errors"]] == [("node2", "added")]
    assert answer.context["page"]["first"] == 1


def test_a_run_that_went_well_opens_at_its_first_event(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob, success=True, status="completed", error="")

    assert logged_in(bob).get(page_of(recording)).context["player"]["number"] == 1


def test_any_event_can_be_opened_with_its_state(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob)
    client = logged_in(bob)

    whole = client.get(page_of(recording, event=4))
    part = client.get(reverse("admin:recordings_recording_event", args=(recording.pk, 4)))

    for answer in (whole, part):
        player = answer.context["player"]
        assert (player["number"], player["event"]["text"]) == (4, "node1 completed")
        changes = {entry.key: entry.change for entry in player["groups"][0]["entries"]}
        assert changes == {"Html": "added", "Done": "added", "region": ""}
        assert "page 1" in answer.content.decode()
    assert "<html" not in part.content.decode()
    assert client.get(reverse("admin:recordings_recording_event", args=(recording.pk, 12))).status_code == 404
    assert client.get(reverse("admin:recordings_recording_event", args=(recording.pk, 0))).status_code == 404
    for text, number in (("999", 11), ("0", 1), ("x", 7), ("9" * 40, 7), ("-1", 7), ("²", 7)):
        assert client.get(page_of(recording, event=text)).context["player"]["number"] == number


def test_events_are_paged(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob, nodes=60)
    client = logged_in(bob)

    page = client.get(page_of(recording, event=60)).context["page"]
    assert (page["first"], page["last"], page["earlier"], page["later"]) == (51, 100, 0, 100)
    page = client.get(page_of(recording, event=60, after=100)).context["page"]
    assert (page["first"], page["last"], page["later"]) == (101, page["count"], None)
    assert len(page["events"]) == page["count"] - 100


@pytest.mark.row("S0-07")
def test_the_path_says_how_each_node_ended(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob)

    path = logged_in(bob).get(page_of(recording)).context["path"]

    assert [(step["name"], step["status"], step["number"]) for step in path["steps"]] == [
        ("node1", "completed", 3), ("node2", "failed", 5), ("node3", "completed", 8), ("last", "skipped", 10),
    ]  # fmt: skip


def test_a_recording_too_long_to_be_read_for_a_page_says_so(
    make_recording: Make, bob: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_recording(user=bob)
    monkeypatch.setattr("recordings.pages.MEASURED_EVENTS", recording.event_count - 1)

    answer = logged_in(bob).get(page_of(recording))

    assert not [name for name in ("path", "timing", "graph_url") if name in answer.context]
    page = answer.content.decode()
    assert f"more than {recording.event_count - 1} events" in page
    assert "--format trace" in page


def test_a_cancelled_run_did_not_fail(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob, success=False, status="cancelled", error="cancelled")
    client = logged_in(bob)

    page, totals = client.get(page_of(recording)).content.decode(), client.get(LIST).context["totals"]

    assert "Go to where it was cancelled" in page
    assert 'class="adm-alert" role=' not in page  # that of a missing worker has none
    assert totals["cancelled"] == "1"
    recording.error = "overlap: another one runs"
    recording.save()
    assert "another one runs" in client.get(page_of(recording)).content.decode()


def test_recorded_text_is_never_markup(blobs: str, bob: Any) -> None:
    recorder = record_run("<b>evil</b>")
    recorder.record_node_start("<script>alert(1)</script>", {"<i>key</i>": "<img src=x onerror=alert(2)>"})
    recorder.record_node_complete("<script>alert(1)</script>", {"<u>out</u>": "<s>text</s>"}, 0.1)
    identifier = DatabaseRecordingStorage(bob).save_sync(recorder)
    recording = Recording.objects.get(pk=uuid.UUID(identifier))
    client = logged_in(bob)

    for number in range(1, recording.event_count + 1):
        page = client.get(page_of(recording, event=number)).content.decode()
        assert not re.search("<script>alert|<img src=x|<b>evil|<i>key|<u>out|<s>text", page)


def test_a_name_that_is_written_backwards_turns_nothing_beside_it(blobs: str, bob: Any) -> None:
    """After a right-to-left override the id beside the name would be read backwards, too."""
    recording_id = DatabaseRecordingStorage(bob).save_sync(record_run("shop \u202e evil"))
    recording = Recording.objects.get(pk=uuid.UUID(recording_id))
    client = logged_in(bob)

    for address in (page_of(recording), page_of(recording, "compare")):
        assert '<bdi>shop \u202e evil</bdi> <span class="adm-mono">' in client.get(address).content.decode()


def test_a_recording_without_events_says_that_there_never_were_any(blobs: str, bob: Any) -> None:
    recording_id = DatabaseRecordingStorage(bob).save_sync(ExecutionRecorder("empty"))

    page = logged_in(bob).get(page_of(Recording.objects.get(pk=uuid.UUID(recording_id)))).content.decode()

    assert "This recording has no events" in page
    assert "any more" not in page


def test_the_list_says_how_many_tags_it_leaves_out(make_recording: Make, bob: Any) -> None:
    make_recording(user=bob, tags=[f"tag{number}" for number in range(7)], version_number=None)

    page = logged_in(bob).get(LIST).content.decode()

    shown = re.findall('<span class="adm-tag">(.*?)</span>', page)
    assert shown == ["tag0", "tag1", "tag2", "+4"]
    assert " · " not in page.split('id="result_list"')[1].split("</table>")[0]


def test_a_damaged_recording_says_so(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob)
    seal(recording)
    recording.refresh_from_db()
    name = f"{recording.sealed[:2]}/{recording.sealed}"
    with storages["blobs"].open(name) as file:
        content = file.read()
    storages["blobs"].delete(name)
    storages["blobs"].save(name, ContentFile(b"\0" * len(content)))
    client = logged_in(bob)

    page = client.get(page_of(recording))
    part = client.get(reverse("admin:recordings_recording_event", args=(recording.pk, 1)))

    assert (page.status_code, part.status_code) == (200, 200)
    assert "cannot be read" in page.content.decode()
    assert client.get(f"/api/v1/recordings/{recording.pk}/state", {"event": "1"}).status_code == 409


# --------------------------------------------------------------------------- tags


def test_tags_are_edited_on_the_page(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob, tags=["old"])
    client, url = logged_in(bob), page_of(recording, "tags")

    answer = client.post(url, {"add": " new , legal-hold"})
    assert answer.status_code == 302
    assert "On legal hold" in client.get(page_of(recording)).content.decode()
    client.post(url, {"remove": "old"})

    recording.refresh_from_db()
    assert recording.tags == ["new", "legal-hold"]
    client.post(url, {"remove": "legal-hold"})
    assert "Put on legal hold" in client.get(page_of(recording)).content.decode()
    assert client.get(url).status_code == 405
    client.post(url, {"add": ",".join(f"t{number}" for number in range(80))})
    recording.refresh_from_db()
    assert recording.tags == ["new"]


# --------------------------------------------------------------------------- files and comparison


def test_files_that_nodes_saved_are_shown_and_can_be_taken(blobs: str, bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    sha = save_blob(b"jpeg", "image/jpeg", world.execution.pk)
    world.event.data = world.event.data.replace(world.blob.pk, sha)
    world.event.save()
    client = logged_in(bob)

    (artifact,) = client.get(page_of(world.recording)).context["artifacts"]

    assert (artifact["name"], artifact["kind"], artifact["image"]) == ("send.jpg", "Screenshot", True)
    taken = client.get(artifact["url"])
    assert (taken.status_code, b"".join(taken)) == (200, b"jpeg")


def test_turns_of_loops_are_offered_behind_runs_that_somebody_started(make_recording: Make, bob: Any) -> None:
    first, before = make_recording(user=bob), make_recording(user=bob)
    turns = [make_recording(user=bob) for _ in range(2)]
    Recording.objects.filter(pk__in=[turn.pk for turn in turns]).update(trigger="workflow")
    client = logged_in(bob)

    def offered(recording: Recording) -> list[Any]:
        return [choice["recording"].pk for choice in client.get(page_of(recording, "compare")).context["choices"]]

    assert offered(first)[0] == before.pk
    assert offered(turns[0])[0] == turns[1].pk


def test_another_recording_of_the_same_workflow_is_chosen_and_compared(make_recording: Make, bob: Any) -> None:
    first, same = (make_recording(user=bob, trigger="api", version_number=number) for number in (1, 2))
    longer, other = make_recording(user=bob, nodes=4), make_recording(user=bob, workflow_name="other")
    client = logged_in(bob)

    offered = [choice["recording"].pk for choice in client.get(page_of(first, "compare")).context["choices"]]
    assert sorted(offered) == sorted([same.pk, longer.pk])
    assert other.pk not in offered
    result = client.get(page_of(first, "compare", **{"with": longer.pk})).context["result"]
    assert not result["identical"]
    assert result["nodes"]["only_in_other"] == ["node4"]
    assert result["difference"]["position"] == 8
    assert (result["events"]["added"], result["events"]["removed"]) == (2, 0)
    page = client.get(page_of(first, "compare", **{"with": same.pk}))
    assert page.context["result"]["difference"] is None
    assert "The paths are the same" in page.content.decode()
    assert {row["name"]: row["differs"] for row in page.context["result"]["metadata"]}["Version"]
    facts = {row["name"]: (row["first"], row["second"]) for row in page.context["result"]["metadata"]}
    assert facts["Version"] == ("v1", "v2")
    assert facts["Trigger"] == ("API", "API")
    (slow,) = [row for row in result["timing"] if row["node"] == "node1"]
    assert (slow["first"], slow["second"], slow["text"], slow["ratio"]) == ("500 ms", "500 ms", "0 ms", 1.0)


def test_a_value_that_is_not_there_is_no_null(blobs: str, bob: Any) -> None:
    keys = []
    for outputs in ({"gone": None}, {"came": None}):
        recorder = ExecutionRecorder("shop")
        recorder.record_node_complete("fetch", outputs)
        keys.append(uuid.UUID(DatabaseRecordingStorage(bob).save_sync(recorder)))
    first, second = (Recording.objects.get(pk=key) for key in keys)

    result = logged_in(bob).get(page_of(first, "compare", **{"with": second.pk})).context["result"]

    (outputs,) = [node for part in result["changes"] if part["title"] == "Outputs" for node in part["nodes"]]
    assert {change["path"]: (change["old"], change["new"]) for change in outputs["changes"]} == {
        "/gone": ("null", EMPTY),
        "/came": (EMPTY, "null"),
    }


def test_what_differs_that_is_of_no_node_is_on_the_page(make_recording: Make, bob: Any) -> None:
    """A run of which only the input or the end differs must not be different for no reason."""
    first, second = make_recording(user=bob), make_recording(user=bob)
    started = Event.objects.get(execution_id=second.execution_id, seq=1)
    Event.objects.filter(pk=started.pk).update(data=started.data.replace("eu", "us"))

    page = logged_in(bob).get(page_of(first, "compare", **{"with": second.pk}))

    (run,) = [group for group in page.context["result"]["changes"] if group["title"] == "Run"]
    assert [node["node"] for node in run["nodes"]] == ["input"]
    assert [change["new"] for change in run["nodes"][0]["changes"]] == ["us"]
    assert "0 only in" in page.content.decode()


def test_the_filters_offer_words_that_people_read(make_recording: Make, bob: Any) -> None:
    make_recording(user=bob, trigger="schedule")
    DatabaseRecordingStorage(bob).save_sync(record_run())

    page = logged_in(bob).get(LIST)

    offered = {
        spec.title: [choice["display"] for choice in spec.choices(page.context["cl"])]
        for spec in page.context["cl"].filter_specs
    }
    assert {"Failed", "Completed"} & set(offered["status"])
    assert {"Schedule", "None"} < set(offered["trigger"])


def test_the_status_filter_names_what_never_ended_as_the_list_does(blobs: str, bob: Any) -> None:
    DatabaseRecordingStorage(bob).save_sync(ExecutionRecorder("begun"))

    page = logged_in(bob).get(LIST)

    (status,) = [spec for spec in page.context["cl"].filter_specs if spec.title == "status"]
    assert [choice["display"] for choice in status.choices(page.context["cl"])] == ["All", "Unfinished"]
    assert '<span class="adm-status">Unfinished</span>' in page.content.decode()


def test_rows_that_no_page_gives_to_anybody_are_for_superusers(make_recording: Make, alice: Any, bob: Any) -> None:
    """A page that does not say whose rows are whose shows none, not all."""
    make_recording(user=bob)

    class Careless(WatchedAdmin):
        """Says nothing."""

    request = RequestFactory().get("/")
    seen = {}
    for request.user in (alice, bob):
        seen[request.user.username] = Careless(Recording, site).get_queryset(request).count()

    assert seen == {"alice": 1, "bob": 0}


# --------------------------------------------------------------------------- who may see it


def test_every_page_of_a_foreign_recording_does_not_exist(make_recording: Make, alice: Any, bob: Any) -> None:
    mine, foreign = make_recording(user=bob), make_recording(user=alice, tags=["hers"])
    client = logged_in(bob)

    for url in (
        page_of(foreign, "compare"),
        page_of(foreign, "compare", **{"with": mine.pk}),
        page_of(mine, "compare", **{"with": foreign.pk}),
        page_of(mine, "compare", **{"with": "nonsense"}),
        reverse("admin:recordings_recording_event", args=(foreign.pk, 1)),
        *(
            reverse(f"api:{name}", args=(foreign.pk,))
            for name in ("recording", "recording_events", "recording_download")
        ),
        reverse("api:recording_state", args=(foreign.pk,)) + "?event=1",
        reverse("api:recording_compare", args=(mine.pk, foreign.pk)),
        reverse("api:recording_compare", args=(foreign.pk, mine.pk)),
    ):
        assert client.get(url).status_code == 404, url
    assert client.get(page_of(foreign)).status_code in (302, 404)
    assert client.post(page_of(foreign, "tags"), {"add": "mine"}).status_code == 404
    foreign.refresh_from_db()
    assert foreign.tags == ["hers"]
    assert logged_in(alice).get(page_of(mine, "compare")).status_code == 200


def test_strangers_are_sent_to_the_login_page(make_recording: Make, bob: Any) -> None:
    recording = make_recording(user=bob)

    for url in (
        page_of(recording, "compare"),
        reverse("admin:recordings_recording_event", args=(recording.pk, 1)),
        page_of(recording, "tags"),
    ):
        assert Client().get(url).headers["Location"].startswith("/admin/login/"), url


@pytest.mark.postgres
def test_a_nul_character_breaks_neither_lists_nor_tags(make_recording: Make, bob: Any) -> None:
    bob.is_superuser = bob.is_staff = True
    bob.save()
    client, recording = logged_in(bob), make_recording()
    for address, names in (
        ("recordings/recording", ("tag", "workflow", "status", "q", "trigger")),
        ("workflows/auditentry", ("verb", "kind", "owner")),
        ("workflows/workflow", ("tag", "status__exact")),
        ("executions/execution", ("workflow", "version", "status")),
    ):
        for name in names:
            answer = client.get(f"/admin/{address}/?{name}=%00")
            assert answer.status_code == 400, (address, name)
            assert client.get(f"/admin/{address}/?{name}=%2500").status_code in (200, 302, 404), (address, name)
    url = reverse("admin:recordings_recording_tags", args=(recording.pk,))
    page = client.post(url, {"add": "a\0b"}, follow=True)
    assert any("NUL" in str(message) for message in page.context["messages"])
    recording.refresh_from_db()
    assert "a\0b" not in (recording.tags or [])
