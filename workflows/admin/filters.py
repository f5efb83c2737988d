"""Filters of lists."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest

from workflows.models import Workflow

WORKFLOWS_OFFERED = 50
"""Choices of the workflow filter; the search finds the others."""


class DateFilter(admin.DateFieldListFilter):
    """Filter by day; its title is the column without "at"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.title).removesuffix(" at")


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
