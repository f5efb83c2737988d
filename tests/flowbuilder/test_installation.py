"""The first user, the examples and the user that one of them logs in with."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model

from flowbuilder.installation import CREDENTIAL, DEMO, READER, USER, add_examples, add_reader, first_user
from workflows import credentials
from workflows.models import Credential, Workflow
from workflows.transfer import examples

pytestmark = pytest.mark.django_db

User: Any = get_user_model()


@pytest.fixture(autouse=True)
def variables(settings: Any) -> None:
    """Give the variables that the supervisor gives."""
    settings.WORKFLOW_VARS = {"demo_url": "http://127.0.0.1:1", "base_url": "http://127.0.0.1:2"}


def test_the_first_start_makes_a_user_with_a_password_and_the_second_does_not() -> None:
    user, password = first_user(private=False)

    assert authenticate(username=USER, password=password) == user
    assert first_user(private=False) == (user, "")


def test_a_start_that_nobody_sees_makes_no_password_and_the_next_visible_one_does() -> None:
    user, password = first_user(private=True)
    assert password == ""
    assert not user.has_usable_password()

    again, password = first_user(private=False)

    assert again == user
    assert authenticate(username=USER, password=password) == user


def test_somebody_elses_superuser_is_left_alone(alice: Any) -> None:
    assert first_user(private=False) == (alice, "")
    assert authenticate(username="alice", password="alice-password") == alice
    assert not User.objects.filter(username=USER).exists()


def test_examples_are_active_and_those_that_were_edited_stay_as_they_are(alice: Any) -> None:
    add_reader(alice)
    add_examples(alice)
    assert dict(Workflow.objects.values_list("name", "status")) == dict.fromkeys(examples(), "active")

    edited = Workflow.objects.get(name=DEMO)
    edited.save_version({"nodes": [], "edges": []}, author=alice)
    add_examples(alice)

    assert edited.versions.count() == 2
    edited.refresh_from_db()
    assert edited.draft is not None
    assert edited.draft.definition == {"nodes": [], "edges": []}


def test_the_example_logs_in_as_somebody_who_may_only_look_at_periodic_tasks(alice: Any) -> None:
    add_reader(alice)
    credential = Credential.objects.get(name=CREDENTIAL)
    add_reader(alice)

    reader = authenticate(username=READER, password=credentials.resolve(alice.pk, CREDENTIAL, "password"))
    assert reader is not None
    assert reader.get_all_permissions() == {"django_celery_beat.view_periodictask"}
    assert reader.is_staff
    assert not reader.is_superuser
    assert Credential.objects.get(name=CREDENTIAL) == credential
