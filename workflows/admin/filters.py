"""Filters of lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest

from workflows import access
from workflows.models import Workflow

WORKFLOWS_OFFERED = 50
"""Choices of the workflow filter; the search finds the others."""
OWNERS_OFFERED = WORDS_OFFERED = 50


class DateFilter(admin.DateFieldListFilter):
    """Filter by day; its title is the column without "at"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = "day" if str(self.title) == "at" else str(self.title).removesuffix(" at")


class ScheduleFilter(admin.SimpleListFilter):
    """Whether a workflow starts by itself."""

    title = "schedule"
    parameter_name = "schedule"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer what a schedule may be."""
        return [("on", "Scheduled"), ("off", "Switched off"), ("none", "Not scheduled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the workflows of the chosen kind."""
        kinds: dict[str | None, dict[str, bool | None]] = {
            "on": {"schedule__enabled": True},
            "off": {"schedule__enabled": False},
            "none": {"schedule": None},
        }
        return queryset.filter(**kinds.get(self.value(), {}))


class WorkflowFilter(admin.SimpleListFilter):
    """The workflows that the user may see."""

    title = "workflow"
    parameter_name = "workflow"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the names; of many workflows the first ones, and always the chosen one."""
        visible = Workflow.objects.visible_to(request.user)
        offered = list(visible.order_by("name").values_list("pk", "name")[:WORKFLOWS_OFFERED])
        chosen = self.value()
        if chosen and chosen not in {str(pk) for pk, _ in offered}:
            try:
                offered += visible.filter(pk=chosen).values_list("pk", "name")
            except ValidationError:
                raise Http404("there is no such workflow") from None
        return [(str(pk), name) for pk, name in offered]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen workflow."""
        return queryset.filter(workflow=self.value()) if self.value() else queryset


class TagFilter(admin.SimpleListFilter):
    """The tags in the settings of the workflows that the user sees."""

    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the tags."""
        tagged = Workflow.objects.visible_to(request.user).filter(settings__has_key="tags").order_by()
        lists = (tags for tags in tagged.values_list("settings__tags", flat=True) if isinstance(tags, list))
        found = sorted({str(tag) for tags in lists for tag in tags})[:WORDS_OFFERED]
        chosen = self.value()
        return [(tag, tag) for tag in ([*found, chosen] if chosen and chosen not in found else found)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the workflows with the chosen tag."""
        chosen = self.value()
        return queryset.filter(settings__has_tag=chosen) if chosen else queryset


class OwnerFilter(admin.SimpleListFilter):
    """Whose rows; for people who see those of others."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the owners of what the user sees; without a choice there is no filter."""
        if not access.sees_everything(request.user):
            return []
        owners = get_user_model()._default_manager.filter(is_active=True).order_by("username")
        return [(str(pk), name) for pk, name in owners.values_list("pk", "username")[:OWNERS_OFFERED]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen owner."""
        chosen = self.value() or ""
        return queryset.filter(owner=chosen) if chosen.isascii() and chosen.isdigit() else queryset


class WordFilter(admin.SimpleListFilter):
    """The words that a column of the rows that the user sees has; ``empty`` is what an empty one is called."""

    column = ""
    empty = "None"
    NONE = "-"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the words."""
        words = model_admin.get_queryset(request).order_by(self.column).values_list(self.column, flat=True).distinct()
        return [
            (word or self.NONE, word.replace("_", " ").capitalize() or self.empty) for word in words[:WORDS_OFFERED]
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows with the chosen word."""
        chosen = self.value()
        return queryset.filter(**{self.column: "" if chosen == self.NONE else chosen}) if chosen else queryset
