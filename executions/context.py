"""An execution as one task knows it: its plan, how its nodes ended, and the secrets that must not show."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

import msgspec
from django.conf import settings

from executions import logs, states, store
from executions.inputs import NodeResult, Sources
from executions.models import BrowserSession, Execution
from executions.planner import Plan, PlannedNode, plan
from executions.runtime import Facts
from recordings.blobs import read_blob, save_blob
from recordings.redaction import Redactor
from workflows import credentials
from workflows.credentials import Opened
from workflows.definition import Definition
from workflows.errors import CredentialError
from workflows.models import WorkflowVersion
from workflows.registry import ERROR, ERROR_MESSAGE, EXECUTE

RecordSwitch = Literal["record_inputs", "record_outputs"]
ERROR_CHARACTERS = 4_000
LONGEST_SECONDS = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Around:
    """A loop around an execution: its node, the execution that it belongs to, and the turn that we are in."""

    loop: int
    execution_id: UUID
    turn: Mapping[str, Any]


@dataclass(slots=True)
class Context:
    """An execution as one task knows it. ``results`` grows as nodes end or are loaded.

    A turn of a loop has a ``plan`` of that body, and reads what is outside from the executions ``around`` it.
    """

    id: UUID
    workflow_id: UUID
    workflow_name: str
    version_id: UUID
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
    priority: int = 5
    reserved: int | None = None
    """The credits that were reserved for it; None when its owner is not metered."""
    longest_us: int = LONGEST_SECONDS * 1_000_000
    """How long it may run at most, whatever its workflow says (microseconds)."""
    set_by_nodes: dict[str, Any] = field(default_factory=dict)
    """Variables that nodes set which have completed, here and in the executions around."""
    parent: tuple[UUID, int] | None = None
    """The execution and the node of it (an index) that this one runs for, and that waits for its end."""
    around: tuple[Around, ...] = ()
    session_owner: UUID | None = None
    """Whose browser page this execution works on, when it is not its own."""
    results: dict[int, NodeResult] = field(default_factory=dict)
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)
    session_boot: str = ""
    session_queue: str = ""
    opened: dict[str, Opened | CredentialError] = field(default_factory=dict)
    """The credentials that the definition names, or why they cannot be had."""
    secrets: set[str] = field(default_factory=set)
    redactor: Redactor = field(default_factory=Redactor)
    known: set[str] = field(default_factory=set)
    """The secrets that ``redactor`` looks for."""
    large_payload: dict[str, Any] | None = None
    """What the first event holds in the place of a payload that is too large for a row."""
    kept: set[int] = field(default_factory=set)
    """Nodes of a retry whose results were there before it began."""
    tags: set[str] = field(default_factory=set)
    """What nodes that this task ran tagged the recording with."""
    knows_failures: bool = False
    """Whether ``errors`` holds every failure of the phases before the open one."""
    planning_s: float = 0.0
    """How long this task took to plan the workflow, next to nothing when it knew the plan."""
    setup_s: float = 0.0
    """How long it took to load the rest: what the execution is about, its credentials, the page it works on."""
    since_us: int = field(default_factory=store.now_us)
    """Since when this task has been at what it does now: going on after a phase, or with the execution at all."""

    @property
    def variables(self) -> dict[str, Any]:
        """Return what ``{{ vars.x }}`` reads: the workflow's own, then the installation's, then what nodes set."""
        return {**self.plan.definition.vars, **settings.WORKFLOW_VARS, **self._own_variables}

    @property
    def _own_variables(self) -> dict[str, Any]:
        """Return what nodes set, without what stands for the tags of the recording."""
        if not self.tagged:
            return self.set_by_nodes
        return {key: value for key, value in self.set_by_nodes.items() if not key.startswith(store.TAG)}

    def facts(self) -> Facts:
        """Return what nodes may know."""
        return Facts(
            self.id, self.workflow_id, self.owner_id, self.page_of, bool(self.session_boot), self.variables, self.clean,
            lambda: tuple(self.secrets), self.captures,
        )  # fmt: skip

    @property
    def turn_of_commit(self) -> str:
        """Return where its end stands among others that are written together.

        Ends of metered executions come last and by owner, so that all processes lock accounts in the same order.
        """
        return self.id.hex if self.reserved is None else f"~{self.owner_id:020}{self.id.hex}"

    @property
    def page_of(self) -> UUID:
        """Return the execution that owns the browser page which nodes work on here."""
        return self.session_owner or self.id

    def sources(self) -> Sources:
        """Return where inputs come from."""
        turn = self.around[0].turn if self.around else None
        return Sources(self.plan, self.results, self.payload, self.variables, self._secret, turn)

    @property
    def tagged(self) -> bool:
        """Return whether a node is known to have tagged the recording."""
        return any(key.startswith(store.TAG) for key in self.set_by_nodes)

    def records(self, switch: RecordSwitch, node: PlannedNode | None = None) -> bool:
        """Return whether recordings hold the inputs or outputs of a node, or (without) of the whole execution."""
        own = None if node is None else getattr(node.node.policy, switch)
        return self.settings.get(switch) is not False if own is None else bool(own)

    def captures(self, node: PlannedNode) -> bool:
        """Return whether the page of a failed node may be kept: it shows what went in and what came out."""
        return self.records("record_inputs", node) and self.records("record_outputs", node)

    def redact(self, value: Any) -> Any:
        """Return ``value`` without any secret that this task resolved."""
        return self._redactor().redact(value) if self.secrets else value

    def clean(self, content: bytes, content_type: str) -> bytes:
        """Return the content of a file without secrets, if it is text."""
        if self.secrets and is_text(content, content_type):
            return self._redactor().redact_bytes(content)
        return content

    def _redactor(self) -> Redactor:
        """Return what takes the secrets out that are known now; it is made once."""
        if len(self.known) != len(self.secrets):
            for secret in self.secrets - self.known:
                self.redactor.add(secret)
            self.known = set(self.secrets)
        return self.redactor

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
            return min(int(wanted * 1_000_000), self.longest_us)
        return min(int(settings.EXECUTION_DEADLINE_SECONDS * 1_000_000), self.longest_us)

    def _secret(self, reference: str, name: str) -> str:
        if reference not in self.opened:
            self.open({reference})
        found = self.opened[reference]
        if isinstance(found, CredentialError):
            raise found
        return found.field(name)

    def open(self, references: Iterable[str]) -> None:
        """Open credentials of the owner, whose secrets are kept out of everything from here on. One query."""
        self.opened |= self.look_up(references)
        for found in self.opened.values():
            if isinstance(found, Opened):
                self.secrets |= found.secrets
        logs.remember(self.secrets)

    def look_up(self, references: Iterable[str]) -> dict[str, Opened | CredentialError]:
        """Return credentials by how they are called, or why they cannot be had."""
        return credentials.open_all(self.owner_id, references)


def is_text(content: bytes, content_type: str) -> bool:
    """Return whether people could read a file, whatever it is called; in anything else nothing is replaced."""
    if content_type.startswith("text/") or any(word in content_type for word in ("json", "xml", "javascript")):
        return True
    if content_type.startswith(("image/", "video/", "audio/", "font/")):
        return False
    begin = content[:4096]
    return b"\0" not in begin and begin.decode("utf-8", "ignore").encode()[:4093] == begin[:4093]


@lru_cache(maxsize=256)
def plan_of(version_id: UUID, scope: str = "") -> tuple[Plan, int]:
    """Return the plan of a version, or of the body of its loop ``scope`` (a node id), and the version's number.

    A version never changes, so this is never stale.
    """
    if scope:
        whole, number = plan_of(version_id)
        return whole.body(next(node.index for node in whole.nodes if node.node.id == scope)), number
    version = WorkflowVersion.objects.get(pk=version_id)
    return plan(Definition.from_json(version.definition)), version.number


def _no_plan(version_id: UUID) -> tuple[Plan, int]:
    """Return a plan without nodes, for ending an execution whose version cannot be planned any more."""
    number = WorkflowVersion.objects.values_list("number", flat=True).get(pk=version_id)
    return Plan(Definition((), ()), (), (), False, ()), number


_EXECUTION = store.Query(
    Execution, "workflow_id", "workflow__name", "workflow__settings", "version_id", "owner_id", "trigger", "depth",
    "input", "status", "phase_index", "cancel_requested", "queued_at", "parent_id", "parent_node", "scope", "item",
    "variables", "priority", "reserved",
)  # fmt: skip

_VARIABLES = store.Query(Execution, "variables")


def load(execution_id: UUID, *, planned: bool = True) -> Context | None:
    """Return what the database knows about an execution, or None if there is none. One query.

    For the turn of a loop also one query per loop around it.

    Raises:
        WorkflowError: ``planned`` is asked for and its version cannot be planned, say for a node type that is gone.
    """
    began = time.perf_counter()
    row = _EXECUTION.get(execution_id)
    if row is None:
        return None
    known = time.perf_counter()
    the_plan, number = plan_of(row[3], row[14]) if planned else _no_plan(row[3])
    planning_s = time.perf_counter() - known
    context = Context(
        id=execution_id, workflow_id=row[0], workflow_name=row[1], settings=row[2] if isinstance(row[2], dict) else {}, version_id=row[3], version_number=number,
        owner_id=row[4], trigger=row[5], depth=row[6], payload=json.loads(row[7]), plan=the_plan, status=row[8],
        phase_index=row[9], cancel_requested=row[10], queued_us=int(row[11].timestamp() * 1_000_000),
        priority=row[17], reserved=row[18], planning_s=planning_s,
    )  # fmt: skip
    if row[12] is not None:
        context.parent = (row[12], row[13])
    if row[16]:
        context.set_by_nodes = msgspec.json.decode(row[16])
    if row[14] and planned:
        _look_around(context, row[15])
    context.knows_failures = context.phase_index < 0
    if the_plan.credentials:  # all of them, so that no output of any node shows one
        context.open({reference for reference, _ in the_plan.credentials})
    if the_plan.uses_browser and (context.phase_index >= 0 or context.session_owner is not None):
        load_session(context)
    context.setup_s = time.perf_counter() - began - planning_s
    return context


def _look_around(context: Context, item: str) -> None:
    """Find the loops around a turn, the payload of the whole workflow, and whose page it works on."""
    around: list[Around] = []
    the_plan, scope, turn = context.plan, context.plan.scope, item
    parent = context.parent
    owns_page = the_plan.launches_browser or not the_plan.uses_browser
    while scope is not None and parent is not None:
        execution_id = parent[0]
        values = msgspec.json.decode(turn)
        around.append(Around(scope, execution_id, values))
        context.results[scope] = NodeResult(states.COMPLETED, values)
        row: tuple[Any, ...] = Execution.objects.values_list(
            "parent_id", "parent_node", "item", "input", "variables"
        ).get(pk=execution_id)
        if row[4]:
            context.set_by_nodes = {**msgspec.json.decode(row[4]), **context.set_by_nodes}
        scope = the_plan.nodes[scope].scope
        if not owns_page:
            surroundings = plan_of(context.version_id)[0] if scope is None else the_plan.body(scope)
            context.session_owner, owns_page = execution_id, surroundings.launches_browser
        parent, turn = (None if row[0] is None else (row[0], row[1])), row[2]
        if scope is None:
            context.payload = json.loads(row[3])
    context.around = tuple(around)


def load_variables(context: Context) -> None:
    """Note the variables that nodes have set meanwhile in other processes. One query."""
    row = _VARIABLES.get(context.id)
    if row is not None and row[0]:
        context.set_by_nodes |= msgspec.json.decode(row[0])


def load_session(context: Context) -> None:
    """Note which process holds the page. A lost page has no queue: any process may find that it is gone."""
    session = BrowserSession.objects.filter(execution_id=context.page_of).values_list("boot", "queue", "status").first()
    if session is not None:
        boot, queue, status = session
        context.session_boot, context.session_queue = boot, "" if status == BrowserSession.LOST else queue


def load_results(context: Context, indexes: Iterable[int]) -> None:
    """Load how the nodes ``indexes`` ended, with outputs, unless they are known already.

    One query, and one more per loop around whose nodes are asked for.
    """
    missing: dict[UUID, list[int]] = {}
    for index in indexes:
        if index not in context.results:
            missing.setdefault(_home(context, index), []).append(index)
    for execution_id, wanted in missing.items():
        for index, status, text, blob, error, code in store.results_of(execution_id, wanted):
            outputs = msgspec.json.decode(read_blob(blob) if blob else text) if status == states.COMPLETED else None
            note_result(context, index, status, outputs, error, code)


def _home(context: Context, index: int) -> UUID:
    """Return the execution in which a node of the plan runs: this one, or one around it."""
    scope, home = context.plan.scope, context.id
    for around in context.around:
        if context.plan.nodes[index].scope == scope:
            return home
        scope, home = context.plan.nodes[around.loop].scope, around.execution_id
    return home


def load_failures(context: Context, before: int) -> None:
    """Load the failed nodes of earlier phases, which decide the final status."""
    context.knows_failures = True
    for index, error, code in store.failures_of(context.id, before):
        note_result(context, index, states.FAILED, None, error, code)


def note_result(
    context: Context, index: int, status: str, outputs: dict[str, Any] | None, error: str = "", code: str = ""
) -> None:
    policy = context.plan.nodes[index].node.policy.on_error
    if status == states.FAILED and policy == "output":
        outputs = {ERROR: EXECUTE, ERROR_MESSAGE: error}
    context.results[index] = NodeResult(status, outputs, status == states.FAILED and policy != "fail")
    if status == states.FAILED and context.plan.nodes[index].scope == context.plan.scope:
        context.errors[index] = (error, code)
