"""How much people may do."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest

from workflows.admin.cells import EMPTY
from workflows.limits import installation
from workflows.models import Plan

LIMITS = {
    "nodes": "nodes per workflow",
    "active_workflows": "active workflows",
    "concurrent_executions": "executions at once",
    "browser_slots": "browsers at once",
    "minimum_interval_s": "s between runs",
    "maximum_duration_s": "s per execution",
    "recordings_kept": "recordings kept",
    "credits": "credits per execution",
}


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    """Plans, for whoever has Django's permissions for them."""

    list_display = ("name", "limits_text", "people")
    search_fields = ("name",)
    filter_horizontal = ("users", "groups")
    empty_value_display = EMPTY
    empty_text = "Everybody has the limits of the installation. A plan gives some people more, or less."
    fieldsets = (
        (
            None,
            {
                "fields": ("name",),
                "description": "A plan of the user counts, else those of their groups; of several plans the most generous value.",
            },
        ),
        ("Workflows", {"fields": ("nodes", "active_workflows", "minimum_interval_s")}),
        (
            "Executions",
            {"fields": ("concurrent_executions", "browser_slots", "maximum_duration_s", "credits", "recordings_kept")},
        ),
        ("Who has it", {"fields": ("users", "groups")}),
    )

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say at each limit what counts where the plan says nothing."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in LIMITS:
            default = getattr(installation(), db_field.name)
            field.help_text = (
                "Empty: no limit." if default is None else f"Empty: {default:,}, as the installation has it."
            )
        return field

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Count who has each plan."""
        rows: QuerySet[Any] = super().get_queryset(request)
        counted: QuerySet[Any] = rows.annotate(
            user_count=Count("users", distinct=True), group_count=Count("groups", distinct=True)
        )
        return counted

    @admin.display(description="Limits")
    def limits_text(self, plan: Plan) -> str:
        """Say what the plan sets."""
        found = [
            f"{getattr(plan, field):,} {words}" for field, words in LIMITS.items() if getattr(plan, field) is not None
        ]
        return " · ".join(found) or EMPTY

    @admin.display(description="Who has it")
    def people(self, plan: Any) -> str:
        """Count the users and groups."""
        parts = [
            f"{count} {noun}{'' if count == 1 else 's'}"
            for count, noun in ((plan.user_count, "user"), (plan.group_count, "group"))
            if count
        ]
        return " and ".join(parts) or EMPTY
