"""Workflows as files: what is written out, and what is taken in.

A file is the JSON of a definition with the name, description, schedule and settings that the workflow has now. It
holds no secret: a credential is a placeholder, which is its name, and ``requires`` lists what the file needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from workflows import audit, lifecycle, schedules
from workflows.definition import Definition, settings_of
from workflows.errors import DefinitionError
from workflows.findings import CREDENTIAL_CODES
from workflows.models import NAME_CHARACTERS, Credential, Schedule, Workflow, WorkflowVersion
from workflows.strict import compact, name_problem
from workflows.templates import CREDENTIAL_KEY, credential_references
from workflows.validation import Finding

REQUIRES = "requires"
SCHEDULED = "schedule_enabled"
ABOUT_THE_FILE = (REQUIRES, SCHEDULED)
"""Keys that a file has and a stored definition has not."""


# ---------------------------------------------------------------------- out


def export(workflow: Workflow, number: int | None = None) -> dict[str, Any]:
    """Return the newest version (or ``number``) of ``workflow`` as a file that can be imported elsewhere.

    Keys keep the order that the database gives them; imported again it makes no new version.

    Raises:
        TransitionError: there is no such version.
    """
    version = lifecycle.find_version(workflow, number)
    known = {
        name: credential
        for credential in Credential.objects.filter(owner_id=workflow.owner_id).defer("data")
        for name in (str(credential.pk), credential.name)
    }
    names = {name: credential.name for name, credential in known.items()}
    data: dict[str, Any] = _with_credentials(version.definition, lambda name: names.get(name, name))
    own = dict(workflow.settings or {})
    if "tags" in data and "tags" not in (data.get("settings") or {}):
        data["tags"] = own.pop("tags", [])
    _put(data, "name", workflow.name)
    _put(data, "description", workflow.description)
    _put(data, "settings", own)
    if "status" in data:
        data["status"] = workflow.status
    _put_schedule(data, Schedule.objects.filter(workflow=workflow).first())
    needed = [{"name": name, "kind": _kind(known.get(name)), "fields": fields} for name, fields in needs(data).items()]
    if needed:
        data[REQUIRES] = needed
    return data


def needs(data: Any) -> dict[str, list[str]]:
    """Return the credentials that a definition names, in order, each with the fields that it reads of them."""
    found: dict[str, list[str]] = {}
    for reference in credential_references(data):
        name = reference[CREDENTIAL_KEY]
        if isinstance(name, str) and name:
            fields = found.setdefault(name, [])
            field = reference.get("field")
            if isinstance(field, str) and field not in fields:
                fields.append(field)
    return found


def _kind(credential: Credential | None) -> str:
    return credential.kind if credential else ""


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    """Set ``key``, but add none that would say nothing."""
    if value or key in data:
        data[key] = value


def _put_schedule(data: dict[str, Any], schedule: Schedule | None) -> None:
    if schedule is None:
        data.pop("cron", None)
        data.pop("timezone", None)
        return
    data["cron"] = schedule.cron
    if schedule.timezone != "UTC" or "timezone" in data:
        data["timezone"] = schedule.timezone
    if not schedule.enabled:
        data[SCHEDULED] = False


def examples() -> dict[str, dict[str, Any]]:
    """Return the files that come with the product to begin from, by their names without ending, in order."""
    files = sorted(Path(settings.EXAMPLES).glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


# ---------------------------------------------------------------------- in


def import_definition(
    owner: Any,
    data: Any,
    *,
    name: str | None = None,
    message: str = "imported",
    credentials: Mapping[str, str] | None = None,
    draft: bool = False,
) -> tuple[Workflow, WorkflowVersion, list[Finding]]:
    """Store ``data`` as a workflow of ``owner``; the same name again makes a new draft version of it.

    A ``cron`` (with ``timezone``) in it sets the schedule, ``settings`` replace those of the workflow, ``tags`` are
    taken into them, and ``"status": "active"`` activates the version unless ``draft`` is asked for. ``credentials``
    says which of the owner's own stands for a placeholder of the file. All or nothing is stored. Errors are refused,
    except that credentials may be added later to a workflow that is not activated.

    Raises:
        DefinitionError: ``data`` is not a workflow, or has no such placeholder.
        ActivationRefused: it has errors.
        TransitionError: a workflow of this name is archived.
    """
    if not isinstance(data, Mapping):
        raise DefinitionError(lifecycle.check_json(data, owner.pk)[0].message)
    title = _title(data, name)
    mapped = put_credentials(data, credentials) if credentials else data
    findings = lifecycle.check_json(mapped, owner.pk)
    wants_active = data.get("status") == Workflow.Status.ACTIVE and not draft
    lifecycle.refuse(
        f'workflow "{title}" is not imported',
        [finding for finding in findings if wants_active or finding.code not in CREDENTIAL_CODES],
    )
    definition = Definition.from_json(mapped)
    with transaction.atomic():
        workflow, created = Workflow.objects.get_or_create(
            owner=owner,
            name=title,
            defaults={"description": data.get("description") or "", "settings": settings_of(data)},
        )
        workflow = lifecycle.lock(workflow, "edit")
        if not created:
            _update(workflow, data)
        stored = {key: value for key, value in definition.raw.items() if key not in ABOUT_THE_FILE}
        if name:
            stored["name"] = title
        version = workflow.save_version(stored, author=owner, message=message)
        if definition.cron:
            schedules.set_schedule(
                workflow, definition.cron, definition.timezone, enabled=data.get(SCHEDULED) is not False
            )
        audit.note("import", "workflow", workflow, version=version.number)
        if wants_active:
            findings = lifecycle.activate(workflow)
    return workflow, version, findings


def _update(workflow: Workflow, data: Mapping[str, Any]) -> None:
    """Store the description and the settings of a file over those that ``workflow`` has."""
    given = settings_of(data)
    if data.get("settings") is None:
        given = {**(workflow.settings or {}), **given}
    if data.get("description"):
        workflow.description = data["description"]
    workflow.settings = given
    workflow.save(update_fields=("description", "settings", "updated_at"))


def _title(data: Mapping[str, Any], name: str | None) -> str:
    given = name or data.get("name") or ""
    title = given.strip() if isinstance(given, str) else str(given)  # what is no text is told with all other findings
    if problem := name_problem(title):
        raise DefinitionError(problem, "name")
    if not title:
        raise DefinitionError('the workflow has no name; add "name" or use --name', "name")
    if len(title) > NAME_CHARACTERS:
        raise DefinitionError(f"is longer than {NAME_CHARACTERS} characters", "name")
    return title


# ---------------------------------------------------------------------- credentials in a definition


def put_credentials(data: Any, credentials: Mapping[str, str]) -> Any:
    """Return ``data`` with its placeholders replaced; what cannot be stored comes back as it is, for validation to tell.

    Raises:
        DefinitionError: it has no such placeholder.
    """
    known = needs(data)
    for placeholder in credentials:
        if placeholder not in known:
            there = ", ".join(f'"{name}"' for name in known) or "none"
            raise DefinitionError(f'the workflow needs no credential "{placeholder}"; it needs {there}')
    if compact(data) is None:
        return data
    return _with_credentials(data, lambda name: credentials.get(name, name))


def _with_credentials(value: Any, rename: Callable[[str], str]) -> Any:
    """Return a copy of a JSON value in which every credential goes by its new name."""
    if isinstance(value, Mapping):
        copied = {key: _with_credentials(child, rename) for key, child in value.items()}
        name = copied.get(CREDENTIAL_KEY)
        return {**copied, CREDENTIAL_KEY: rename(name)} if isinstance(name, str) else copied
    if isinstance(value, list):
        return [_with_credentials(child, rename) for child in value]
    return value
