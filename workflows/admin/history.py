"""The versions of a workflow: what there was, what differs, and how to go back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from workflows import access, lifecycle
from workflows.admin.cells import button, moment, status_pill
from workflows.admin.changes import comparison
from workflows.admin.owned import OwnedAdmin
from workflows.diff import compare
from workflows.errors import WorkflowError
from workflows.models import Workflow, WorkflowVersion
from workflows.validation import errors

ROWS = 25
MOVES = {
    "restore": ("Restore v{}", "Its content is saved as a new version. What runs now goes on running."),
    "publish": ("Publish v{}", "Starts use this version from now on. Executions that run keep theirs."),
}


class VersionPages(OwnedAdmin):
    """The pages of a workflow that show, compare, restore and publish its versions."""

    def get_urls(self) -> list[URLPattern]:
        """Add the list of versions, a comparison, and the pages that ask before they change something."""
        view, name = self.admin_site.admin_view, "workflows_workflow"
        return [
            path("<uuid:pk>/versions/", view(self.versions_page), name=f"{name}_versions"),
            *(
                path(
                    f"<uuid:pk>/versions/<int:number>/{verb}/",
                    view(self.version_move),
                    {"verb": verb},
                    name=f"{name}_version_{verb}",
                )
                for verb in MOVES
            ),
            path("<uuid:pk>/diff/", view(self.diff_page), name=f"{name}_diff"),
            *super().get_urls(),
        ]

    def visible(self, request: HttpRequest, pk: Any) -> Workflow:
        """Return the workflow ``pk`` if the user may see it, or change it where the request does so.

        Raises:
            Http404: there is none, for this user.
        """
        workflow: Workflow | None = self.get_queryset(request).filter(pk=pk).first()
        if workflow is None:
            raise Http404("there is no such workflow")
        return workflow

    def version_runs(self, versions: Sequence[WorkflowVersion]) -> dict[Any, int]:
        """Return how often each version ran, by its key; upper rooms know."""
        return {}

    def version_rows(self, request: HttpRequest, workflow: Workflow, versions: Sequence[WorkflowVersion]) -> list[Any]:
        """Return what the table of versions shows, newest first. A fixed number of queries."""
        runs = self.version_runs(versions)
        changes = access.can(request.user, "change", workflow)
        return [
            {
                "version": version,
                "saved": moment(version.created_at),
                "badges": _badges(workflow, version),
                "runs": runs.get(version.pk),
                "runs_url": f"{reverse('admin:executions_execution_changelist')}?version={version.pk}",
                "buttons": self._version_buttons(workflow, version, changes),
            }
            for version in versions
        ]

    def _version_buttons(self, workflow: Workflow, version: WorkflowVersion, changes: bool) -> SafeString:
        def move(verb: str) -> str:
            return reverse(f"admin:workflows_workflow_version_{verb}", args=(workflow.pk, version.number))

        found = []
        if version.number > 1:
            found.append(button(diff_url(workflow, version.number - 1, version.number), "What changed"))
        running = workflow.version
        if running is not None and running.pk != version.pk and abs(running.number - version.number) > 1:
            found.append(button(diff_url(workflow, running.number, version.number), "Compare with running"))
        if changes and workflow.status != Workflow.Status.ARCHIVED:
            if version.pk != workflow.draft_id:
                found.append(button(move("restore"), "Restore"))
            if version.pk != workflow.version_id:
                found.append(button(move("publish"), "Publish"))
        return format_html_join("", "{}", ((one,) for one in found))

    def _page(self, request: HttpRequest, workflow: Workflow, title: str, **context: Any) -> dict[str, Any]:
        return {
            **self.admin_site.each_context(request),
            "title": f"{title} · {workflow.name}",
            "page_title": title,
            "workflow": workflow,
            "opts": self.opts,
            **context,
        }

    # -------------------------------------------------------------- pages
    def versions_page(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Show every version, and let two be chosen to compare."""
        workflow = self.visible(request, pk)
        versions = workflow.versions.select_related("author").defer("definition").order_by("-number")
        page = Paginator(versions, ROWS).get_page(request.GET.get("page"))
        context = self._page(
            request,
            workflow,
            "Versions",
            rows=self.version_rows(request, workflow, list(page)),
            page=page,
            newest=workflow.draft.number if workflow.draft else 0,
            running=workflow.version.number if workflow.version else 0,
        )
        return TemplateResponse(request, "admin/workflows/workflow/versions.html", context)

    def diff_page(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Show what differs between the versions ``from`` and ``to``; without them, between running and newest."""
        workflow = self.visible(request, pk)
        newest = workflow.draft.number if workflow.draft else 0
        running = workflow.version.number if workflow.version else 0
        old = number_in(request, "from") or (running if running not in (0, newest) else newest - 1)
        new = number_in(request, "to") or newest
        found = {version.number: version for version in workflow.versions.filter(number__in=(old, new))}
        if old not in found or new not in found:
            missing = (old if old not in found else new) or "before the first"
            messages.error(request, f"There is no version {missing} to compare with.")
            return HttpResponseRedirect(versions_url(workflow))
        before, after = found[old], found[new]
        context = self._page(
            request,
            workflow,
            f"v{old} and v{new}",
            old=before,
            new=after,
            sides=[(version, _badges(workflow, version), moment(version.created_at)) for version in (before, after)],
            swap_url=diff_url(workflow, new, old),
            found=comparison(compare(before.definition, after.definition), before.definition, after.definition),
        )
        return TemplateResponse(request, "admin/workflows/workflow/diff.html", context)

    def version_move(self, request: HttpRequest, pk: Any, number: int, verb: str) -> HttpResponse:
        """Ask whether a version is to be restored or published, and do it when that is confirmed."""
        workflow = self.visible(request, pk)
        version = workflow.versions.filter(number=number).first()
        if version is None:
            messages.error(request, f"There is no version {number}.")
            return HttpResponseRedirect(versions_url(workflow))
        if request.method == "POST":
            self._move(request, workflow, number, verb)
            return HttpResponseRedirect(versions_url(workflow))
        other = workflow.draft if verb == "restore" else workflow.version
        words, effect = MOVES[verb]
        wrong = _errors(workflow, version) if verb == "publish" else []
        known = other is not None and other.pk != version.pk
        context = self._page(
            request,
            workflow,
            words.format(number),
            version=version,
            verb=verb,
            effect=effect,
            other=other if known else None,
            found=comparison(compare(other.definition, version.definition), other.definition, version.definition)
            if other is not None and known
            else None,
            errors=wrong,
            back=versions_url(workflow),
            may_change=access.can(request.user, "change", workflow),
        )
        return TemplateResponse(request, "admin/workflows/workflow/version_move.html", context)

    def _move(self, request: HttpRequest, workflow: Workflow, number: int, verb: str) -> None:
        try:
            if verb == "restore":
                version = lifecycle.restore(workflow, number, request.user)
                outcome = f"Version {number} is restored as version {version.number}. Publish it to let it run."
            else:
                warnings = lifecycle.publish(workflow, number)
                outcome = f"Version {number} is published: starts use it from now on."
                for finding in warnings:
                    messages.warning(request, str(finding))
        except WorkflowError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, outcome)


def _errors(workflow: Workflow, version: WorkflowVersion) -> list[str]:
    """Return why ``version`` cannot be published; empty when it can."""
    try:
        return [lifecycle.told([finding]) for finding in errors(lifecycle.check_version(workflow, version))]
    except WorkflowError as error:
        return [str(error)]


def _badges(workflow: Workflow, version: WorkflowVersion) -> SafeString:
    """Return which of running and newest the version is."""
    found = []
    if version.pk == workflow.version_id:
        word = "Running" if workflow.status == Workflow.Status.ACTIVE else "Published"
        found.append(status_pill("active", word))
    if version.pk == workflow.draft_id and version.pk != workflow.version_id:
        found.append(status_pill("draft", "Newest draft"))
    return format_html_join(" ", "{}", ((one,) for one in found))


def number_in(request: HttpRequest, name: str) -> int:
    """Return the number in a parameter of the address, 0 for none."""
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def versions_url(workflow: Workflow) -> str:
    """Return the address of the versions of ``workflow``."""
    return reverse("admin:workflows_workflow_versions", args=(workflow.pk,))


def diff_url(workflow: Workflow, old: int, new: int) -> str:
    """Return the address of a comparison of two versions."""
    return f"{reverse('admin:workflows_workflow_diff', args=(workflow.pk,))}?from={old}&to={new}"
