"""Dead letters are looked at, replayed and discarded; everybody handles their own."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.urls import reverse

from executions import letters
from executions.models import DeadLetter, Execution
from tests.admin.conftest import logged_in

LIST = "/admin/executions/deadletter/"


def page(letter: DeadLetter) -> str:
    return reverse("admin:executions_deadletter_change", args=(letter.pk,))


def handle(user: Any, letter: DeadLetter, verb: str, method: str = "post") -> Any:
    url = reverse("admin:executions_deadletter_handle", args=(letter.pk, verb))
    return getattr(logged_in(user), method)(url, follow=True)


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def buttons(user: Any, letter: DeadLetter) -> list[str]:
    html = logged_in(user).get(page(letter)).content.decode()
    return re.findall(r'formaction="[^"]*/([a-z-]+)/"', html)


@pytest.fixture
def letter(bob: Any, make_world: Any) -> DeadLetter:
    """A node of bob's that was given up."""
    world = make_world(bob, "shop")
    found: DeadLetter = world.letter
    DeadLetter.objects.filter(pk=found.pk).update(workflow=world.workflow, deliveries=3)
    return found


def test_the_list_says_what_was_given_up_and_why(bob: Any, letter: DeadLetter) -> None:
    html = logged_in(bob).get(LIST).content.decode()

    for word in ("send", "Node", "shop", "gave up", "Open"):
        assert word in html
    assert re.search(r'field-deliveries[^>]*">3<', html)


def test_the_page_leads_to_the_execution_and_shows_the_content(bob: Any, letter: DeadLetter) -> None:
    DeadLetter.objects.filter(pk=letter.pk).update(payload='{"phase":4,"node":"<script>"}')

    html = logged_in(bob).get(page(letter)).content.decode()

    assert reverse("admin:executions_execution_change", args=(letter.execution_id,)) in html
    assert "&quot;phase&quot;: 4" in html
    assert "<script>&quot;" not in html


def test_replay_from_here_starts_an_execution_and_notes_who_wanted_it(bob: Any, letter: DeadLetter) -> None:
    assert buttons(bob, letter) == ["discard", "replay-whole", "replay"]

    response = handle(bob, letter, "replay")

    new = Execution.objects.get(retry_of=letter.execution)
    letter.refresh_from_db()
    assert (letter.status, letter.handled_by, letter.replayed_as) == ("replayed", bob, new)
    assert "is replayed as <a href=" in said(response)[0]
    html = response.content.decode()
    assert reverse("admin:executions_execution_change", args=(new.pk,)) in html
    assert buttons(bob, letter) == []
    assert "was handled before: replayed" in said(handle(bob, letter, "discard"))[0]


def test_discard_notes_who_did_it(bob: Any, letter: DeadLetter) -> None:
    response = handle(bob, letter, "discard")

    letter.refresh_from_db()
    assert (letter.status, letter.handled_by, letter.handled_at is not None) == ("discarded", bob, True)
    assert said(response) == [f"Dead letter {letter.pk} is discarded."]
    assert not Execution.objects.filter(trigger="retry").exists()
    assert "bob" in logged_in(bob).get(LIST).content.decode()


def test_many_letters_are_handled_at_once(bob: Any, letter: DeadLetter) -> None:
    other = letters.keep(
        "node", "gave up", {}, workflow_id=letter.workflow_id, execution_id=letter.execution_id, node_id="wait"
    )
    data = {"action": "discard", "_selected_action": [str(letter.pk), str(other.pk)], "index": "0"}

    response = logged_in(bob).post(LIST, data, follow=True)

    assert set(DeadLetter.objects.values_list("status", flat=True)) == {"discarded"}
    assert len(said(response)) == 2


def test_a_schedule_that_was_missed_is_replayed_without_a_choice(bob: Any, make_world: Any) -> None:
    world = make_world(bob, "shop")
    payload = {"workflow_id": str(world.workflow.pk), "scheduled_for": "2026-03-01T09:00:00+00:00"}
    missed = letters.keep("schedule", "no active version", payload, workflow_id=world.workflow.pk)

    assert buttons(bob, missed) == ["discard", "replay"]
    handle(bob, missed, "replay")

    assert Execution.objects.get(trigger="scheduled").workflow == world.workflow


def test_a_message_that_was_none_of_ours_can_only_be_discarded(alice: Any) -> None:
    strange = letters.keep("message", "a message was refused", json.loads('{"body": "x"}'))

    assert buttons(alice, strange) == ["discard"]
    assert "cannot be sent again" in said(handle(alice, strange, "replay"))[0]
    strange.refresh_from_db()
    assert strange.status == "open"


def test_letters_of_others_do_not_exist(bob: Any, carol: Any, letter: DeadLetter) -> None:
    strange = letters.keep("message", "a message was refused", {})

    assert "gave up" not in logged_in(carol).get(LIST).content.decode()
    for hidden in (letter, strange):
        assert handle(carol, hidden, "discard").status_code == 404
        assert logged_in(carol).get(page(hidden)).status_code in (302, 404)
    assert logged_in(bob).get(page(strange)).status_code in (302, 404)
    assert not DeadLetter.objects.exclude(status="open").exists()


def test_letters_are_handled_by_post_only(bob: Any, letter: DeadLetter) -> None:
    assert handle(bob, letter, "replay", "get").status_code == 405
    assert handle(bob, letter, "burn").status_code == 404
