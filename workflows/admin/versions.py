"""Versions, to look at."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString

from workflows.admin.cells import json_block, moment
from workflows.admin.filters import DateFilter, WorkflowFilter
from workflows.admin.owned import ReadOnlyAdmin
from workflows.models import WorkflowVersion


@admin.register(WorkflowVersion)
class WorkflowVersionAdmin(ReadOnlyAdmin):
    """Versions, to look at."""

    owner_path = "workflow__owner"
    list_display = ("name", "workflow", "author", "message", "created")
    list_select_related = ("workflow", "author")
    list_filter = (WorkflowFilter, ("created_at", DateFilter))
    search_fields = ("workflow__name", "message")
    fields = ("workflow", "number", "message", "author", "created_at", "content_hash", "definition_text")
    readonly_fields = fields
    ordering = ("-created_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkflowVersion]:
        """Lists do not load the graphs."""
        return super().get_queryset(request).select_related("workflow", "author").defer("definition")

    @admin.display(description="Version", ordering="number")
    def name(self, version: WorkflowVersion) -> str:
        """Show the number."""
        return f"v{version.number}"

    @admin.display(description="Saved", ordering="created_at")
    def created(self, version: WorkflowVersion) -> SafeString | str:
        """Show when it was saved."""
        return moment(version.created_at)

    @admin.display(description="Definition")
    def definition_text(self, version: WorkflowVersion) -> SafeString:
        """Show the stored graph."""
        return json_block(version.definition)
