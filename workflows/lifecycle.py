"""How a workflow comes into being, changes its status and goes.

    draft ──activate──> active ──pause──> paused ──resume──> active
    draft, active, paused ──archive──> archived

Editing an active workflow makes a new draft version; what is active keeps running until the next
``activate``. Every change of status is one UPDATE that only one caller can win.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone

from workflows import credentials, schedules
from workflows.definition import Definition
from workflows.errors import ActivationRefused, DefinitionError, TransitionError, UnknownWorkflow
from workflows.limits import limits
from workflows.models import Workflow, WorkflowVersion
from workflows.validation import Finding, errors, validate

Status = Workflow.Status

TRANSITIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "activate": ((Status.DRAFT, Status.ACTIVE, Status.PAUSED), Status.ACTIVE),
    "pause": ((Status.ACTIVE,), Status.PAUSED),
    "resume": ((Status.PAUSED,), Status.ACTIVE),
    "archive": ((Status.DRAFT, Status.ACTIVE, Status.PAUSED), Status.ARCHIVED),
}
"""Verb -> the statuses that it starts from, and the one that it leads to. Everything else is refused."""

ActivationCheck = Callable[[Workflow, WorkflowVersion], "list[Finding]"]
ACTIVATION_CHECKS: list[ActivationCheck] = []
"""Further checks before activation; upper rooms append theirs when they are loaded."""


# ---------------------------------------------------------------------- finding and checking


def find_workflow(user: Any, name_or_id: str) -> Workflow:
    """Return the workflow that ``user`` may see under this name or id; their own one wins.

    Raises:
        UnknownWorkflow: there is none, or the name is not unique among other people's.
    """
    visible = Workflow.objects.visible_to(user).select_related("version", "draft", "owner")
    try:
        found = visible.filter(pk=UUID(str(name_or_id))).first()
    except ValueError:
        found = None
    if found is None:
        named = list(visible.filter(name=name_or_id)[:10])
        own = [workflow for workflow in named if workflow.owner_id == user.pk]
        if len(named) > 1 and not own:
            ids = ", ".join(f"{workflow.pk} ({workflow.owner})" for workflow in named)
            raise UnknownWorkflow(f'several people have a workflow "{name_or_id}"; use an id: {ids}')
        found = (own or named or [None])[0]
    if found is None:
        raise UnknownWorkflow(f'there is no workflow "{name_or_id}"; ./flow workflows list shows what exists')
    workflow: Workflow = found
    return workflow


def check_definition(definition: Definition, owner_id: Any) -> list[Finding]:
    """Return all findings about ``definition`` as a workflow of ``owner_id`` in this installation."""
    return validate(
        definition,
        credentials=credentials.available(owner_id),
        # A shell beside the running stack may not have been given the variables that the stack has.
        variables=settings.WORKFLOW_VARS or None,
        limits=limits(),
    )


# ---------------------------------------------------------------------- transitions


def activate(workflow: Workflow) -> list[Finding]:
    """Make the newest version the one that runs and return the warnings about it.

    Raises:
        ActivationRefused: the version has errors; the workflow stays as it was.
        TransitionError: there is no version yet, or the workflow is archived.
    """
    with transaction.atomic():
        locked = Workflow.objects.select_for_update().get(pk=workflow.pk)
        sources, target = TRANSITIONS["activate"]
        if locked.status not in sources:
            raise _refusal(locked, "activated")
        version = locked.draft
        if version is None:
            raise TransitionError(f'workflow "{locked.name}" has no version to activate; save it first')
        findings = check_definition(Definition.from_json(version.definition), locked.owner_id)
        for check in ACTIVATION_CHECKS:
            findings += check(locked, version)
        refuse(f'workflow "{locked.name}" cannot be activated', findings)
        _move(locked, sources, target, "activated", version=version)
        schedules.refresh(workflow)
    workflow.version, workflow.draft, workflow.status = version, version, target
    return findings


def pause(workflow: Workflow) -> None:
    """Stop scheduled and triggered starts; executions that run go on.

    Raises:
        TransitionError: it is not active.
    """
    _transition(workflow, "pause", "paused")


def resume(workflow: Workflow) -> None:
    """Take starts again after ``pause``; instants that passed meanwhile are not made up for.

    Raises:
        TransitionError: it is not paused.
    """
    _transition(workflow, "resume", "resumed")


def archive(workflow: Workflow) -> None:
    """Put the workflow away; its history stays readable.

    Raises:
        TransitionError: it is archived already.
    """
    _transition(workflow, "archive", "archived")


def delete(workflow: Workflow) -> bool:
    """Delete ``workflow`` with its versions if it never ran, else archive it; return whether it is gone."""
    pk = workflow.pk
    try:
        with transaction.atomic():
            Workflow.objects.filter(pk=pk).update(version=None, draft=None)
            Workflow.objects.get(pk=pk).delete()
    except ProtectedError:
        workflow.refresh_from_db()
        if workflow.status != Status.ARCHIVED:
            archive(workflow)
        return False
    return True


def _transition(workflow: Workflow, verb: str, word: str) -> None:
    sources, target = TRANSITIONS[verb]
    with transaction.atomic():
        _move(workflow, sources, target, word)
        schedules.refresh(workflow)


def _move(workflow: Workflow, sources: tuple[str, ...], target: str, word: str, **changes: Any) -> None:
    won = Workflow.objects.filter(pk=workflow.pk, status__in=sources).update(
        status=target, updated_at=timezone.now(), **changes
    )
    if not won:
        workflow.refresh_from_db(fields=("status",))
        raise _refusal(workflow, word)
    workflow.status = target


def _refusal(workflow: Workflow, word: str) -> TransitionError:
    return TransitionError(f'workflow "{workflow.name}" is {workflow.status}; it cannot be {word}')


def refuse(what: str, findings: list[Finding]) -> None:
    """Raise when there is an error among ``findings``.

    Raises:
        ActivationRefused: its message holds all errors, one per line.
    """
    found = errors(findings)
    if found:
        lines = "".join(f"\n  {finding}" for finding in found)
        raise ActivationRefused(f"{what}; {len(found)} error{'s' if len(found) > 1 else ''}:{lines}", found)


# ---------------------------------------------------------------------- importing


def import_definition(
    owner: Any, data: Any, *, name: str | None = None, message: str = "imported"
) -> tuple[Workflow, WorkflowVersion, list[Finding]]:
    """Store ``data`` as a workflow of ``owner``; the same name again makes a new draft version of it.

    A ``cron`` (with ``timezone``) in it sets the schedule, ``settings`` replace those of the workflow, and
    ``"status": "active"`` activates the version. All or nothing is stored. Errors are refused, except that credentials may be added later to a
    workflow that is not activated.

    Raises:
        DefinitionError: ``data`` is not a workflow.
        ActivationRefused: it has errors.
        TransitionError: a workflow of this name is archived.
    """
    definition = Definition.from_json(data)
    title = _title(data, name)
    findings = check_definition(definition, owner.pk)
    wants_active = data.get("status") == Status.ACTIVE
    refuse(
        f'workflow "{title}" is not imported',
        [finding for finding in findings if wants_active or finding.code != "MISSING_CREDENTIAL"],
    )
    with transaction.atomic():
        workflow, created = Workflow.objects.get_or_create(
            owner=owner, name=title, defaults={"description": data.get("description") or ""}
        )
        if workflow.status == Status.ARCHIVED:
            raise TransitionError(f'workflow "{title}" is archived; import under another name')
        if not created and data.get("description"):
            workflow.description = data["description"]
            workflow.save(update_fields=("description", "updated_at"))
        if data.get("settings") is not None and workflow.settings != data["settings"]:
            workflow.settings = dict(data["settings"])
            workflow.save(update_fields=("settings", "updated_at"))
        version = workflow.save_version(dict(data), author=owner, message=message)
        if definition.cron:
            schedules.set_schedule(workflow, definition.cron, definition.timezone)
        if wants_active:
            findings = activate(workflow)
    return workflow, version, findings


def _title(data: Mapping[str, Any], name: str | None) -> str:
    title = (name or data.get("name") or "").strip()
    if not title:
        raise DefinitionError('the workflow has no name; add "name" or use --name', "name")
    if len(title) > 200:
        raise DefinitionError("is longer than 200 characters", "name")
    return title
