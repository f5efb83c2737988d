"""Admin pages of executions and of what runs them. Adds Run to the pages of workflows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.core.paginator import Page, Paginator
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from executions import report, states, statistics
from executions.errors import ExecutionError
from executions.models import BrowserSession, DeadLetter, Execution, NodeRun, Phase, WorkerLease
from recordings import admin as recording_pages
from recordings.errors import RecordingError
from recordings.keeping import keep, keepable
from recordings.models import Recording
from workflows import access
from workflows.admin import workflows as workflow_pages
from workflows.admin.cells import BLANK, EMPTY, button, duration, moment, status_pill
from workflows.admin.filters import DateFilter, WorkflowFilter
from workflows.admin.owned import ReadOnlyAdmin
from workflows.errors import WorkflowError
from workflows.models import Workflow, WorkflowVersion

NODE_RUNS_SHOWN = 200
WORKER_SILENT_SECONDS = 20
NAMES_FOUND = 500
"""How many workflows a word of a search may name."""


def execution_url(execution: Execution) -> str:
    """Return the address of the page of ``execution``."""
    return reverse("admin:executions_execution_change", args=(execution.pk,))


def attach_node_names(executions: Sequence[Any]) -> None:
    """Set ``error_node_name`` on each execution: what people call the node that failed. At most one query."""
    failed = {execution.version_id for execution in executions if execution.error_node}
    rows = WorkflowVersion.objects.filter(pk__in=failed).values_list("pk", "definition") if failed else ()
    names = {pk: report.names_in(definition) for pk, definition in rows}
    for execution in executions:
        known = names.get(execution.version_id, {})
        execution.error_node_name = known.get(execution.error_node, execution.error_node)


def cause(execution: Execution) -> SafeString | str:
    """Return the failed node and the first line of why, or what is waited for; empty when there is nothing to say.

    That somebody cancelled is said by the status.
    """
    if waits := [wait_text(wait) for wait in getattr(execution, "waits", ())]:
        more = f" and {len(waits) - 1} more" if len(waits) > 1 else ""
        return format_html('<span class="adm-cause adm-waits" title="{0}">{0}</span>', waits[0] + more)
    if held := report.held_reason(execution):
        return format_html('<span class="adm-cause adm-waits" title="{0}">{0}</span>', held[0].upper() + held[1:])
    if execution.status == states.CANCELLED and execution.error == execution.error_code:
        return BLANK
    if not execution.error and not execution.error_node:
        return BLANK
    line = execution.error.strip().partition("\n")[0] or execution.error_code
    name = getattr(execution, "error_node_name", execution.error_node)
    if name:
        return format_html('<span class="adm-cause" title="{1}"><b>{0}</b>: {1}</span>', name, line)
    return format_html('<span class="adm-cause" title="{0}">{0}</span>', line)


def run_workflow(request: HttpRequest, workflow: Workflow) -> Execution | None:
    """Start ``workflow`` for the user and say so; return None when it is refused, with the reason as a message.

    An active workflow runs its active version, and so does a paused one, by hand; any other runs the version that it would run, as a test.
    """
    from executions.triggers import start_execution  # loads the engine, which other pages do not need

    user: Any = request.user
    published = workflow.status in (Workflow.Status.ACTIVE, Workflow.Status.PAUSED)
    version = None if published else workflow.version or workflow.draft
    if version is None and not published:
        messages.error(
            request, f'Workflow "{workflow.name}" has no version yet: open the builder, add a node and save.'
        )
        return None
    try:
        execution = start_execution(workflow, by=user, trigger="manual" if published else "test", version=version)
    except (ExecutionError, WorkflowError) as error:
        messages.error(request, f'"{workflow.name}" was not started: {error}')
        return None
    text = 'Started "{}" v{}: <a href="{}">execution {}</a>.'
    messages.success(
        request,
        format_html(text, workflow.name, execution.version.number, execution_url(execution), str(execution.pk)[:8]),
    )
    return execution


class WorkflowList(ChangeList):
    """The list of workflows, which knows how their executions went by a fixed number of queries."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the rows of the page, and of these only their newest execution and their statistics."""
        super().get_results(request)
        self.result_list: list[Any] = list(self.result_list)
        keys = [workflow.pk for workflow in self.result_list]
        last, found = statistics.last_of_workflows(keys), statistics.of_workflows(keys)
        for workflow in self.result_list:
            workflow.last = last.get(workflow.pk)
            workflow.statistics = found.get(workflow.pk, statistics.Statistics())


def statistics_cell(found: statistics.Statistics) -> SafeString | str:
    """Return "96 % of 120" with a bar, and the credits below; a mark when nothing ran."""
    if not found.runs and not found.credits:
        return EMPTY
    credits = f"{found.credits:,} credit{'' if found.credits == 1 else 's'}"
    if found.success_rate is None:
        return format_html('{}<span class="adm-second">{}</span>', EMPTY, credits)
    return format_html(
        '<span class="adm-rate" title="{completed} completed, {failed} failed, {cancelled} cancelled">'
        '<span class="adm-rate-text"><b>{rate} %</b> of {runs}</span>'
        '<svg class="adm-bar" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="adm-bar-failed" x="{rate}" width="{rest}" height="4"/>'
        '<rect class="adm-bar-completed" width="{rate}" height="4"/></svg>'
        '</span><span class="adm-second">{credits}</span>',
        completed=f"{found.completed:,}",
        failed=f"{found.failed:,}",
        cancelled=f"{found.cancelled:,}",
        runs=f"{found.runs:,}",
        rate=found.success_rate,
        rest=100 - found.success_rate,
        credits=credits,
    )


# ------------------------------------------------------------------ recordings know from here up who started them
admin.site.unregister(Recording)


class RecordedFilter(recording_pages.StartedFilter):
    """The same, and the recordings of what one execution started."""

    def children_of(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        """Return what one execution started."""
        try:
            children = Execution.objects.filter(parent=UUID(chosen))
        except ValueError:
            raise Http404("there is no such execution") from None
        return rows.filter(execution_id__in=children.values("pk"))


@admin.register(Recording)
class RecordingAdmin(recording_pages.RecordingAdmin):
    """The pages of recordings, with the way to those of turns and subflows."""

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Return the filters, of which one asks who started what."""
        filters = super().get_list_filter(request)
        return [RecordedFilter if one is recording_pages.StartedFilter else one for one in filters]

    def children_url(self, recording: Recording) -> str:
        """Return the address of the recordings of what the run started; empty when it started nothing."""
        key = recording.execution_id
        if key is None or not Execution.objects.filter(parent=key).exists():
            return ""
        return f"{reverse('admin:recordings_recording_changelist')}?started={key}"


# ------------------------------------------------------------------ workflows can be run from here up
admin.site.unregister(Workflow)


@admin.register(Workflow)
class WorkflowAdmin(workflow_pages.WorkflowAdmin):
    """The pages of workflows, with Run and the last execution."""

    list_display = (
        "name",
        "status_pill",
        "schedule_text",
        "next_run",
        "last_execution",
        "statistics",
        "version_text",
        "row_actions",
    )
    actions = ("run", *workflow_pages.WorkflowAdmin.actions)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
        """Use the list that knows how executions went."""
        return WorkflowList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workflow]:
        """Add to each row when it ran last; the list is sorted by that."""
        last = Execution.objects.filter(workflow=OuterRef("pk"), parent=None).order_by("-queued_at")
        return super().get_queryset(request).annotate(last_at=Subquery(last.values("queued_at")[:1]))

    def get_urls(self) -> list[URLPattern]:
        """Add the address that starts a workflow."""
        view = self.admin_site.admin_view
        return [path("<uuid:pk>/run/", view(self.run_one), name="workflows_workflow_run"), *super().get_urls()]

    @admin.display(description="Last execution", ordering="last_at")
    def last_execution(self, workflow: Any) -> SafeString | str:
        """Show how the newest execution went, and when it was."""
        last: Execution | None = workflow.last
        if last is None:
            return EMPTY
        pill = status_pill(last.status, states_word(last.status))
        shown = '<a href="{}">{}</a><span class="adm-second">{}</span>'
        return format_html(shown, execution_url(last), pill, moment(last.queued_at))

    @admin.display(description=f"Last {statistics.DAYS} days")
    def statistics(self, workflow: Any) -> SafeString | str:
        """Show how many executions completed, of how many, and what they cost."""
        return statistics_cell(workflow.statistics)

    def version_runs(self, versions: Sequence[WorkflowVersion]) -> dict[Any, int]:
        """Count the executions of each version. One query."""
        rows = Execution.objects.filter(version__in=versions, parent=None).order_by()
        return {version.pk: 0 for version in versions} | dict(rows.values_list("version").annotate(Count("pk")))

    def row_buttons(self, workflow: Workflow) -> SafeString:
        """Put Run before the other buttons."""
        if workflow.status == Workflow.Status.ARCHIVED or workflow.draft_id is None:
            return super().row_buttons(workflow)
        run = button(reverse("admin:workflows_workflow_run", args=(workflow.pk,)), "Run", icon="play", post=True)
        return format_html("{}{}", run, super().row_buttons(workflow))

    def page_buttons(self, workflow: Workflow) -> list[SafeString]:
        """Put Run and the executions before the other buttons."""
        listed = f"{reverse('admin:executions_execution_changelist')}?workflow={workflow.pk}"
        buttons = [button(listed, "Executions", icon="execution", css="")]
        if workflow.status != Workflow.Status.ARCHIVED and workflow.draft_id is not None:
            url = reverse("admin:workflows_workflow_run", args=(workflow.pk,))
            buttons.append(button(url, "Run", icon="play", post=True, css=""))
        return buttons + super().page_buttons(workflow)

    @admin.action(description="Run", permissions=("change",))
    def run(self, request: HttpRequest, queryset: QuerySet[Workflow]) -> None:
        """Start each workflow once."""
        for workflow in queryset:
            run_workflow(request, workflow)

    def run_one(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Start one workflow and open its execution; when refused go back to its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        workflow = self.visible(request, pk)
        execution = run_workflow(request, workflow)
        if execution is None:
            return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))
        return HttpResponseRedirect(execution_url(execution))


def states_word(status: str) -> str:
    """Return what people read for ``status``."""
    return "Pending" if status == states.QUEUED else status.replace("_", " ").capitalize()


def trigger_word(trigger: str) -> str:
    """Return what people read for ``trigger``."""
    return {"api": "API", "one_time": "One-time"}.get(trigger, trigger.replace("_", " ").capitalize())


# ------------------------------------------------------------------ executions
def clock(text: str | None) -> str:
    """Return an instant (ISO 8601) as people say it in a sentence: "14:05" today, "22 Nov, 14:05" on another day."""
    if not text:
        return ""
    local = timezone.localtime(datetime.fromisoformat(text))
    return date_format(local, "H:i" if local.date() == timezone.localdate() else "j M, H:i")


def wait_text(wait: dict[str, Any]) -> str:
    """Return what is waited for: "Waits for approval since 14:05", "Waits until 14:05", "Waits for 3 of 10 turns"."""
    until = clock(wait["until"])
    if wait["kind"] == NodeRun.APPROVAL:
        return f"Waits for approval since {clock(wait['since'])}" + (f", until {until}" if until else "")
    if wait["kind"] == NodeRun.TIMER:
        return f"Waits until {until}" if until else "Waits for its time"
    noun = "turn" if wait["node_type"].startswith("loop_") else "execution"
    if not wait["total"]:
        return f"Waits for its {noun}s"
    return f"Waits for {wait['total'] - wait['done']} of {_count(wait['total'], noun)}"


class VersionFilter(admin.SimpleListFilter):
    """The version that ran; offered when one was chosen on the page of its workflow."""

    title = parameter_name = "version"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the chosen version."""
        chosen = self.value()
        if not chosen:
            return []
        try:
            visible = WorkflowVersion.objects.filter(pk=chosen, workflow__in=Workflow.objects.visible_to(request.user))
            return [(chosen, f"{name} v{number}") for name, number in visible.values_list("workflow__name", "number")]
        except ValidationError:
            raise Http404("there is no such version") from None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the executions of the chosen version."""
        return queryset.filter(version=self.value()) if self.value() else queryset


class StartedFilter(recording_pages.StartedFilter):
    """Executions that people and triggers started, or those that other executions did (subflows, turns of loops)."""

    def runs(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return what people and triggers started."""
        return rows.filter(parent=None)

    def children(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """Return what other executions started."""
        return rows.exclude(parent=None)

    def children_of(self, rows: QuerySet[Any], chosen: str) -> QuerySet[Any]:
        """Return what one execution started."""
        try:
            return rows.filter(parent=chosen)
        except ValidationError:
            raise Http404("there is no such execution") from None


def _starts_with(word: str) -> Q:
    """Return what holds for executions whose id starts with ``word``."""
    digits = word.replace("-", "").lower()
    if not 4 <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return Q(pk=None)
    return Q(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f")))


class KeyPaginator(Paginator):
    """Finds the keys of a page first, by an index alone, so that far pages of long lists join nothing on the way."""

    def page(self, number: int | str) -> Page:
        """Return the page ``number``."""
        number = self.validate_number(number)
        bottom = (number - 1) * self.per_page
        rows: Any = self.object_list
        keys = list(rows.values_list("pk", flat=True)[bottom : bottom + self.per_page])
        return Page(rows.filter(pk__in=keys), number, self)


class ExecutionList(ChangeList):
    """The list of executions, which knows the failed nodes and the waits of the page by a fixed number of queries."""

    def get_results(self, request: HttpRequest) -> None:
        """Fetch the rows of the page, the names of their failed nodes, and what they wait for."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        attach_node_names(self.result_list)
        report.attach_waits(self.result_list)


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyAdmin):
    """List of executions; the page of one is its monitor."""

    list_display = (
        "workflow_name", "status_pill", "cause", "version_text", "started", "length", "credits", "row_actions",
    )  # fmt: skip
    list_filter = ("status", WorkflowFilter, VersionFilter, "trigger", StartedFilter, ("queued_at", DateFilter))
    search_fields = ("workflow__name", "error", "error_node", "id")
    actions = ("pause", "resume", "cancel")
    empty_text = "Nothing has run yet. Open a workflow and press Run; its execution shows up here."
    ordering = ("-queued_at",)
    paginator = KeyPaginator

    def get_queryset(self, request: HttpRequest) -> QuerySet[Execution]:
        """Return the visible executions without graphs and payloads."""
        rows = super().get_queryset(request).select_related("workflow", "version", "owner", "started_by")
        return rows.defer("version__definition", "input", "workflow__description")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type:
        """Use the list that names failed nodes."""
        return ExecutionList

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> Any:
        """Find by the name of the workflow, by the start of the id, and failed ones by node and cause.

        Every word must be found in one of them.
        """
        for word in search_term.split():
            named = Workflow.objects.visible_to(request.user).filter(name__icontains=word).values_list("pk", flat=True)
            failed = Q(error_code__gt="") & (Q(error__icontains=word) | Q(error_node__icontains=word))
            queryset = queryset.filter(Q(workflow__in=list(named[:NAMES_FOUND])) | failed | _starts_with(word))
        return queryset, False

    def get_list_display(self, request: HttpRequest) -> Any:
        """Superusers also see whose execution it is."""
        columns = list(super().get_list_display(request))
        return ["workflow_and_owner", *columns[1:]] if access.sees_everything(request.user) else columns

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Who sees an execution may stop it."""
        return self.has_view_permission(request)

    @admin.display(description="Workflow", ordering="workflow__name")
    def workflow_name(self, execution: Execution) -> SafeString:
        """Show the workflow and the start of the id."""
        return format_html(
            '{}<span class="adm-second adm-mono">{}</span>', execution.workflow.name, str(execution.pk)[:8]
        )

    @admin.display(description="Workflow", ordering="workflow__name")
    def workflow_and_owner(self, execution: Execution) -> SafeString:
        """Show the workflow, the start of the id, and whose it is."""
        return format_html(
            '{}<span class="adm-second"><span class="adm-mono">{}</span> · {}</span>',
            execution.workflow.name,
            str(execution.pk)[:8],
            execution.owner.get_username(),
        )

    @admin.display(description="Status", ordering="status")
    def status_pill(self, execution: Execution) -> SafeString:
        """Show the status."""
        return status_pill(execution.status, states_word(execution.status))

    @admin.display(description="Failed node and cause", ordering="error_node")
    def cause(self, execution: Execution) -> SafeString | str:
        """Show the failed node and why, or what is waited for, in one line."""
        return cause(execution)

    @admin.display(description="")
    def row_actions(self, execution: Execution) -> SafeString:
        """Show the buttons of a row."""
        buttons = format_html_join("", "{}", ((shown,) for shown in control_buttons(execution)))
        return format_html('<div class="adm-row-actions">{}</div>', buttons)

    @admin.display(description="Version", ordering="version__number")
    def version_text(self, execution: Execution) -> str:
        """Show the number of the version."""
        return f"v{execution.version.number}"

    @admin.display(description="Started", ordering="queued_at")
    def started(self, execution: Execution) -> SafeString | str:
        """Show when it was queued, and why."""
        word = trigger_word(execution.trigger)
        return format_html('{}<span class="adm-second">{}</span>', moment(execution.queued_at), word)

    @admin.display(description="Duration")
    def length(self, execution: Execution) -> SafeString:
        """Show how long it took, from queued to its end."""
        return format_html('<span class="adm-number">{}</span>', duration(execution.duration_ms))

    @admin.action(description="Pause", permissions=("cancel",))
    def pause(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        """Let each execution start no further node."""
        from executions.triggers import pause_execution

        self._each(request, queryset, pause_execution, "paused", "not running")

    @admin.action(description="Resume", permissions=("cancel",))
    def resume(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        """Let each paused execution go on."""
        from executions.triggers import resume_execution

        self._each(request, queryset, resume_execution, "resumed", "not paused")

    def _each(
        self, request: HttpRequest, executions: QuerySet[Execution], act: Callable[..., bool], done: str, not_done: str
    ) -> None:
        """Do ``act`` to each execution and say of how many it was possible."""
        worked, refused = 0, 0
        for execution in executions:
            if act(execution, by=request.user.get_username()):
                worked += 1
            else:
                refused += 1
        if worked:
            self.message_user(request, f"{_count(worked, 'execution')} {done}.", messages.SUCCESS)
        if refused:
            verb = "is" if refused == 1 else "are"
            self.message_user(request, f"{_count(refused, 'execution')} {verb} {not_done}.", messages.WARNING)

    @admin.action(description="Cancel", permissions=("cancel",))
    def cancel(self, request: HttpRequest, queryset: QuerySet[Execution]) -> None:
        """Ask each execution to stop."""
        from executions.triggers import cancel_execution

        asked, ended = 0, 0
        for execution in queryset:
            if not execution.is_terminal and cancel_execution(execution, by=request.user.get_username()):
                asked += 1
            else:
                ended += 1
        if asked:
            self.message_user(request, f"{_count(asked, 'execution')} will stop within seconds.", messages.SUCCESS)
        if ended:
            self.message_user(request, f"{_count(ended, 'execution')} had already ended.", messages.WARNING)

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses that pause, resume and cancel one execution."""
        view = self.admin_site.admin_view
        own = [
            path(f"<uuid:pk>/{verb}/", view(self.one), {"verb": verb}, name=f"executions_execution_{verb}")
            for verb in ("pause", "resume", "cancel", "keep")
        ]
        return [*own, *super().get_urls()]

    def one(self, request: HttpRequest, pk: Any, verb: str) -> HttpResponse:
        """Pause, resume or cancel one execution, or keep its recording, and show its page again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        chosen = self.get_queryset(request).filter(pk=pk)
        execution = chosen.first()
        if execution is None:
            raise Http404("there is no such execution")
        getattr(self, verb)(request, chosen)
        return HttpResponseRedirect(execution_url(execution))

    def keep(self, request: HttpRequest, chosen: QuerySet[Any]) -> None:
        """Keep the recordings that their strategy would let go, and say so."""
        for execution in chosen:
            try:
                keep(execution.pk)
            except RecordingError as error:
                messages.error(request, f"The recording was not kept: {error}")
            else:
                messages.success(request, "The recording is kept.")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one execution: the live monitor, then its rows."""
        execution: Any = self.get_object(request, object_id)
        if execution is None:
            raise Http404("there is no such execution")
        definition = (
            WorkflowVersion.objects.filter(pk=execution.version_id).values_list("definition", flat=True).first()
        )
        names = report.names_in(definition or {})
        execution.version.definition = definition or {}
        execution.error_node_name = names.get(execution.error_node, execution.error_node)
        recording = Recording.objects.filter(execution_id=execution.pk).first()
        note = report.recording_note(execution, None if recording is None else recording.kept_because)
        runs = execution.node_runs.defer("outputs").order_by("phase_index", "node_index", "iteration")
        shown = list(runs[: NODE_RUNS_SHOWN + 1])
        context = {
            **self.admin_site.each_context(request),
            "title": f"{execution.workflow.name} {str(execution.pk)[:8]}",
            "can_run": execution.workflow.status != Workflow.Status.ARCHIVED,
            "opts": self.opts,
            "execution": execution,
            "short_id": str(execution.pk)[:8],
            "status": status_pill(execution.status, states_word(execution.status)),
            "facts": [*self._facts(execution), *([("Recording", note[0].upper() + note[1:])] if note else [])],
            "children": [_child(child, names) for child in report.children(execution)],
            "child_count": execution.children.count(),
            "node_runs": [_node_run(run, names) for run in shown[:NODE_RUNS_SHOWN]],
            "more_node_runs": len(shown) > NODE_RUNS_SHOWN,
            "has_outputs": any(run.status == states.COMPLETED for run in shown),
            "recording": recording,
            "keepable": recording is None and keepable(execution.pk),
            "input": _pretty(Execution.objects.values_list("input", flat=True).get(pk=execution.pk)),
            "props": {
                "api": "/api/v1",
                "ws": "/ws",
                "execution_id": str(execution.pk),
                "execution_url": "/admin/executions/execution/{id}/change/",
                "children_url": "/admin/executions/execution/?started={id}",
                "workflow_id": str(execution.workflow_id),
            },
        }
        return TemplateResponse(request, "admin/executions/execution/change_form.html", context)

    def _facts(self, execution: Execution) -> list[tuple[str, Any]]:
        workflow = reverse("admin:workflows_workflow_change", args=(execution.workflow_id,))
        version = reverse("admin:workflows_workflowversion_change", args=(execution.version_id,))
        facts: list[tuple[str, Any]] = [
            ("Workflow", format_html('<a href="{}">{}</a>', workflow, execution.workflow.name)),
            ("Version", format_html('<a href="{}">v{}</a>', version, execution.version.number)),
            ("Trigger", trigger_word(execution.trigger)),
            ("Queued", moment(execution.queued_at)),
            ("Started", moment(execution.started_at)),
            ("Finished", moment(execution.finished_at)),
            ("Duration", duration(execution.duration_ms)),
            ("Credits", execution.credits),
            ("Owner", execution.owner.get_username()),
            ("Id", format_html('<span class="adm-mono">{}</span>', execution.pk)),
        ]
        if execution.scheduled_for:
            facts.insert(3, ("Scheduled for", moment(execution.scheduled_for)))
        if execution.held_by:
            facts.insert(3, ("Held", report.held_reason(execution) or execution.held_by))
        if execution.started_by is not None and execution.started_by_id != execution.owner_id:
            facts.insert(3, ("Started by", execution.started_by.get_username()))
        if execution.parent_id is not None:
            facts.insert(3, ("Started by", self._parent(execution)))
        if execution.retry_of_id is not None:
            facts.insert(3, ("Retry of", _execution_link(execution.retry_of_id)))
        retries = execution.retries.order_by("-queued_at").values_list("pk", flat=True)
        if last := retries.first():
            facts.insert(3, ("Last retry", _execution_link(last)))
        return facts

    def _parent(self, execution: Execution) -> SafeString:
        """Lead to the execution that started this one, and say as what."""
        turn = f"turn {(execution.child_index or 0) + 1} of {execution.scope}" if execution.scope else "as a subflow"
        return format_html("{}, {}", _execution_link(execution.parent_id), turn)


def _execution_link(key: Any) -> SafeString:
    url = reverse("admin:executions_execution_change", args=(key,))
    return format_html('<a href="{}">Execution {}</a>', url, str(key)[:8])


def control_buttons(execution: Execution) -> list[SafeString]:
    """Return a button for each of Pause, Resume and Cancel that is possible now."""
    legal = {
        "pause": execution.status in report.PAUSABLE,
        "resume": execution.status == states.PAUSED,
        "cancel": not execution.is_terminal and not execution.cancel_requested,
    }
    icons = {"pause": "s-paused", "resume": "play", "cancel": "stop"}
    return [
        button(
            reverse(f"admin:executions_execution_{verb}", args=(execution.pk,)),
            verb.capitalize(),
            icon=icons[verb],
            post=True,
        )
        for verb, possible in legal.items()
        if possible
    ]


def _child(child: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {
        "url": reverse("admin:executions_execution_change", args=(child["id"],)),
        "node": names.get(child["node_id"], child["node_id"]),
        "what": f"Turn {(child['index'] or 0) + 1}" if child["scope"] else child["workflow_name"],
        "status": status_pill(child["status"], states_word(child["status"])),
        "duration": duration(child["duration_ms"]),
        "error": (child["error"] or "").strip().partition("\n")[0],
    }


def _node_run(run: NodeRun, names: dict[str, str]) -> dict[str, Any]:
    return {
        "name": names.get(run.node_id, run.node_id),
        "node_id": run.node_id,
        "type": run.node_type,
        "phase": run.phase_index + 1,
        "status": status_pill(run.status, states_word(run.status)),
        "attempt": run.attempt,
        "duration": duration(run.duration_ms),
        "processor": EMPTY if run.cpu_seconds is None else duration(round(run.cpu_seconds * 1000)),
        "memory": EMPTY if run.peak_memory_bytes is None else filesizeformat(run.peak_memory_bytes),
        "credits": run.credits,
        "error": run.error.strip().partition("\n")[0],
        "url": reverse("admin:executions_noderun_change", args=(run.pk,)),
    }


def _short_boot(boot: str) -> SafeString:
    return format_html('<span title="{}">{}</span>', boot, boot[:8])


def _pretty(text: str) -> str:
    """Return JSON text with line breaks; empty for an empty payload."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def _milliseconds(start: datetime | None, end: datetime | None) -> int | None:
    return None if start is None or end is None else round((end - start).total_seconds() * 1000)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ------------------------------------------------------------------ inside an execution
class InsideAdmin(ReadOnlyAdmin):
    """Rows that belong to an execution."""

    owner_path = "execution__owner"
    list_select_related = ("execution__workflow",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Load what the columns need."""
        rows = super().get_queryset(request).select_related("execution__workflow")
        return rows.defer("execution__input", "execution__workflow__settings", "execution__workflow__description")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show every column of the row."""
        return [field.name for field in self.opts.fields if field.name != "id"]

    @admin.display(description="Execution", ordering="execution__queued_at")
    def execution_link(self, row: Any) -> SafeString | str:
        """Lead to the execution."""
        if row.execution is None:
            return EMPTY
        name = row.execution.workflow.name
        url = execution_url(row.execution)
        return format_html(
            '<a href="{}">{}</a><span class="adm-second adm-mono">{}</span>', url, name, str(row.execution_id)[:8]
        )

    @admin.display(description="Status", ordering="status")
    def status_pill(self, row: Any) -> SafeString:
        """Show the status."""
        return status_pill(row.status, row.get_status_display())


@admin.register(Phase)
class PhaseAdmin(InsideAdmin):
    """Phases, to look at."""

    list_display = ("number", "execution_link", "status_pill", "node_count", "open", "failed", "started", "length")
    list_filter = ("status", ("started_at", DateFilter))
    ordering = ("-started_at",)

    @admin.display(description="Phase", ordering="index")
    def number(self, phase: Phase) -> str:
        """Count phases from 1, as people do."""
        return f"Phase {phase.index + 1}"

    @admin.display(description="Started", ordering="started_at")
    def started(self, phase: Phase) -> SafeString | str:
        """Show when it was opened."""
        return moment(phase.started_at)

    @admin.display(description="Duration")
    def length(self, phase: Phase) -> str:
        """Show how long it took."""
        return duration(_milliseconds(phase.started_at, phase.finished_at))


@admin.register(NodeRun)
class NodeRunAdmin(InsideAdmin):
    """Node runs, to look at."""

    list_display = ("node", "execution_link", "status_pill", "error_line", "attempt", "started", "length")
    list_filter = ("status", "node_type", ("started_at", DateFilter))
    search_fields = ("node_id", "node_type", "error", "execution__workflow__name")
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[NodeRun]:
        """Lists do not load outputs."""
        return super().get_queryset(request).defer("outputs")

    @admin.display(description="Node", ordering="node_id")
    def node(self, run: NodeRun) -> SafeString:
        """Show the id and the type."""
        return format_html('{}<span class="adm-second">{}</span>', run.node_id, run.node_type)

    @admin.display(description="Cause", ordering="error_code")
    def error_line(self, run: NodeRun) -> SafeString | str:
        """Show why it failed, in one line."""
        line = run.error.strip().partition("\n")[0]
        return format_html('<span class="adm-cause" title="{0}">{0}</span>', line) if line else BLANK

    @admin.display(description="Started", ordering="started_at")
    def started(self, run: NodeRun) -> SafeString | str:
        """Show when it began."""
        return moment(run.started_at)

    @admin.display(description="Duration")
    def length(self, run: NodeRun) -> str:
        """Show how long it took."""
        return duration(run.duration_ms)


@admin.register(BrowserSession)
class BrowserSessionAdmin(InsideAdmin):
    """Browser sessions, to look at."""

    list_display = ("name", "execution_link", "status_pill", "short_boot", "chromium_pid", "opened", "closed")
    list_filter = ("status", ("opened_at", DateFilter))

    @admin.display(description="Boot", ordering="boot")
    def short_boot(self, session: BrowserSession) -> SafeString:
        """Show the beginning of the id of the process that holds it."""
        return _short_boot(session.boot)

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, session: BrowserSession) -> SafeString | str:
        """Show when it was opened."""
        return moment(session.opened_at)

    @admin.display(description="Closed", ordering="closed_at")
    def closed(self, session: BrowserSession) -> SafeString | str:
        """Show when it was closed."""
        return moment(session.closed_at)


@admin.register(DeadLetter)
class DeadLetterAdmin(InsideAdmin):
    """What used up its deliveries and waits for a person: it is replayed or discarded."""

    empty_text = "Good: nothing has given up. What fails again and again and needs a person shows up here."

    list_display = ("subject", "workflow_link", "status_pill", "error_line", "deliveries", "last_failed", "outcome")
    list_filter = ("status", "kind", ("last_failed_at", DateFilter))
    search_fields = ("node_id", "error", "workflow__name")
    actions = ("replay", "discard")
    change_form_template = "admin/executions/deadletter/change_form.html"
    fields = (
        "kind", "workflow_link", "execution_link", "node_id", "error", "deliveries", "first_failed_at", "last_failed_at",
        "handled_by", "handled_at", "replay_link", "content",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        """Return the letters that the user may see, with what their columns need."""
        visible = self._reached(request, access.verb_of(request.method)).order_by("-last_failed_at", "-pk")
        rows = visible.select_related("workflow", "execution__workflow", "replayed_as__workflow", "handled_by")
        return rows.defer("execution__input", "replayed_as__input", "workflow__settings", "workflow__description")

    def _mine(self, request: HttpRequest, obj: Any, verb: str = "see") -> bool:
        if obj is None or not super()._mine(request, None):
            return super()._mine(request, None)
        return self._reached(request, verb).filter(pk=obj.pk).exists()

    def _reached(self, request: HttpRequest, verb: str) -> QuerySet[DeadLetter]:
        letters = DeadLetter.objects
        found: QuerySet[DeadLetter] = (
            letters.visible_to(request.user) if verb == "see" else letters.changeable_by(request.user)
        )
        return found

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what a person needs to decide."""
        return self.fields

    def has_handle_permission(self, request: HttpRequest) -> bool:
        """Who sees a letter may handle it."""
        return self.has_view_permission(request)

    @admin.display(description="Dead letter", ordering="node_id")
    def subject(self, letter: DeadLetter) -> SafeString:
        """Name what was to be done, and of which kind it is."""
        return format_html(
            '{}<span class="adm-second">{}</span>', letter.node_id or f"no. {letter.pk}", letter.get_kind_display()
        )

    @admin.display(description="Workflow", ordering="workflow__name")
    def workflow_link(self, letter: DeadLetter) -> SafeString | str:
        """Lead to the execution, or to the workflow that has none."""
        if letter.execution is not None:
            return self.execution_link(letter)
        if letter.workflow is None:
            return EMPTY
        url = reverse("admin:workflows_workflow_change", args=(letter.workflow_id,))
        return format_html('<a href="{}">{}</a>', url, letter.workflow.name)

    @admin.display(description="Outcome")
    def outcome(self, letter: DeadLetter) -> SafeString | str:
        """Show who handled it, and what it became."""
        if letter.handled_at is None:
            return EMPTY
        who = letter.handled_by.get_username() if letter.handled_by else "somebody"
        return format_html(
            '{}<span class="adm-second">{} · {}</span>', self.replay_link(letter), who, moment(letter.handled_at)
        )

    @admin.display(description="Replayed as")
    def replay_link(self, letter: DeadLetter) -> SafeString | str:
        """Lead to what it became."""
        if letter.replayed_as is None:
            return EMPTY
        name = f"execution {str(letter.replayed_as_id)[:8]}"
        return format_html('<a href="{}">{}</a>', execution_url(letter.replayed_as), name)

    @admin.display(description="Content")
    def content(self, letter: DeadLetter) -> SafeString:
        """Show what was to be done."""
        return format_html('<pre class="adm-json">{}</pre>', _pretty(letter.payload))

    # -------------------------------------------------------------- handling
    @admin.action(description="Replay", permissions=("handle",))
    def replay(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Do each letter again from where it failed."""
        for letter in queryset:
            self._replay(request, letter)

    @admin.action(description="Discard", permissions=("handle",))
    def discard(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Mark each letter as not worth doing."""
        for letter in queryset:
            self._discard(request, letter)

    def _replay(self, request: HttpRequest, letter: DeadLetter, *, whole: bool = False) -> None:
        from executions import mailroom

        try:
            execution = mailroom.replay(letter, request.user, whole=whole)
        except (ExecutionError, WorkflowError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        text = 'Dead letter {} is replayed as <a href="{}">execution {}</a>.'
        link = format_html(text, letter.pk, execution_url(execution), str(execution.pk)[:8])
        self.message_user(request, link, messages.SUCCESS)

    def _discard(self, request: HttpRequest, letter: DeadLetter) -> None:
        from executions import mailroom

        try:
            mailroom.discard(letter, request.user)
        except ExecutionError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self.message_user(request, f"Dead letter {letter.pk} is discarded.", messages.SUCCESS)

    def get_urls(self) -> list[URLPattern]:
        """Add the address that handles one letter."""
        view = self.admin_site.admin_view
        name = "executions_deadletter_handle"
        return [path("<int:pk>/handle/<slug:verb>/", view(self.handle), name=name), *super().get_urls()]

    def handle(self, request: HttpRequest, pk: int, verb: str) -> HttpResponse:
        """Replay or discard one letter and show its page again."""
        if verb not in ("replay", "replay-whole", "discard"):
            raise Http404("there is no such page")
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        letter = self.get_queryset(request).filter(pk=pk).first()
        if letter is None:
            raise Http404("there is no such dead letter")
        if verb == "discard":
            self._discard(request, letter)
        else:
            self._replay(request, letter, whole=verb == "replay-whole")
        return HttpResponseRedirect(reverse("admin:executions_deadletter_change", args=(letter.pk,)))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Add the status and what can be done with the letter."""
        letter = kwargs.get("obj")
        if letter is not None:
            context |= {"status": self.status_pill(letter), "buttons": self._buttons(letter)}
        return super().render_change_form(request, context, *args, **kwargs)

    def _buttons(self, letter: DeadLetter) -> list[SafeString]:
        if letter.status != DeadLetter.OPEN:
            return []

        def post(verb: str, text: str, icon: str, css: str = "") -> SafeString:
            url = reverse("admin:executions_deadletter_handle", args=(letter.pk, verb))
            return button(url, text, icon=icon, post=True, css=css)

        discard = post("discard", "Discard", "s-cancelled")
        match letter.kind:
            case "message":
                return [discard]
            case "node":
                return [
                    discard,
                    post("replay-whole", "Replay whole", "play"),
                    post("replay", "Replay from here", "play", "default"),
                ]
        return [discard, post("replay", "Replay", "play", "default")]

    @admin.display(description="Cause")
    def error_line(self, letter: DeadLetter) -> SafeString | str:
        """Show the last error, in one line."""
        line = letter.error.strip().partition("\n")[0]
        return format_html('<span class="adm-cause" title="{0}">{0}</span>', line) if line else BLANK

    @admin.display(description="Last failed", ordering="last_failed_at")
    def last_failed(self, letter: DeadLetter) -> SafeString | str:
        """Show when it failed last."""
        return moment(letter.last_failed_at)


@admin.register(WorkerLease)
class WorkerLeaseAdmin(ReadOnlyAdmin):
    """Worker processes; they belong to nobody, so only superusers see them."""

    list_display = ("process", "life", "slots_text", "stale_text", "queues", "started", "short_boot")
    fields = ("hostname", "pid", "boot", "life", "queues", "slots", "busy", "stale_text", "browser_text", "started_at")
    readonly_fields = ("life", "stale_text", "browser_text")
    ordering = ("-beat_at",)

    def _mine(self, request: HttpRequest, obj: Any, verb: str = "see") -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerLease]:
        """Return all workers for superusers, none for others."""
        rows = WorkerLease.objects.all()
        return rows.order_by(*self.ordering) if request.user.is_superuser else rows.none()

    @admin.display(description="Boot", ordering="boot")
    def short_boot(self, lease: WorkerLease) -> SafeString:
        """Show the beginning of the id of the process."""
        return _short_boot(lease.boot)

    @admin.display(description="Process", ordering="hostname")
    def process(self, lease: WorkerLease) -> str:
        """Name host and process id."""
        return f"{lease.hostname}:{lease.pid}"

    @admin.display(description="Sign of life", ordering="beat_at")
    def life(self, lease: WorkerLease) -> SafeString:
        """Show whether the process still reports."""
        silent = timezone.now().timestamp() - lease.beat_at / 1_000_000
        return (
            status_pill("lost", f"silent for {duration(round(silent * 1000))}")
            if silent > WORKER_SILENT_SECONDS
            else status_pill("live", "alive")
        )

    @admin.display(description="Busy", ordering="busy")
    def slots_text(self, lease: WorkerLease) -> SafeString | str:
        """Show how many slots are taken; below, of a worker that opened browser pages, how many and how."""
        busy = f"{lease.busy} of {lease.slots}"
        if not lease.pages:
            return busy
        return format_html('{}<span class="adm-second">pages: {}</span>', busy, self.browser_text(lease))

    @admin.display(description="Stale messages", ordering="stale")
    def stale_text(self, lease: WorkerLease) -> str:
        """Show how many messages found nothing to do since the process started."""
        return f"{lease.stale:,}"

    @admin.display(description="Browser pages", ordering="pages")
    def browser_text(self, lease: WorkerLease) -> str:
        """Show how many pages were opened since the process started, and how many of them found Chromium running."""
        rate = lease.browser_hit_rate
        return EMPTY if rate is None else f"{lease.pages:,}, {rate:.0%} without a start"

    @admin.display(description="Started", ordering="started_at")
    def started(self, lease: WorkerLease) -> SafeString | str:
        """Show when the process started."""
        return moment(lease.started_at)
