"""Users with workflows are kept."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import logged_in

LIST = "/admin/auth/user/"


def test_an_owner_of_workflows_is_not_deleted_and_the_page_says_what_to_do(
    alice: Any, bob: Any, make_world: Any
) -> None:
    make_world(bob, "shop")

    for method in ("get", "post"):
        url = reverse("admin:auth_user_delete", args=(bob.pk,))
        response = getattr(logged_in(alice), method)(url, {"post": "yes"}, follow=True)
        text = "".join(str(message) for message in response.context["messages"])
        assert 'User "bob" owns 1 workflow and 1 execution and cannot be deleted.' in text
        assert 'Take away "Active" instead' in text

    assert get_user_model().objects.filter(pk=bob.pk).exists()


def test_a_user_without_rows_is_deleted(alice: Any, bob: Any) -> None:
    logged_in(alice).post(reverse("admin:auth_user_delete", args=(bob.pk,)), {"post": "yes"})

    assert not get_user_model().objects.filter(pk=bob.pk).exists()


def test_a_new_user_can_log_in_and_the_form_says_what_it_takes(alice: Any, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    add = "/admin/auth/user/add/"
    page = logged_in(alice).get(add)
    words = "Needed to log in to these pages."
    assert words in page.content.decode()
    assert page.context["adminform"].form["is_staff"].value() is True
    data = {"username": "dora", "usable_password": "true", "password1": "green-oak-tree", "password2": "green-oak-tree"}

    logged_in(alice).post(add, {**data, "is_staff": "on"})
    logged_in(alice).post(add, {**data, "username": "eve"})

    people = get_user_model().objects
    assert [people.get(username=name).is_staff for name in ("dora", "eve")] == [True, False]
    assert words in logged_in(alice).get(f"/admin/auth/user/{people.get(username='eve').pk}/change/").content.decode()
    login = Client().post("/admin/login/", {"username": "dora", "password": "green-oak-tree"})
    assert login.status_code == 302


def test_the_delete_action_deletes_nobody_and_names_who_is_in_the_way(
    alice: Any, bob: Any, carol: Any, make_world: Any
) -> None:
    make_world(bob, "shop")
    data = {"action": "delete_selected", "_selected_action": [str(bob.pk), str(carol.pk)], "index": "0"}

    response = logged_in(alice).post(LIST, {**data, "post": "yes"}, follow=True)

    assert get_user_model().objects.filter(pk=bob.pk).exists()
    assert get_user_model().objects.filter(pk=carol.pk).exists()
    assert ['User "bob" owns' in str(message) for message in response.context["messages"]] == [True]
    assert "Cannot delete users" in response.content.decode()
