"""An execution as one task knows it: its plan, how its nodes ended, and the secrets that must not show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings

from executions import states, store
from executions.inputs import NodeResult, Sources
from executions.models import BrowserSession, Execution, NodeRun
from executions.planner import Plan, plan
from executions.runtime import Facts
from recordings.database import read_blob, save_blob
from recordings.redaction import Redactor
from workflows import credentials
from workflows.definition import Definition
from workflows.errors import CredentialError
from workflows.models import WorkflowVersion

ERROR_CHARACTERS = 4_000
LONGEST_SECONDS = 366 * 86_400


@dataclass(slots=True)
class Context:
    """An execution as one task knows it. ``results`` grows as nodes end or are loaded."""

    id: UUID
    workflow_id: UUID
    workflow_name: str
    version_number: int
    owner_id: int
    trigger: str
    depth: int
    payload: Any
    settings: dict[str, Any]
    plan: Plan
    status: str
    phase_index: int
    cancel_requested: bool
    queued_us: int
    results: dict[int, NodeResult] = field(default_factory=dict)
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    session_boot: str = ""
    session_queue: str = ""
    secrets: set[str] = field(default_factory=set)
    knows_failures: bool = False
    """Whether ``errors`` holds every failure of the phases before the open one."""

    @property
    def variables(self) -> dict[str, Any]:
        """Return what ``{{ vars.x }}`` reads: the workflow's own, then the installation's."""
        return {**self.plan.definition.vars, **settings.WORKFLOW_VARS}

    def facts(self) -> Facts:
        """Return what nodes may know."""
        return Facts(self.id, self.workflow_id, self.owner_id, bool(self.session_boot), self.variables)

    def sources(self) -> Sources:
        """Return where inputs come from."""
        return Sources(self.plan, self.results, self.payload, self.variables, self._secret)

    def redact(self, value: Any) -> Any:
        """Return ``value`` without any secret that this task resolved."""
        return Redactor(self.secrets).redact(value) if self.secrets else value

    def error_text(self, text: str) -> str:
        """Return an error message as it may be stored: without secrets, and not longer than people read."""
        return store.to_column(str(self.redact(text)), ERROR_CHARACTERS)

    def keep(self, content: bytes, content_type: str) -> str:
        """Store bytes that belong to the execution and return their SHA-256."""
        return save_blob(content, content_type, self.id)

    @property
    def deadline_us(self) -> int:
        """Return how long the execution may run, in microseconds."""
        wanted = self.settings.get("deadline_s")
        if isinstance(wanted, int | float) and not isinstance(wanted, bool) and 0 < wanted <= LONGEST_SECONDS:
            return int(wanted * 1_000_000)
        return int(settings.EXECUTION_DEADLINE_SECONDS * 1_000_000)

    def _secret(self, reference: str, name: str) -> str:
        secret = credentials.resolve(self.owner_id, reference, name)
        self.secrets.add(secret)
        return secret


@lru_cache(maxsize=256)
def plan_of(version_id: UUID) -> tuple[Plan, int]:
    """Return the plan of a version and its number; a version never changes, so this is never stale."""
    version = WorkflowVersion.objects.get(pk=version_id)
    return plan(Definition.from_json(version.definition)), version.number


def _no_plan(version_id: UUID) -> tuple[Plan, int]:
    """Return a plan without nodes, for ending an execution whose version cannot be planned any more."""
    number = WorkflowVersion.objects.values_list("number", flat=True).get(pk=version_id)
    return Plan(Definition((), ()), (), (), False, ()), number


def load(execution_id: UUID, *, planned: bool = True) -> Context | None:
    """Return what the database knows about an execution, or None if there is none. One query.

    Raises:
        WorkflowError: ``planned`` is asked for and its version cannot be planned, say for a node type that is gone.
    """
    row = (
        Execution.objects.filter(pk=execution_id)
        .values_list(
            "workflow_id", "workflow__name", "workflow__settings", "version_id", "owner_id", "trigger", "depth",
            "input", "status", "phase_index", "cancel_requested", "queued_at",
        )
        .first()
    )  # fmt: skip
    if row is None:
        return None
    the_plan, number = plan_of(row[3]) if planned else _no_plan(row[3])
    context = Context(
        id=execution_id, workflow_id=row[0], workflow_name=row[1], settings=row[2] if isinstance(row[2], dict) else {}, version_number=number,
        owner_id=row[4], trigger=row[5], depth=row[6], payload=json.loads(row[7]), plan=the_plan, status=row[8],
        phase_index=row[9], cancel_requested=row[10], queued_us=int(row[11].timestamp() * 1_000_000),
    )  # fmt: skip
    context.knows_failures = context.phase_index < 0
    _resolve_secrets(context)
    if the_plan.uses_browser and context.phase_index >= 0:
        load_session(context)
    return context


def _resolve_secrets(context: Context) -> None:
    """Resolve every credential that the definition names, so that no output of any node shows one."""
    for reference, name in context.plan.credentials:
        try:
            context.secrets.add(credentials.resolve(context.owner_id, reference, name))
        except CredentialError:
            continue  # the node that needs it fails with the reason


def load_session(context: Context) -> None:
    session = BrowserSession.objects.filter(execution_id=context.id).values_list("boot", "queue").first()
    if session is not None:
        context.session_boot, context.session_queue = session


def load_results(context: Context, indexes: Iterable[int]) -> None:
    """Load how the nodes ``indexes`` ended, with outputs, unless they are known already."""
    missing = [index for index in indexes if index not in context.results]
    if not missing:
        return
    rows = NodeRun.objects.filter(execution_id=context.id, node_index__in=missing).values_list(
        "node_index", "status", "outputs", "outputs_blob", "error", "error_code"
    )
    for index, status, text, blob, error, code in rows:
        outputs = None
        if status == states.COMPLETED:
            outputs = msgspec.json.decode(read_blob(blob) if blob else text)
        note_result(context, index, status, outputs, error, code)


def load_failures(context: Context, before: int) -> None:
    """Load the failed nodes of earlier phases, which decide the final status."""
    context.knows_failures = True
    rows = NodeRun.objects.filter(execution_id=context.id, phase_index__lt=before, status=states.FAILED).values_list(
        "node_index", "error", "error_code"
    )
    for index, error, code in rows:
        note_result(context, index, states.FAILED, None, error, code)


def note_result(
    context: Context, index: int, status: str, outputs: dict[str, Any] | None, error: str = "", code: str = ""
) -> None:
    tolerated = status == states.FAILED and context.plan.nodes[index].node.policy.on_error == "continue"
    context.results[index] = NodeResult(status, outputs, tolerated)
    if status == states.FAILED:
        context.errors[index] = (error, code)
