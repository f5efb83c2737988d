"""The audit log, to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows.admin.cells import EMPTY, json_block, moment
from workflows.admin.filters import DateFilter, WordFilter
from workflows.admin.owned import ReadOnlyAdmin
from workflows.models import AuditEntry

PAGES = {
    "workflow": "workflows_workflow",
    "credential": "workflows_credential",
    "token": "workflows_apitoken",
    "plan": "workflows_plan",
    "execution": "executions_execution",
    "recording": "recordings_recording",
    "alert": "monitoring_alert",
    "alert rule": "monitoring_alertrule",
    "alert channel": "monitoring_alertchannel",
}
"""Kinds of things that have a page."""


class VerbFilter(WordFilter):
    """What was done."""

    title = parameter_name = column = "verb"


class KindFilter(WordFilter):
    """What it was done to."""

    title = "thing"
    parameter_name = column = "kind"


class ActorFilter(WordFilter):
    """Who did it."""

    title = "who"
    parameter_name = column = "actor_name"
    empty = "Flow Builder"


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what to what. People see what they did and what was done to their things."""

    list_display = ("when", "who", "what", "thing", "detail_text", "door")
    list_filter = (VerbFilter, KindFilter, ActorFilter, "door", ("at", DateFilter))
    list_select_related = ("actor",)
    search_fields = ("object_name", "object_id", "actor_name")
    ordering = ("-id",)
    empty_text = "What people and programs change is noted here, and never taken away."
    fields = ("at", "who", "door", "verb", "kind", "thing", "object_id", "owner", "detail_block")
    readonly_fields = ("who", "thing", "detail_block")

    def seen_by(self, rows: QuerySet[Any], user: Any) -> QuerySet[Any]:
        """Return what ``user`` did, and what was done to their things."""
        return rows.filter(Q(owner=user.pk) | Q(actor=user.pk))

    @admin.display(description="When", ordering="id")
    def when(self, entry: AuditEntry) -> SafeString | str:
        """Show when it was."""
        return moment(entry.at)

    @admin.display(description="Who", ordering="actor_name")
    def who(self, entry: AuditEntry) -> str:
        """Name who did it; the name stays after the user is gone."""
        return entry.actor_name or "Flow Builder"

    @admin.display(description="What", ordering="verb")
    def what(self, entry: AuditEntry) -> str:
        """Say what was done."""
        return entry.verb.replace("_", " ")

    @admin.display(description="Thing", ordering="object_name")
    def thing(self, entry: AuditEntry) -> SafeString:
        """Name what it was done to, and lead to it where it has a page and was not deleted."""
        name: SafeString | str = entry.object_name or entry.object_id
        if entry.kind in PAGES and entry.verb != "delete" and entry.object_id:
            url = reverse(f"admin:{PAGES[entry.kind]}_change", args=(entry.object_id,))
            name = format_html('<a href="{}">{}</a>', url, name)
        return format_html('{}<span class="adm-second">{}</span>', name, entry.kind)

    @admin.display(description="Detail")
    def detail_text(self, entry: AuditEntry) -> SafeString | str:
        """Show what else is known, in one line."""
        line = ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in entry.detail.items())
        return format_html('<span class="adm-line" title="{0}">{0}</span>', line) if line else EMPTY

    @admin.display(description="Detail")
    def detail_block(self, entry: AuditEntry) -> SafeString:
        """Show what else is known."""
        return json_block(entry.detail)
