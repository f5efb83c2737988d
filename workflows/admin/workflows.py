"""List, page and builder of workflows."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from workflows import access, lifecycle, policy, schedules
from workflows.admin.cells import EMPTY, button, due, on_clock, status_pill
from workflows.admin.filters import DateFilter, OwnerFilter, ScheduleFilter, TagFilter
from workflows.admin.history import diff_url, versions_url
from workflows.admin.schedules import ScheduleInline, in_words
from workflows.admin.transfers import TransferPages
from workflows.errors import DefinitionError, WorkflowError
from workflows.models import Schedule, Workflow
from workflows.strict import name_problem, refuse_nul

VERSIONS_SHOWN = 10
PAUSED = "Schedules, webhooks and programs do not start it while it is paused. “Run” starts it by hand."


class WorkflowForm(forms.ModelForm):
    """Name, description and settings of a workflow; the graph is edited in the builder."""

    owner: Any = None
    """Whose names must be unique; set per request."""

    class Meta:
        model = Workflow
        fields = ("name", "description", "settings")
        widgets = {"description": forms.Textarea(attrs={"class": "vLargeTextField", "rows": 3})}
        help_texts = {
            "settings": "A JSON object: deadline_s, tags, recording, retention, and what limits its starts: "
            "concurrency, overlap, concurrency_key, key_concurrency, rate, priority. pause_after_failures is after how many failed runs in a row it is paused, "
            "restart_browser_segment how often a run that lost its page is run again."
        }

    def clean_name(self) -> str:
        """Refuse a second workflow of the same name and owner."""
        name: str = self.cleaned_data["name"].strip()
        if problem := name_problem(name):
            raise ValidationError(f"The name {problem}.")
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


@admin.register(Workflow)
class WorkflowAdmin(TransferPages):
    """List, page and builder of workflows."""

    form = WorkflowForm
    inlines = (ScheduleInline,)
    list_display: tuple[str, ...] = ("name", "status_pill", "schedule_text", "next_run", "version_text", "row_actions")
    list_filter = ("status", ScheduleFilter, TagFilter, OwnerFilter, ("updated_at", DateFilter))
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
        """People who see those of others also see whose workflow it is."""
        columns = list(super().get_list_display(request))
        return ["name_and_owner", *columns[1:]] if access.sees_everything(request.user) else columns

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
        """Show when the schedule fires next, if it will: how soon, and when in its zone."""
        schedule = getattr(workflow, "schedule", None)
        if schedule is None or not schedule.enabled or workflow.status != Workflow.Status.ACTIVE:
            return EMPTY
        if schedule.next_run_at is None:
            return EMPTY
        clock = on_clock(schedule.next_run_at, schedule.timezone, named=False)
        return format_html('{}<span class="adm-second">{}</span>', due(schedule.next_run_at, schedule.timezone), clock)

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
        return format_html('v{}<span class="adm-second adm-newer">draft v{}</span>', active.number, draft.number)

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
        """A new workflow belongs to who adds it; of another one only what was changed is stored."""
        if change:
            if form.changed_data:
                obj.save(update_fields=(*form.changed_data, "updated_at"))
            return
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
            versions = (
                workflow.versions.select_related("author").defer("definition").order_by("-number")[:VERSIONS_SHOWN]
            )
            context |= {
                "status": status_pill(workflow.status, workflow.get_status_display()),
                "paused": PAUSED if workflow.status == Workflow.Status.PAUSED else "",
                "buttons": self.page_buttons(workflow) if access.can(request.user, "change", workflow) else [],
                "menu": self.page_menu(workflow) if access.can(request.user, "change", workflow) else [],
                "versions": self.version_rows(request, workflow, list(versions)),
                "version_count": workflow.versions.count(),
                "versions_url": versions_url(workflow),
            }
        context["show_save_and_add_another"] = False
        if workflow is None:
            context["show_save_and_continue"] = False
        return super().render_change_form(request, context, *args, **kwargs)

    def page_buttons(self, workflow: Workflow) -> list[SafeString]:
        """Return the buttons on top of the page of ``workflow``; upper rooms add theirs."""
        possible, newest = lifecycle.possible(workflow.status), workflow.draft
        buttons = []
        for verb in ("pause", "resume"):
            if verb in possible:
                icon = "s-paused" if verb == "pause" else "s-active"
                buttons.append(button(move_url(workflow, verb), verb.capitalize(), icon=icon, post=True, css=""))
        if newest is not None and workflow.status == Workflow.Status.DRAFT:
            url = move_url(workflow, "activate")
            buttons.append(button(url, f"Activate v{newest.number}", icon="s-active", post=True, css=""))
        elif newest is not None and "publish" in possible and workflow.version_id != newest.pk:
            url = reverse("admin:workflows_workflow_version_publish", args=(workflow.pk, newest.number))
            buttons.append(button(url, f"Publish v{newest.number}", icon="upload", css=""))
        buttons.append(button(builder_url(workflow), "Open builder", icon="pencil", css="default"))
        return buttons

    def page_menu(self, workflow: Workflow) -> list[SafeString]:
        """Return what else can be done with ``workflow``, for the menu beside the buttons."""
        entries = [(versions_url(workflow), "Versions", False)]
        if workflow.version and workflow.draft and workflow.version.pk != workflow.draft.pk:
            url = diff_url(workflow, workflow.version.number, workflow.draft.number)
            entries.append((url, "Draft and running version", False))
        if workflow.draft is not None:
            entries.append((reverse("admin:workflows_workflow_export", args=(workflow.pk,)), "Export", False))
            entries.append((reverse("admin:workflows_workflow_duplicate", args=(workflow.pk,)), "Duplicate", True))
        for verb in ("archive", "unarchive"):
            if verb in lifecycle.possible(workflow.status):
                entries.append((move_url(workflow, verb), verb.capitalize(), True))
        hooks = f"{reverse('admin:workflows_webhook_changelist')}?workflow__id__exact={workflow.pk}"
        entries.append((hooks, "Webhooks", False))
        log = f"{reverse('admin:workflows_auditentry_changelist')}?q={workflow.pk}"
        entries.append((log, "Audit log", False))
        return [
            format_html(
                '<button type="submit" formaction="{}">{}</button>' if post else '<a href="{}">{}</a>', url, text
            )
            for url, text, post in entries
        ]

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
        if verb not in ("activate", "pause", "resume", "archive", "unarchive"):
            raise Http404("there is no such page")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        workflow = self.visible(request, pk)
        words = {
            "activate": "is active",
            "pause": "is paused; executions that run go on",
            "resume": "takes starts again",
            "unarchive": "is a draft again; activate it to take starts",
        }
        self._each(request, self.get_queryset(request).filter(pk=workflow.pk), verb, words.get(verb, "is archived"))
        return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))


def move_url(workflow: Workflow, verb: str) -> str:
    """Return the address that moves ``workflow`` by ``verb``."""
    return reverse("admin:workflows_workflow_transition", args=(workflow.pk, verb))


def builder_url(workflow: Workflow) -> str:
    """Return the address of the canvas of ``workflow``."""
    return reverse("admin:workflows_workflow_builder", args=(workflow.pk,))
