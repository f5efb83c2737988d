"""Admin pages of workflows, their versions, schedules and credentials.

Every staff user works with their own workflows and credentials; superusers see all. Upper rooms extend these
classes (the Run action comes from ``executions.admin``).
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from workflows import credentials, cron, lifecycle, policy, schedules
from workflows.definition import refuse_nul
from workflows.errors import DefinitionError, WorkflowError
from workflows.models import Credential, Schedule, Workflow, WorkflowVersion

EMPTY = mark_safe('<span class="adm-muted">–</span>')
"""What a cell without a value shows."""
BLANK = mark_safe("&nbsp;")
"""A cell that is empty because all is well."""
VERSIONS_SHOWN = 10
WORKFLOWS_OFFERED = 50
"""Choices of the workflow filter; the search finds the others."""


# ------------------------------------------------------------------ how values are written
def status_pill(status: str, word: str = "") -> SafeString:
    """Return ``status`` as icon, word and colour."""
    return format_html(
        '<span class="adm-status adm-status-{0}"><svg aria-hidden="true"><use href="#adm-s-{0}"/></svg>{1}</span>',
        status,
        word or status.replace("_", " ").capitalize(),
    )


def moment(when: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Return ``when`` as people say it ("3 min ago", "in 2 h", "21 Nov, 09:26"); the exact time is its title."""
    if when is None:
        return EMPTY
    seconds = (when - (now or timezone.now())).total_seconds()
    local = timezone.localtime(when)
    exact = f"{date_format(local, 'j M Y, H:i:s')} {local.tzname()}"
    return format_html('<time datetime="{}" title="{}">{}</time>', when.isoformat(), exact, _distance(seconds, local))


def due(when: datetime | None, now: datetime | None = None) -> SafeString | str:
    """Return when something is to happen, as ``moment``; "due now" when that instant has passed."""
    if when is not None and when <= (now or timezone.now()):
        return "due now"
    return moment(when, now)


def _distance(seconds: float, local: datetime) -> str:
    size = abs(seconds)
    if size < 45:
        return "now" if seconds > 0 else "just now"
    if size < 86_400:
        text = f"{round(size / 60)} min" if size < 3_570 else f"{round(size / 3_600)} h"
        return f"in {text}" if seconds > 0 else f"{text} ago"
    same_year = local.year == timezone.localtime(timezone.now()).year
    return date_format(local, "j M, H:i" if same_year else "j M Y, H:i")


def duration(milliseconds: int | None) -> str:
    """Return a length of time in the two largest fitting units: "840 ms", "3.2 s", "2 min 5 s", "1 h 3 min"."""
    if milliseconds is None:
        return EMPTY
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1_000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def json_block(value: Any) -> SafeString:
    """Return ``value`` as readable JSON."""
    return format_html('<pre class="adm-json">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))


def button(url: str, text: str, *, icon: str = "", post: bool = False, css: str = "small") -> SafeString:
    """Return a link that looks like a button; with ``post`` a button that submits the form around it to ``url``."""
    image = format_html('<svg class="adm-icon" aria-hidden="true"><use href="#adm-{}"/></svg>', icon) if icon else ""
    if post:
        return format_html(
            '<button type="submit" class="button {}" formaction="{}">{}{}</button>', css, url, image, text
        )
    return format_html('<a class="button {}" href="{}">{}{}</a>', css, url, image, text)


# ------------------------------------------------------------------ who may do what
class DateFilter(admin.DateFieldListFilter):
    """Filter by day; its title is the column without "at"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.title = str(self.title).removesuffix(" at")


class OwnedAdmin(admin.ModelAdmin):
    """Pages of rows that belong to a user: staff work with their own rows, superusers with all.

    ``owner_path`` is how a row leads to its owner. Foreign rows do not exist for a user: they are in no list,
    no choice and no page.
    """

    owner_path = "owner"
    empty_value_display = EMPTY
    list_per_page = 50
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows that the user may see."""
        rows = super().get_queryset(request)
        return rows if request.user.is_superuser else rows.filter(**{self.owner_path: request.user.pk})

    def _mine(self, request: HttpRequest, obj: Any) -> bool:
        if not (request.user.is_active and request.user.is_staff):
            return False
        if obj is None or request.user.is_superuser:
            return True
        for name in self.owner_path.split("__"):
            obj = getattr(obj, name, None)
        return obj in (request.user.pk, request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Every staff user has workflows."""
        return self._mine(request, None)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners see their rows."""
        return self._mine(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Every staff user may add rows of their own."""
        return self._mine(request, None)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners change their rows."""
        return self._mine(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Owners delete their rows."""
        return self._mine(request, obj)


class ReadOnlyAdmin(OwnedAdmin):
    """Pages of rows that the product writes: they are looked at, never edited by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds such a row by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits such a row."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes such a row by hand; retention does."""
        return False


# ------------------------------------------------------------------ workflows
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
        """Refuse a cron that does not parse, never fires or fires too often."""
        data = super().clean() or {}
        if "cron" in data and "timezone" in data:
            try:
                cron.check(data["cron"], data["timezone"], settings.MINIMUM_INTERVAL_SECONDS)
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

    def _mine(self, request: HttpRequest, obj: Workflow | None) -> bool:
        return obj is None or request.user.is_superuser or obj.owner_id == request.user.pk

    def has_view_permission(self, request: HttpRequest, obj: Workflow | None = None) -> bool:
        """As for the workflow."""
        return self._mine(request, obj)

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
        zone = cron.zone(schedule.timezone)
        items = format_html_join(
            "",
            "<li>{} {}</li>",
            ((date_format(run.astimezone(zone), "D j M, H:i"), schedule.timezone) for run in runs),
        )
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


class WorkflowForm(forms.ModelForm):
    """Name, description and settings of a workflow; the graph is edited in the builder."""

    owner: Any = None
    """Whose names must be unique; set per request."""

    class Meta:
        model = Workflow
        fields = ("name", "description", "settings")
        widgets = {"description": forms.Textarea(attrs={"class": "vLargeTextField", "rows": 3})}
        help_texts = {
            "settings": "A JSON object: deadline_s, tags, recording, retention, restart_browser_segment, and what limits its starts: "
            "concurrency, overlap, concurrency_key, key_concurrency, rate, priority."
        }

    def clean_name(self) -> str:
        """Refuse a second workflow of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        owner = self.owner if self.instance.owner_id is None else self.instance.owner_id
        if Workflow.objects.filter(owner=owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a workflow named "{name}". Choose another name.')
        return name

    def clean_settings(self) -> dict[str, Any]:
        """Refuse settings that are not an object."""
        value = self.cleaned_data["settings"] or {}
        if not isinstance(value, dict):
            raise ValidationError('The settings are a JSON object, for example {"deadline_s": 600}.')
        try:
            refuse_nul(value)
        except DefinitionError as error:
            raise ValidationError(str(error)) from error
        wrong = [problem for _, problem in policy.problems(value)]
        if wrong:
            raise ValidationError(wrong)
        return value


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


@admin.register(Workflow)
class WorkflowAdmin(OwnedAdmin):
    """List, page and builder of workflows."""

    form = WorkflowForm
    inlines = (ScheduleInline,)
    list_display: tuple[str, ...] = ("name", "status_pill", "schedule_text", "next_run", "version_text", "row_actions")
    list_filter = ("status", ScheduleFilter, ("updated_at", DateFilter))
    list_select_related = ("schedule", "version", "draft", "owner")
    search_fields = ("name", "description")
    actions: tuple[str, ...] = ("activate", "pause", "archive")
    empty_text = "A workflow is a canvas of nodes. Draw one, run it, then give it a schedule."
    change_form_template = "admin/workflows/workflow/change_form.html"
    delete_confirmation_template = "admin/workflows/workflow/delete_confirmation.html"
    fieldsets = (
        (None, {"fields": ("name", "description")}),
        ("Settings", {"fields": ("settings",), "classes": ("collapse",)}),
    )
    add_fieldsets = ((None, {"fields": ("name", "description"), "description": "The canvas opens next."}),)

    class Media:
        js = ("flowbuilder/schedule.js",)

    # -------------------------------------------------------------- list
    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        """Return the visible workflows without the graphs of their versions."""
        return super().get_queryset(request).defer("version__definition", "draft__definition")

    def get_list_display(self, request: HttpRequest) -> Any:
        """Superusers also see whose workflow it is."""
        columns = list(super().get_list_display(request))
        return ["name_and_owner", *columns[1:]] if request.user.is_superuser else columns

    @admin.display(description="Name", ordering="name")
    def name_and_owner(self, workflow: Workflow) -> SafeString:
        """Show the name, and whose it is below."""
        return format_html('{}<span class="adm-second">{}</span>', workflow.name, workflow.owner.get_username())

    @admin.display(description="Status", ordering="status")
    def status_pill(self, workflow: Workflow) -> SafeString:
        """Show the status."""
        return status_pill(workflow.status, workflow.get_status_display())

    @admin.display(description="Schedule", ordering="schedule__cron")
    def schedule_text(self, workflow: Workflow) -> SafeString | str:
        """Say the schedule and its zone."""
        schedule = getattr(workflow, "schedule", None)
        if schedule is None:
            return EMPTY
        zone = schedule.timezone if schedule.enabled else f"{schedule.timezone}, switched off"
        return format_html(
            '<span title="{}">{}</span><span class="adm-second">{}</span>', schedule.cron, in_words(schedule), zone
        )

    @admin.display(description="Next run", ordering="schedule__next_run_at")
    def next_run(self, workflow: Workflow) -> SafeString | str:
        """Show when the schedule fires next, if it will."""
        schedule = getattr(workflow, "schedule", None)
        if schedule is None or not schedule.enabled or workflow.status != Workflow.Status.ACTIVE:
            return EMPTY
        return due(schedule.next_run_at)

    @admin.display(description="Version")
    def version_text(self, workflow: Workflow) -> SafeString | str:
        """Show the version that runs, and the newer draft if there is one."""
        active, draft = workflow.version, workflow.draft
        if draft is None:
            return EMPTY
        if active is None:
            return f"v{draft.number}"
        if active.pk == draft.pk:
            return f"v{active.number}"
        return format_html('v{}<span class="adm-second">draft v{}</span>', active.number, draft.number)

    @admin.display(description="")
    def row_actions(self, workflow: Workflow) -> SafeString:
        """Show the buttons of a row."""
        return format_html('<div class="adm-row-actions">{}</div>', self.row_buttons(workflow))

    def row_buttons(self, workflow: Workflow) -> SafeString:
        """Return the buttons of a row; upper rooms add theirs."""
        return button(builder_url(workflow), "Builder", icon="pencil")

    # -------------------------------------------------------------- actions
    @admin.action(description="Activate", permissions=("change",))
    def activate(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Make the newest version of each workflow the one that runs."""
        self._each(request, queryset, "activate", "is active")

    @admin.action(description="Pause", permissions=("change",))
    def pause(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Stop scheduled and triggered starts of each workflow."""
        self._each(request, queryset, "pause", "is paused; executions that run go on")

    @admin.action(description="Archive", permissions=("change",))
    def archive(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Put each workflow away."""
        self._each(request, queryset, "archive", "is archived; its history stays readable")

    def _each(self, request: HttpRequest, workflows: QuerySet[Workflow], verb: str, outcome: str) -> None:
        """Move each workflow by ``verb`` and tell what happened to which one."""
        for workflow in workflows:
            try:
                getattr(lifecycle, verb)(workflow)
            except WorkflowError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.log_change(request, workflow, f"{verb}: {outcome}")
                self.message_user(request, f'Workflow "{workflow.name}" {outcome}.', messages.SUCCESS)

    # -------------------------------------------------------------- adding and changing
    def get_fieldsets(self, request: HttpRequest, obj: Workflow | None = None) -> Any:
        """A new workflow asks for its name and what it is for, nothing else."""
        return self.fieldsets if obj else self.add_fieldsets

    def get_inlines(self, request: HttpRequest, obj: Workflow | None) -> Any:
        """A schedule needs a workflow first."""
        return self.inlines if obj else ()

    def get_form(self, request: HttpRequest, obj: Workflow | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which knows whose workflow a new one will be."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.owner = request.user.pk
        return form

    def save_model(self, request: HttpRequest, obj: Workflow, form: Any, change: bool) -> None:
        """A new workflow belongs to who adds it."""
        if not change:
            person: Any = request.user
            obj.owner = person
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Store the schedule through ``schedules``, which computes the next run."""
        if formset.model is not Schedule:
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)
        for _ in formset.deleted_objects:
            schedules.clear_schedule(form.instance)
        for part in formset.forms:
            if part.has_changed() and part not in formset.deleted_forms:
                data = part.cleaned_data
                schedules.set_schedule(form.instance, data["cron"], data["timezone"], enabled=data["enabled"])

    def response_add(self, request: HttpRequest, obj: Workflow, post_url_continue: str | None = None) -> HttpResponse:
        """Open the builder of a new workflow."""
        return HttpResponseRedirect(builder_url(obj))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add the versions and what can be done with the workflow."""
        workflow = kwargs.get("obj")
        if workflow is not None and workflow.pk and not context.get("add"):
            versions = workflow.versions.select_related("author").defer("definition")[:VERSIONS_SHOWN]
            context |= {
                "status": status_pill(workflow.status, workflow.get_status_display()),
                "buttons": self.page_buttons(workflow),
                "versions": [(version, moment(version.created_at)) for version in versions],
                "version_count": workflow.versions.count(),
            }
        context["show_save_and_add_another"] = False
        if workflow is None:
            context["show_save_and_continue"] = False
        return super().render_change_form(request, context, *args, **kwargs)

    def page_buttons(self, workflow: Workflow) -> list[SafeString]:
        """Return the buttons on top of the page of ``workflow``; upper rooms add theirs."""
        move = reverse("admin:workflows_workflow_transition", args=(workflow.pk, "VERB"))
        buttons = []
        if workflow.status == Workflow.Status.ACTIVE:
            buttons.append(button(move.replace("VERB", "pause"), "Pause", icon="s-paused", post=True, css=""))
        if workflow.status != Workflow.Status.ARCHIVED and workflow.draft is not None:
            if workflow.status == Workflow.Status.PAUSED:
                buttons.append(button(move.replace("VERB", "resume"), "Resume", icon="s-active", post=True, css=""))
            elif workflow.status == Workflow.Status.DRAFT or workflow.version_id != workflow.draft_id:
                word = f"Activate v{workflow.draft.number}"
                buttons.append(button(move.replace("VERB", "activate"), word, icon="s-active", post=True, css=""))
        buttons.append(button(builder_url(workflow), "Open builder", icon="pencil", css="default"))
        return buttons

    # -------------------------------------------------------------- deleting
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say what will happen to each workflow; its versions and schedule need no permission of their own."""
        return [self._fate(workflow) for workflow in objs], {}, set(), []

    def _fate(self, workflow: Workflow) -> str:
        if workflow.versions.filter(executions__isnull=False).exists():
            return "It will be archived, because it has executions. Their history stays readable."
        return "It never ran, so it will be deleted with its versions. This cannot be undone."

    def delete_model(self, request: HttpRequest, obj: Workflow) -> None:
        """Delete a workflow without history; archive one with history."""
        lifecycle.delete(obj)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: Any) -> HttpResponse:
        """Say what really happened, and go back to the list."""
        kept = self.get_queryset(request).filter(pk=obj_id).exists()
        outcome = "is archived, because it has executions; its history stays readable" if kept else "is deleted"
        self.message_user(request, f'Workflow "{obj_display}" {outcome}.', messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:workflows_workflow_changelist"))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Return the actions of the list; deleting is done one by one, many are archived."""
        actions: dict[str, Any] = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    # -------------------------------------------------------------- further pages
    def get_urls(self) -> list[URLPattern]:
        """Add the builder and the moves between statuses."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:pk>/builder/", view(self.builder), name="workflows_workflow_builder"),
            path("<uuid:pk>/move/<slug:verb>/", view(self.transition), name="workflows_workflow_transition"),
            *super().get_urls(),
        ]

    def visible(self, request: HttpRequest, pk: Any) -> Workflow:
        """Return the workflow ``pk`` if the user may see it.

        Raises:
            Http404: there is none, for this user.
        """
        workflow: Workflow | None = self.get_queryset(request).filter(pk=pk).first()
        if workflow is None:
            raise Http404("there is no such workflow")
        return workflow

    def builder(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Show the canvas of a workflow."""
        workflow = self.visible(request, pk)
        context = {
            **self.admin_site.each_context(request),
            "title": workflow.name,
            "workflow": workflow,
            "status": status_pill(workflow.status, workflow.get_status_display()),
            "opts": self.opts,
            "props": {
                "workflow_id": str(workflow.pk),
                "api": "/api/v1",
                "execution_url": "/admin/executions/execution/{id}/change/",
                "list_url": reverse("admin:workflows_workflow_changelist"),
            },
        }
        return TemplateResponse(request, "admin/workflows/workflow/builder.html", context)

    def transition(self, request: HttpRequest, pk: Any, verb: str) -> HttpResponse:
        """Activate, pause, resume or archive one workflow, then show its page again."""
        if verb not in ("activate", "pause", "resume", "archive"):
            raise Http404("there is no such page")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        workflow = self.visible(request, pk)
        words = {
            "activate": "is active",
            "pause": "is paused; executions that run go on",
            "resume": "takes starts again",
        }
        self._each(request, self.get_queryset(request).filter(pk=workflow.pk), verb, words.get(verb, "is archived"))
        return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))


def builder_url(workflow: Workflow) -> str:
    """Return the address of the canvas of ``workflow``."""
    return reverse("admin:workflows_workflow_builder", args=(workflow.pk,))


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


# ------------------------------------------------------------------ credentials
class CredentialForm(forms.ModelForm):
    """Write-only: what is stored is never shown again."""

    KINDS = (("password", "User name and password"), ("token", "Token or API key"), ("custom", "Own fields (JSON)"))
    FIELDS = {"password": ("username", "password"), "token": ("token",), "custom": ("custom",)}

    owner: Any = None
    """Whose names must be unique; set per request."""

    kind = forms.ChoiceField(choices=KINDS, initial="password")
    username = forms.CharField(
        required=False, widget=forms.TextInput(attrs={"class": "vTextField", "autocomplete": "off"})
    )
    password = forms.CharField(
        required=False, strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"})
    )
    token = forms.CharField(required=False, widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}))
    custom = forms.JSONField(
        required=False,
        label="Fields",
        help_text='A JSON object of texts, for example {"client_id": "…", "client_secret": "…"}.',
        widget=forms.Textarea(attrs={"class": "vLargeTextField", "rows": 4}),
    )

    class Meta:
        model = Credential
        fields = ("name", "kind")

    def clean_name(self) -> str:
        """Refuse a second credential of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        owner = self.owner if self.instance.owner_id is None else self.instance.owner_id
        if Credential.objects.filter(owner=owner, name=name).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f'There is already a credential named "{name}". Choose another name.')
        return name

    def clean_custom(self) -> dict[str, str] | None:
        """Refuse own fields that are not texts by name."""
        value = self.cleaned_data["custom"]
        if value is None:
            return None
        if not isinstance(value, dict) or not all(isinstance(item, str) and key for key, item in value.items()):
            raise ValidationError("The fields are a JSON object whose values are texts.")
        return value

    def clean(self) -> dict[str, Any]:
        """A new credential, and one that changes its kind, needs its secret."""
        data = super().clean() or {}
        if (
            "kind" in data
            and not self.errors
            and self.secret() is None
            and (self.instance._state.adding or "kind" in self.changed_data)
        ):
            self.add_error(self.FIELDS[data["kind"]][-1], "Fill in what is to be stored.")
        return data

    def secret(self) -> dict[str, str] | None:
        """Return the fields that were typed in, or None to keep what is stored."""
        data = self.cleaned_data
        if data["kind"] == "custom":
            return data.get("custom") or None
        fields = {name: data.get(name) or "" for name in self.FIELDS[data["kind"]]}
        return fields if fields[self.FIELDS[data["kind"]][-1]] else None


@admin.register(Credential)
class CredentialAdmin(OwnedAdmin):
    """Names of credentials; their content can be replaced, never read."""

    form = CredentialForm
    list_display = ("name", "kind_text", "used", "updated")
    list_filter = ("kind",)
    empty_text = "Store a login or a token once; workflows name it and never show it."
    search_fields = ("name",)
    change_fieldset_note = (
        "What is stored is never shown. Leave the fields empty to keep it; filling them in replaces it."
    )

    def get_fieldsets(self, request: HttpRequest, obj: Credential | None = None) -> Any:
        """Say on an existing credential what empty fields mean."""
        note = {"description": self.change_fieldset_note} if obj else {}
        return ((None, {"fields": ("name", "kind", "username", "password", "token", "custom"), **note}),)

    def get_form(self, request: HttpRequest, obj: Credential | None = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which knows whose credential a new one will be."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.owner = request.user.pk
        return form

    def save_model(self, request: HttpRequest, obj: Credential, form: Any, change: bool) -> None:
        """Encrypt what was typed in; without it only the name changes."""
        fields = form.secret()
        if change:
            obj.save(update_fields=("name", "kind", "updated_at"))
        else:
            person: Any = request.user
            obj.owner = person
        if fields is not None:
            stored = credentials.store(obj.owner, obj.name, fields, obj.kind)
            obj.pk, obj._state.adding = stored.pk, False

    def get_list_display(self, request: HttpRequest) -> Any:
        """Superusers also see whose credential it is."""
        columns = list(super().get_list_display(request))
        return [*columns, "owner"] if request.user.is_superuser else columns

    @admin.display(description="Kind", ordering="kind")
    def kind_text(self, credential: Credential) -> str:
        """Say the kind."""
        return dict(CredentialForm.KINDS).get(credential.kind, credential.kind)

    @admin.display(description="Last used", ordering="last_used_at")
    def used(self, credential: Credential) -> SafeString | str:
        """Show when an execution last asked for it."""
        return moment(credential.last_used_at)

    @admin.display(description="Changed", ordering="updated_at")
    def updated(self, credential: Credential) -> SafeString | str:
        """Show when it was last written."""
        return moment(credential.updated_at)
