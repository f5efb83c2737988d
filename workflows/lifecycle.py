"""How a workflow comes into being, changes its status and goes.

    draft ──activate──> active ──pause──> paused ──resume──> active
    draft, active, paused ──archive──> archived ──unarchive──> draft

Editing an active workflow makes a new draft version; what is active keeps running until the next ``publish`` or
``activate``. Every change of status is one UPDATE that only one caller can win, and is noted in the audit log in
the same transaction.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from workflows import audit, credentials, schedules, webhooks
from workflows.definition import Definition
from workflows.errors import ActivationRefused, DefinitionError, TransitionError, UnknownWorkflow
from workflows.limits import check_active, limits
from workflows.models import MESSAGE_CHARACTERS, NAME_CHARACTERS, Schedule, Workflow, WorkflowVersion
from workflows.validation import Finding, errors, examine, oversize, validate

Status = Workflow.Status

_LIVING = (Status.DRAFT, Status.ACTIVE, Status.PAUSED)

TRANSITIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "activate": (_LIVING, Status.ACTIVE),
    "publish": (_LIVING, ""),
    "pause": ((Status.ACTIVE,), Status.PAUSED),
    "resume": ((Status.PAUSED,), Status.ACTIVE),
    "archive": (_LIVING, Status.ARCHIVED),
    "unarchive": ((Status.ARCHIVED,), Status.DRAFT),
    "edit": (_LIVING, ""),
    "delete": (tuple(Status.values), ""),
}
"""Verb -> the statuses that it starts from, and the one that it leads to, empty when it stays as it is (or there is
no workflow any more). Everything else is refused."""

_DONE = {
    "activate": "activated", "publish": "published", "pause": "paused", "resume": "resumed", "archive": "archived",
    "unarchive": "unarchived", "edit": "edited", "delete": "deleted",
}  # fmt: skip

_NOTED = ("name", "settings", "owner_id")
"""Columns whose change is noted, because starts depend on them."""

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
        credentials=credentials.available(owner_id, definition.raw),
        # A shell beside the running stack may not have been given the variables that the stack has.
        variables=settings.WORKFLOW_VARS or None,
        limits=limits(owner_id),
    )


def check_version(workflow: Workflow, version: WorkflowVersion) -> list[Finding]:
    """Return all findings about ``version`` as the one that runs; with an error among them it is neither activated nor published.

    Raises:
        DefinitionError: its structure cannot be read.
    """
    findings = check_definition(Definition.from_json(version.definition), workflow.owner_id)
    for check in ACTIVATION_CHECKS:
        findings += check(workflow, version)
    return findings


def check_json(data: Any, owner_id: Any) -> list[Finding]:
    """Return all findings about the JSON of a workflow of ``owner_id``, problems of its structure included."""
    return examine(
        data,
        credentials=credentials.available(owner_id, data),
        variables=settings.WORKFLOW_VARS or None,
        limits=limits(owner_id),
    )


def check_size(workflow: Workflow, definition: Definition, newest: WorkflowVersion | None) -> None:
    """Refuse a version that is larger than the owner of ``workflow`` may have.

    As large as the ``newest`` one it may be, so that whoever has a smaller plan now can still mend what there is.

    Raises:
        DefinitionError: it has too many nodes, wires or bytes; the numbers are in the message.
    """
    found = oversize(definition, own := limits(workflow.owner_id))
    if found and newest is not None:
        found = oversize(definition, own, Definition.read(newest.definition)[0])
    if found:
        raise DefinitionError(told(found))


def told(findings: Iterable[Finding]) -> str:
    """Return findings as one sentence."""
    return "; ".join(f"{one.message}{f' ({one.hint})' if one.hint else ''}" for one in findings)


# ---------------------------------------------------------------------- transitions


def possible(status: str) -> list[str]:
    """Return the verbs that a workflow of this status can be moved by, in the order of the table."""
    return [verb for verb, (sources, _) in TRANSITIONS.items() if status in sources]


def activate(workflow: Workflow, number: int | None = None) -> list[Finding]:
    """Make the newest version (or ``number``) the one that runs, take starts, and return the warnings about it.

    Raises:
        ActivationRefused: the version has errors; the workflow stays as it was.
        TransitionError: there is no such version, or the workflow is archived.
    """
    return _run(workflow, "activate", number)


def publish(workflow: Workflow, number: int | None = None) -> list[Finding]:
    """Make the newest version (or ``number``) the one that runs, and return the warnings about it.

    The status stays: a paused workflow stays paused, a draft takes no starts until it is activated.

    Raises:
        ActivationRefused: the version has errors; the workflow stays as it was.
        TransitionError: there is no such version, or the workflow is archived.
    """
    return _run(workflow, "publish", number)


def _run(workflow: Workflow, verb: str, number: int | None) -> list[Finding]:
    with transaction.atomic():
        locked = lock(workflow, verb)
        version = find_version(locked, number)
        findings = check_version(locked, version)
        refuse(f'version {version.number} of workflow "{locked.name}" cannot be {_DONE[verb]}', findings)
        before = locked.version.number if locked.version else None
        _move(locked, verb, noted={"version": version.number, "version_before": before}, version=version)
        schedules.refresh(workflow)
    workflow.version, workflow.draft, workflow.status = version, locked.draft, locked.status
    workflow.status_at, workflow.status_reason = locked.status_at, locked.status_reason
    return findings


def pause(workflow: Workflow, reason: str = "") -> None:
    """Stop scheduled and triggered starts; executions that run go on.

    ``reason`` is for a pause that nobody asked for; it is shown with the status.

    Raises:
        TransitionError: it is not active.
    """
    _transition(workflow, "pause", reason)


def resume(workflow: Workflow) -> None:
    """Take starts again after ``pause``; instants that passed meanwhile are not made up for.

    Raises:
        TransitionError: it is not paused.
    """
    _transition(workflow, "resume")


def archive(workflow: Workflow) -> None:
    """Put the workflow away; its history stays readable.

    Raises:
        TransitionError: it is archived already.
    """
    _transition(workflow, "archive")


def unarchive(workflow: Workflow) -> None:
    """Bring an archived workflow back as a draft; it takes starts again after ``activate``, which checks it anew.

    Raises:
        TransitionError: it is not archived.
    """
    _transition(workflow, "unarchive")


def delete(workflow: Workflow) -> bool:
    """Delete ``workflow`` with its versions if it never ran, else archive it; return whether it is gone."""
    pk = workflow.pk
    try:
        with transaction.atomic():
            locked = lock(workflow, "delete")
            Workflow.objects.filter(pk=pk).update(version=None, draft=None)
            Workflow.objects.get(pk=pk).delete()
            audit.note("delete", "workflow", pk, owner=locked.owner_id, name=locked.name, status=locked.status)
    except ProtectedError:
        workflow.refresh_from_db()
        if workflow.status != Status.ARCHIVED:
            archive(workflow)
        return False
    return True


def lock(workflow: Workflow, verb: str) -> Workflow:
    """Return ``workflow`` as it is stored, locked until the end of the transaction, if it can be moved by ``verb``.

    Raises:
        TransitionError: not from its status; the message says what is possible.
        UnknownWorkflow: it was deleted.
    """
    locked: Workflow | None = Workflow.objects.select_for_update().filter(pk=workflow.pk).first()
    if locked is None:
        raise UnknownWorkflow(f'workflow "{workflow.name}" was deleted')
    if locked.status not in TRANSITIONS[verb][0]:
        workflow.status = locked.status
        raise _refusal(locked, verb)
    return locked


def _transition(workflow: Workflow, verb: str, reason: str = "") -> None:
    with transaction.atomic():
        locked = lock(workflow, verb)
        _move(locked, verb, noted={"reason": reason} if reason else {}, reason=reason)
        schedules.refresh(workflow)
    for field in ("status", "status_at", "status_reason", "updated_at"):
        setattr(workflow, field, getattr(locked, field))


def _move(workflow: Workflow, verb: str, *, noted: dict[str, Any], reason: str = "", **changes: Any) -> None:
    """Store and note a move."""
    sources, target = TRANSITIONS[verb]
    changes["updated_at"] = timezone.now()
    if target == Status.ACTIVE and workflow.status != Status.ACTIVE:
        check_active(workflow)
    if target:
        changes |= {"status": target, "status_at": changes["updated_at"], "status_reason": reason[:300]}
    if not Workflow.objects.filter(pk=workflow.pk, status__in=sources).update(**changes):
        workflow.refresh_from_db(fields=("status",))
        raise _refusal(workflow, verb)
    audit.note(verb, "workflow", workflow, **noted, status_before=workflow.status)
    for field, value in changes.items():
        setattr(workflow, field, value)


def _refusal(workflow: Workflow, verb: str) -> TransitionError:
    return TransitionError(
        f'workflow "{workflow.name}" is {workflow.status}; it cannot be {_DONE[verb]}. '
        f"Possible now: {', '.join(possible(workflow.status))}"
    )


def refuse(what: str, findings: list[Finding]) -> None:
    """Raise when there is an error among ``findings``.

    Raises:
        ActivationRefused: its message holds all errors, one per line.
    """
    found = errors(findings)
    if found:
        lines = "".join(f"\n  {finding}" for finding in found)
        raise ActivationRefused(f"{what}; {len(found)} error{'s' if len(found) > 1 else ''}:{lines}", found)


# ---------------------------------------------------------------------- versions and copies


def find_version(workflow: Workflow, number: int | None = None) -> WorkflowVersion:
    """Return version ``number`` of ``workflow``, or its newest.

    Raises:
        TransitionError: there is none.
    """
    if number is None:
        version: WorkflowVersion | None = workflow.draft
        missing = "has no version yet; save it first"
    else:
        version = workflow.versions.filter(number=number).first()
        missing = f"has no version {number}"
    if version is None:
        raise TransitionError(f'workflow "{workflow.name}" {missing}')
    return version


def restore(workflow: Workflow, number: int, author: Any) -> WorkflowVersion:
    """Save what version ``number`` holds as a new version and return it; what is active keeps running.

    Name, schedule and settings of the workflow stay as they are.

    Raises:
        TransitionError: there is no such version, the newest one holds the same, or the workflow is archived.
    """
    with transaction.atomic():
        locked = lock(workflow, "edit")
        old, newest = find_version(locked, number), find_version(locked)
        if old.content_hash == newest.content_hash:
            raise TransitionError(
                f'version {newest.number} of workflow "{locked.name}" already holds what {number} does'
            )
        version = locked.save_version(old.definition, author=author, message=f"restored from version {number}")
    workflow.draft = version
    return version


def clone(workflow: Workflow, owner: Any, name: str | None = None, *, number: int | None = None) -> Workflow:
    """Return a new draft workflow of ``owner`` that does what the newest version (or ``number``) of this one does.

    Without ``name`` it is called "X (copy)". The schedule comes along switched off, also one that fires more often than
    ``owner`` may let it; credentials are found by their names among those of ``owner``.

    Raises:
        TransitionError: there is no such version, or ``owner`` has a workflow of this name.
        DefinitionError: it is larger than ``owner`` may store.
    """
    with transaction.atomic():
        version = find_version(workflow, number)
        wanted = name or free_name(owner, workflow.name, " (copy)", " (copy {})")
        copy = Workflow(owner=owner, name=wanted, description=workflow.description, settings=workflow.settings)
        try:
            with transaction.atomic():
                copy.save()
        except IntegrityError:
            raise TransitionError(f'there is already a workflow "{wanted}"; choose another name') from None
        definition = {key: value for key, value in version.definition.items() if key not in ("id", "status")}
        copy.save_version(
            {**definition, "name": wanted}, author=owner, message=f"copy of {workflow.name}, version {version.number}"[:MESSAGE_CHARACTERS]
        )  # fmt: skip
        schedule = Schedule.objects.filter(workflow=workflow).first()
        if schedule is not None:
            schedules.set_schedule(copy, schedule.cron, schedule.timezone, enabled=False)
        audit.note("clone", "workflow", copy, source=str(workflow.pk), source_name=workflow.name)
    return copy


def free_name(owner: Any, name: str, first: str, further: str) -> str:
    """Return ``name`` with the ending ``first``, or where ``owner`` has that, with ``further`` and a number from 2 on."""
    taken = set(Workflow.objects.filter(owner=owner).values_list("name", flat=True))
    endings = itertools.chain([first], (further.format(count) for count in itertools.count(2)))
    names = (f"{name[: NAME_CHARACTERS - len(ending)]}{ending}" for ending in endings)
    return next(one for one in names if one not in taken)


# ---------------------------------------------------------------------- what is noted when it is saved


def noted_values(workflow: Workflow, update_fields: Iterable[str] | None) -> dict[str, Any] | None:
    """Return what is stored of the noted columns of ``workflow``; {} if none is to be saved, None if it is new."""
    if workflow._state.adding:
        return None
    if update_fields is not None and not {*_NOTED, "owner"} & {*update_fields}:
        return {}
    return Workflow.objects.filter(pk=workflow.pk).values(*_NOTED).first() or {}


def note_saved(workflow: Workflow, before: dict[str, Any] | None) -> None:
    """Note that ``workflow`` is new (``before`` None), or what became of the columns in ``before``."""
    if before is None:
        audit.note("create", "workflow", workflow)
        return
    for column, verb in (("name", "rename"), ("settings", "settings"), ("owner_id", "hand over")):
        value = getattr(workflow, column)
        if column in before and before[column] != value:
            audit.note(verb, "workflow", workflow, before=before[column], after=value)
    if before.get("owner_id", workflow.owner_id) != workflow.owner_id:
        webhooks.hand_over(workflow)


def note_version(workflow: Workflow, version: WorkflowVersion) -> None:
    """Note that ``version`` was saved."""
    audit.note("save", "workflow", workflow, version=version.number, message=version.message)
