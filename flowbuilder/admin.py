"""Admin page of users: a user who owns workflows is not deleted, but switched off."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from executions.models import Execution
from workflows.models import Workflow

admin.site.unregister(User)

STAFF = (
    "Needed to log in to these pages. What somebody sees there are their own workflows; programs need none, "
    "they come with an API token."
)


def reason_to_keep(user: User) -> str:
    """Return why ``user`` cannot be deleted and what to do instead; empty when they can."""
    workflows = Workflow.objects.filter(owner=user).count()
    executions = Execution.objects.filter(owner=user).count()
    if not workflows and not executions:
        return ""
    owned = [
        f"{count} {noun}{'' if count == 1 else 's'}"
        for count, noun in ((workflows, "workflow"), (executions, "execution"))
        if count
    ]
    return (
        f'User "{user.get_username()}" owns {" and ".join(owned)} and cannot be deleted. '
        'Take away "Active" instead: then nobody can log in with the account, and its history stays.'
    )


@admin.register(User)
class OwnerAdmin(UserAdmin):
    """Users, as Django shows them, with a clear answer when one cannot be deleted."""

    list_filter = ("is_staff", "is_superuser", "is_active")
    add_fieldsets = (*UserAdmin.add_fieldsets, (None, {"fields": ("is_staff",)}))

    def get_changeform_initial_data(self, request: HttpRequest) -> Any:
        """Begin with a user who can log in."""
        return {"is_staff": True, **super().get_changeform_initial_data(request)}

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say of the status what depends on it here."""
        if db_field.name == "is_staff":
            kwargs["help_text"] = STAFF
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refuse to delete an owner of workflows, and say what to do instead."""
        user = self.get_object(request, object_id)
        reason = reason_to_keep(user) if user is not None and self.has_delete_permission(request, user) else ""
        if reason:
            self.message_user(request, reason, messages.ERROR)
            return HttpResponseRedirect(reverse("admin:auth_user_change", args=(object_id,)))
        return super().delete_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say of each chosen user who cannot be deleted what to do instead."""
        for reason in filter(None, map(reason_to_keep, objs)):
            self.message_user(request, reason, messages.ERROR)
        return super().get_deleted_objects(objs, request)
