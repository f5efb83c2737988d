"""The schedule on the page of a workflow, and how it is said."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from workflows import access, cron
from workflows.admin.cells import EMPTY, moment, on_clock
from workflows.limits import limits_of
from workflows.models import Schedule, Workflow


@lru_cache(maxsize=1)
def zone_choices() -> tuple[tuple[str, str], ...]:
    """Return every IANA zone for a select, UTC first."""
    return (("UTC", "UTC"), *((name, name) for name in sorted(cron.zone_names() - {"UTC"})))


class ScheduleForm(forms.ModelForm):
    """Cron text and zone, checked like everywhere else."""

    timezone = forms.ChoiceField(
        label="Time zone",
        choices=zone_choices,
        initial="UTC",
        help_text="The cron is read in this zone, clock changes included.",
    )

    class Meta:
        model = Schedule
        fields = ("cron", "timezone", "enabled")
        widgets = {"cron": forms.TextInput(attrs={"class": "vTextField", "placeholder": "0 9 * * MON-FRI"})}

    def clean(self) -> dict[str, Any]:
        """Refuse a cron that does not parse or never fires, and one that fires too often unless it is switched off."""
        data = super().clean() or {}
        if "cron" in data and "timezone" in data:
            shortest = limits_of(self.instance.workflow.owner_id).minimum_interval_s
            try:
                cron.check(data["cron"], data["timezone"], shortest if data.get("enabled") else 0)
            except ValueError as error:
                self.add_error("cron", str(error))
        return data


class ScheduleInline(admin.StackedInline):
    """The schedule on the page of its workflow."""

    model = Schedule
    form = ScheduleForm
    extra = 1
    max_num = 1
    verbose_name = "schedule"
    classes = ("adm-schedule",)
    fields = ("cron", "timezone", "enabled", "next_runs", "last_run")
    readonly_fields = ("next_runs", "last_run")

    def _mine(self, request: HttpRequest, obj: Workflow | None, verb: str = "change") -> bool:
        return obj is None or access.can(request.user, verb, obj)

    def has_view_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """As for the workflow."""
        return self._mine(request, obj, "see")

    def has_add_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """As for the workflow."""
        return self._mine(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """As for the workflow."""
        return self._mine(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """As for the workflow."""
        return self._mine(request, obj)

    @admin.display(description="Next runs")
    def next_runs(self, schedule: Schedule) -> SafeString:
        """Say the cron and show the next five instants in its zone; the page keeps it up to date while typing."""
        if schedule._state.adding:
            return format_html('<div class="adm-preview" role="status">{}</div>', EMPTY)
        try:
            runs = cron.next_runs(schedule.cron, schedule.timezone, 5)
        except ValueError as error:
            return format_html('<div class="adm-preview adm-wrong" role="status"><p>{}</p></div>', str(error))
        items = format_html_join("", "<li>{}</li>", ((on_clock(run, schedule.timezone),) for run in runs))
        return format_html(
            '<div class="adm-preview" role="status"><p>{}</p><ol>{}</ol></div>', in_words(schedule), items
        )

    @admin.display(description="Last run")
    def last_run(self, schedule: Schedule) -> SafeString | str:
        """Show when the schedule last fired."""
        return moment(schedule.last_run_at)


def in_words(schedule: Schedule | None) -> str:
    """Return the schedule as a sentence, or an empty mark; the text itself when it cannot be read."""
    if schedule is None or schedule.pk is None:
        return EMPTY
    try:
        return cron.describe(schedule.cron)
    except ValueError:
        return schedule.cron
