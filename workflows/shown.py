"""What workflows, schedules and findings look like to programs: one description for the API and the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workflows import cron
from workflows.findings import Finding
from workflows.models import Schedule, Workflow


def summary(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as lists show it."""
    schedule: Schedule | None = getattr(workflow, "schedule", None)
    return {
        "id": workflow.pk,
        "name": workflow.name,
        "description": workflow.description,
        "status": workflow.status,
        "status_at": workflow.status_at,
        "status_reason": workflow.status_reason,
        "version": workflow.draft.number if workflow.draft else 0,
        "active_version": workflow.version.number if workflow.version else None,
        "schedule": schedule_json(schedule) if schedule else None,
        "updated_at": workflow.updated_at,
    }


def detail(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow as its page shows it."""
    definition = workflow.draft.definition if workflow.draft else {"nodes": [], "edges": []}
    return {**summary(workflow), "settings": workflow.settings or {}, "definition": definition}


def schedule_json(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the API shows it."""
    return {
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "next_run_at": schedule.next_run_at,
        "last_run_at": schedule.last_run_at,
    }


def preview(text: str, zone: str, count: int, shortest: int) -> dict[str, Any]:
    """Return words, next instants and what is wrong, for people who are typing a schedule."""
    shown: dict[str, Any] = {"text": "", "next": [], "error": None}
    try:
        shown["text"] = cron.describe(text)
        shown["next"] = cron.next_runs(text, zone, count)
        cron.check(text, zone, shortest)
    except ValueError as error:
        shown["error"] = str(error)
    return shown


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as JSON."""
    return [finding.to_json() for finding in findings]
