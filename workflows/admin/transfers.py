"""Workflows as files, copies and examples: import, export, duplicate."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import slugify

from workflows import credentials, lifecycle, transfer
from workflows.admin.history import VersionPages, number_in
from workflows.definition import Definition
from workflows.errors import ActivationRefused, DefinitionError, WorkflowError
from workflows.findings import CREDENTIAL_CODES
from workflows.models import Credential, Workflow
from workflows.strict import read_json
from workflows.validation import Finding

FINDINGS_SHOWN = 200


class ImportForm(forms.Form):
    """A file or its text; what is wrong is shown beside the text, which stays and can be mended."""

    file = forms.FileField(required=False, help_text="A JSON file, as Export makes it.")
    text = forms.CharField(
        required=False,
        strip=False,
        label="Definition",
        widget=forms.Textarea(attrs={"class": "vLargeTextField adm-code", "rows": 18, "spellcheck": "false"}),
    )
    name = forms.CharField(
        required=False,
        max_length=200,
        help_text="Empty: the name in the file. A workflow of yours that has the name already gets a new draft version.",
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    activate = forms.BooleanField(
        required=False, label="Activate it, if the file says so", help_text="Else it is a draft that you look at first."
    )

    def clean(self) -> dict[str, Any]:
        """Take the text from the file, if there is one."""
        data = super().clean() or {}
        file = data.get("file")
        if file is not None:
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 2  # its text comes back as a field of the form
            if file.size > most:
                self.add_error("file", f"The file is larger than {most / 1024**2:.3g} MB; divide it into subflows.")
                return data
            try:
                data["text"] = file.read().decode("utf-8-sig")
            except UnicodeDecodeError:
                self.add_error("file", "The file is no text; a definition is JSON in UTF-8.")
        if not self.errors and not (data.get("text") or "").strip():
            self.add_error("file", "Choose a file, or paste a definition below.")
        return data


class TransferPages(VersionPages):
    """The pages that bring workflows in and take them out."""

    def get_urls(self) -> list[URLPattern]:
        """Add import, export, duplicate and the examples."""
        view, name = self.admin_site.admin_view, "workflows_workflow"
        return [
            path("import/", view(self.import_page), name=f"{name}_import"),
            path("examples/", view(self.examples_page), name=f"{name}_examples"),
            path("<uuid:pk>/export/", view(self.export), name=f"{name}_export"),
            path("<uuid:pk>/duplicate/", view(self.duplicate), name=f"{name}_duplicate"),
            *super().get_urls(),
        ]

    # -------------------------------------------------------------- out
    def export(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Send the newest version, or ``?version=N``, as a file."""
        workflow = self.visible(request, pk)
        try:
            data = transfer.export(workflow, number_in(request, "version") or None)
        except WorkflowError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))
        response = HttpResponse(json.dumps(data, indent=2, ensure_ascii=False), content_type="application/json")
        response["Content-Disposition"] = f'attachment; filename="{slugify(workflow.name) or "workflow"}.json"'
        return response

    def duplicate(self, request: HttpRequest, pk: Any) -> HttpResponse:
        """Make a draft of the user's that does the same, and open its page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        workflow = self.visible(request, pk)
        try:
            copy = lifecycle.clone(workflow, request.user)
        except WorkflowError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))
        messages.success(request, f'"{copy.name}" is a draft of yours; its schedule, if any, is switched off.')
        return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(copy.pk,)))

    # -------------------------------------------------------------- in
    def import_page(self, request: HttpRequest) -> HttpResponse:
        """Check a definition and show every finding; store it when there is no error."""
        form = ImportForm(request.POST or None, request.FILES or None)
        context: dict[str, Any] = {}
        if request.method == "POST" and form.is_valid():
            text = form.cleaned_data["text"]
            data, findings, reason = _read(text, request.user)
            chosen = _chosen(request, data)
            if data is not None and "import" in request.POST and not reason:
                try:
                    return self._import(request, data, form.cleaned_data, chosen)
                except ActivationRefused as error:
                    findings = list(error.findings)
                except WorkflowError as error:
                    reason = str(error)
            elif chosen:
                findings = lifecycle.check_json(transfer.put_credentials(data, chosen), request.user.pk)
            form = ImportForm(initial={**form.cleaned_data, "file": None})
            context = {
                "findings": [_shown(finding) for finding in findings[:FINDINGS_SHOWN]],
                "more": max(0, len(findings) - FINDINGS_SHOWN),
                "errors_found": sum(_refuses(finding) for finding in findings),
                "reason": reason,
                "checked": True,
                "needs": _needed(data, chosen, request.user),
            }
        context |= {
            **self.admin_site.each_context(request),
            "title": "Import a workflow",
            "opts": self.opts,
            "form": form,
        }
        return TemplateResponse(request, "admin/workflows/workflow/import.html", context)

    def _import(self, request: HttpRequest, data: Any, options: dict[str, Any], chosen: dict[str, str]) -> HttpResponse:
        workflow, version, findings = transfer.import_definition(
            request.user,
            data,
            name=options["name"] or None,
            message="imported",
            credentials=chosen or None,
            draft=not options["activate"],
        )
        messages.success(request, f'"{workflow.name}" is imported as version {version.number}.')
        for finding in findings:
            messages.warning(request, str(finding))
        return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))

    # -------------------------------------------------------------- examples
    def examples_page(self, request: HttpRequest) -> HttpResponse:
        """Show the examples, and make a workflow of the one that is chosen."""
        found = transfer.examples()
        if request.method == "POST":
            chosen = found.get(request.POST.get("example", ""))
            if chosen is not None:
                return self._from_example(request, chosen)
            messages.error(request, "There is no such example.")
        own = set(Workflow.objects.filter(owner=request.user.pk).values_list("name", flat=True))
        context = {
            **self.admin_site.each_context(request),
            "title": "Examples",
            "opts": self.opts,
            "examples": [{**_about(data), "key": key, "there": data["name"] in own} for key, data in found.items()],
        }
        return TemplateResponse(request, "admin/workflows/workflow/examples.html", context)

    def _from_example(self, request: HttpRequest, data: dict[str, Any]) -> HttpResponse:
        name = lifecycle.free_name(request.user, data["name"], "", " {}")
        own = set(Workflow.objects.filter(owner=request.user.pk).values_list("name", flat=True))
        missing = [one for one in _subflows(data) if one not in own]
        try:
            with transaction.atomic():
                for other in missing:
                    if (found := _named(other)) is not None:
                        transfer.import_definition(request.user, found, message="example")
                workflow, _, _ = transfer.import_definition(
                    request.user, data, name=name, message="example", draft=True
                )
        except WorkflowError as error:
            messages.error(request, str(error))
            return HttpResponseRedirect(reverse("admin:workflows_workflow_examples"))
        messages.success(request, f'"{workflow.name}" is a draft of yours. Look at it in the builder, then press Run.')
        return HttpResponseRedirect(reverse("admin:workflows_workflow_change", args=(workflow.pk,)))


def _named(name: str) -> dict[str, Any] | None:
    return next((data for data in transfer.examples().values() if data["name"] == name), None)


def _subflows(data: dict[str, Any]) -> list[str]:
    nodes = [node for node in data["nodes"] if node["type"] == "subflow"]
    return [str(node["data"]["inputs"].get("Workflow", "")) for node in nodes]


def _about(data: dict[str, Any]) -> dict[str, Any]:
    definition = Definition.from_json(data)
    return {
        "name": data["name"],
        "description": data.get("description", ""),
        "nodes": len(definition.nodes),
        "browser": any("browser" in node.type for node in definition.nodes),
        "needs": ", ".join(transfer.needs(data)),
        "subflows": ", ".join(_subflows(data)),
    }


# ---------------------------------------------------------------------- checking


def _read(text: str, user: Any) -> tuple[Any, list[Finding], str]:
    """Return the JSON, what is found about it, and why it cannot even be checked."""
    try:
        data = read_json(text)
    except DefinitionError as error:
        return None, [], f"This is no definition: {error}"
    if not isinstance(data, dict):
        return None, [], "This is no definition: a workflow is a JSON object."
    return data, lifecycle.check_json(data, user.pk), ""


def _chosen(request: HttpRequest, data: Any) -> dict[str, str]:
    """Return which credential of the user was chosen for which placeholder."""
    if not isinstance(data, dict):
        return {}
    known = set(Credential.objects.filter(owner=request.user.pk).values_list("name", flat=True))
    found = {}
    for index, placeholder in enumerate(transfer.needs(data)):
        name = request.POST.get(f"credential-{index}", "")
        if name in known and name != placeholder:
            found[placeholder] = name
    return found


def _needed(data: Any, chosen: dict[str, str], user: Any) -> list[dict[str, Any]]:
    if not isinstance(data, dict):
        return []
    known = credentials.available(user.pk)
    own = list(Credential.objects.filter(owner=user.pk).values_list("name", flat=True))
    return [
        {
            "field": f"credential-{index}",
            "placeholder": placeholder,
            "fields": ", ".join(fields),
            "there": placeholder in known,
            "own": own,
            "chosen": chosen.get(placeholder, placeholder if placeholder in known else ""),
        }
        for index, (placeholder, fields) in enumerate(transfer.needs(data).items())
    ]


def _refuses(finding: Finding) -> bool:
    """Return whether it keeps a draft from being imported; a credential may be stored later."""
    return finding.severity == "error" and finding.code not in CREDENTIAL_CODES


def _shown(finding: Finding) -> dict[str, Any]:
    return {
        "status": "failed" if finding.severity == "error" else "completed_with_errors",
        "word": finding.severity.capitalize(),
        "place": " · ".join(part for part in (finding.node_id, finding.field) if part),
        "message": finding.message,
        "hint": finding.hint,
        "code": finding.code,
    }
