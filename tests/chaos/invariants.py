"""INV: what must hold after every fault, as functions over the database, the effect ledger and /proc.

Each returns findings; none means that the invariant holds. They read only what is stored, so they can judge any
run: the chaos harness, a numbered fault test, an installation after an incident.

What is promised about effects: at least once on the wire; once at a receiver that honours the Idempotency-Key.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from django.db.models import QuerySet

from executions import leases, states
from executions.models import BrowserSession, Execution, NodeRun, Phase, WorkerLease
from recordings.blobs import read_blob
from recordings.finding import replayer_of
from recordings.models import Event, Recording
from recordings.packing import seal
from recordings.replayer import ExecutionReplayer
from recordings.rows import open_sealed
from recordings.state import ERRORS, NODES
from tests.chaos.sink import REFUSED, Ledger
from workflows.models import CreditEntry

WRITE_TYPES = ("deliver_to_webhook",)
ENDS = {"node_complete": states.COMPLETED, "node_error": states.FAILED, "node_skipped": ""}
LAST = ("workflow_complete", "workflow_error")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be: the number of the invariant, the execution (or other id), and what is wrong."""

    invariant: int
    id: str
    what: str

    def __str__(self) -> str:
        return f"INV{self.invariant} {self.id}: {self.what}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A trigger that was accepted: by an idempotency key, or by a workflow's schedule at an instant."""

    key: str = ""
    workflow_id: UUID | None = None
    instant: datetime | None = None
    execution_id: UUID | None = None


def check_all(
    ledger: Ledger | None = None, accepted: Iterable[Accepted] = (), executions: QuerySet[Execution] | None = None
) -> list[Finding]:
    """Return the findings of every invariant that needs no more than the database and the ledger (1-5, 7, 8)."""
    scope = Execution.objects.all() if executions is None else executions
    return [
        *one_execution_per_trigger(accepted),
        *nothing_open(scope),
        *(one_effect_per_write(ledger, scope) if ledger is not None else ()),
        *histories_move_forward(scope),
        *recordings_tell_the_same(scope),
        *nothing_held_by_the_dead(scope),
        *credits_charged_once(scope),
    ]


# --------------------------------------------------------------------------- 1 triggers


def one_execution_per_trigger(accepted: Iterable[Accepted]) -> Iterator[Finding]:
    """INV1: every accepted trigger has exactly one execution, and it is the one that the caller was told."""
    for trigger in accepted:
        stored = Execution.objects.filter(parent=None)
        if trigger.key:
            name, rows = trigger.key, stored.filter(idempotency_key=trigger.key)
        else:
            name = f"{trigger.workflow_id} at {trigger.instant}"
            rows = stored.filter(workflow_id=trigger.workflow_id, scheduled_for=trigger.instant)
        found = list(rows.values_list("pk", flat=True))
        if len(found) != 1:
            yield Finding(1, name, f"the trigger was accepted and has {len(found)} executions")
        elif trigger.execution_id not in (None, found[0]):
            yield Finding(1, name, f"its caller was told {trigger.execution_id}, stored is {found[0]}")


# --------------------------------------------------------------------------- 2 quiescence


def nothing_open(executions: QuerySet[Execution]) -> Iterator[Finding]:
    """INV2: no execution is still open. Call it once everything had its time to come to rest."""
    for execution in executions.exclude(status__in=states.TERMINAL):
        runs = Counter(execution.node_runs.exclude(status__in=states.TERMINAL).values_list("status", flat=True))
        last = Event.objects.filter(execution_id=execution.pk).order_by("-seq").values_list("type", flat=True).first()
        yield Finding(
            2, str(execution.pk),
            f"is still {execution.status} (cancel requested: {execution.cancel_requested}) in phase"
            f" {execution.phase_index}; open node runs {dict(runs)}; last event {last}",
        )  # fmt: skip


# --------------------------------------------------------------------------- 3 effects


def one_effect_per_write(ledger: Ledger, executions: QuerySet[Execution]) -> Iterator[Finding]:
    """INV3: one accepted effect per completed write, none of a node that never ran, and no repeat that differs.

    A write that failed or was cancelled may have had its effect: its worker may have died between the answer and
    the commit.
    """
    arrivals = ledger.by_key()
    accepted = ledger.accepted()
    known: set[str] = set()
    runs = NodeRun.objects.filter(execution__in=executions, node_type__in=WRITE_TYPES)
    started = _started(executions)
    for execution_id, node_id, iteration, status, error_code in runs.values_list(
        "execution_id", "node_id", "iteration", "status", "error_code"
    ):
        key = f"{execution_id}:{node_id}:{iteration}"
        known.add(key)
        came = arrivals.get(key, [])
        if status == states.COMPLETED and accepted[key] != 1:
            yield Finding(3, key, f"completed with {accepted[key]} accepted effects ({len(came)} arrivals)")
        if accepted[key] > 1:
            yield Finding(3, key, f"was accepted {accepted[key]} times")
        if came and (execution_id, node_id) not in started:
            yield Finding(3, key, f"had an effect and never started; it is {status} {error_code}")
        if accepted[key] and status not in (states.COMPLETED, states.FAILED, states.CANCELLED):
            yield Finding(3, key, f"had an effect and is {status}")
        if len({arrival.body for arrival in came}) > 1:
            yield Finding(3, key, f"repeats differ: {sorted({arrival.body for arrival in came})}")
    everything = executions.model is Execution and not executions.query.where
    for key in arrivals.keys() - known if everything else ():
        yield Finding(3, key, "an effect that belongs to no node run")


def unexplained_repeats(ledger: Ledger, executions: QuerySet[Execution]) -> int:
    """Return how many accepted or repeated arrivals no started attempt accounts for. At least once allows them."""
    starts: Counter[str] = Counter()
    rows = Event.objects.filter(execution_id__in=executions.values("pk"), type="node_start")
    for execution_id, node_id in rows.values_list("execution_id", "node_id"):
        starts[f"{execution_id}:{node_id}:0"] += 1
    return sum(max(0, len(came) - starts[key]) for key, came in ledger.by_key().items())


def _started(executions: QuerySet[Execution]) -> set[tuple[UUID, str]]:
    rows = Event.objects.filter(execution_id__in=executions.values("pk"), type="node_start")
    return set(rows.values_list("execution_id", "node_id"))


# --------------------------------------------------------------------------- 4 history


def histories_move_forward(executions: QuerySet[Execution]) -> Iterator[Finding]:
    """INV4: no event says that something moved backwards or on from its end, and the rows say the same as the events."""
    for execution in executions.prefetch_related("node_runs", "phases").iterator(chunk_size=200):
        events = list(
            Event.objects.filter(execution_id=execution.pk)
            .order_by("seq")
            .values_list("seq", "type", "node_id", "data")
        )
        if not events and Recording.objects.filter(execution_id=execution.pk, events_removed_at__isnull=False).exists():
            continue  # sealed and removed; INV5 reads the sealed file
        runs = list(execution.node_runs.all())
        phases = sorted(execution.phases.all(), key=attrgetter("index"))
        for what in (
            *_frame(execution, events),
            *_node_histories(runs, events),
            *_phase_histories(phases, events),
            *_snapshots(execution, phases, runs, events),
            *_rows(execution, phases, runs),
        ):
            yield Finding(4, str(execution.pk), what)


_Row = tuple[int, str, str, str]


def _frame(execution: Execution, events: Sequence[_Row]) -> Iterator[str]:
    """One start, one end, nothing after it, numbers without a gap."""
    numbers = [seq for seq, *_ in events]
    if numbers != list(range(1, execution.seq + 1)):
        missing = sorted(set(range(1, execution.seq + 1)) - set(numbers))
        yield f"its events are not numbered 1..{execution.seq}: {len(numbers)} events, missing {missing[:5]}"
    kinds = [kind for _, kind, *_ in events]
    if kinds.count("workflow_start") > 1:
        yield "started twice"
    work = [kind for kind in kinds if kind == "workflow_start" or kind.startswith(("node_", "phase_"))]
    if work and work[0] != "workflow_start":
        yield f"{work[0]} before its start"
    ends = [kind for kind in kinds if kind in LAST]
    if execution.is_terminal and (len(ends) != 1 or kinds[-1] not in LAST):
        yield f"has ended with {len(ends)} end events; its last event is {kinds[-1] if kinds else None}"
    if not execution.is_terminal and ends:
        yield f"is {execution.status} and has an end event"
    if ends and events[-1][1] in LAST:
        said = msgspec.json.decode(events[-1][3]).get("status")
        if said != execution.status:
            yield f"is {execution.status}; its last event says {said}"


def _node_histories(runs: Sequence[NodeRun], events: Sequence[_Row]) -> Iterator[str]:
    by_node: dict[str, list[tuple[int, str, dict[str, Any]]]] = defaultdict(list)
    for seq, kind, node_id, data in events:
        if node_id and kind.startswith(("node_", "recovered")):
            by_node[node_id].append((seq, kind, msgspec.json.decode(data)))
    rows = {run.node_id: run for run in runs}
    for node_id in by_node.keys() - rows.keys():
        yield f"node {node_id} has events and no row"
    for node_id, run in rows.items():
        yield from _node_history(run, by_node.get(node_id, []))


def _node_history(run: NodeRun, history: Sequence[tuple[int, str, dict[str, Any]]]) -> Iterator[str]:
    ended = False
    starts = 0
    for seq, kind, data in history:
        if ended:
            yield f"node {run.node_id}: {kind} (seq {seq}) after its end"
        if kind == "node_start":
            starts += 1
        elif kind in ("node_complete", "node_retry") and not starts and not data.get("kept"):
            yield f"node {run.node_id}: {kind} (seq {seq}) before its start"
        if kind in ENDS:
            ended = True
            said = ENDS[kind] or data.get("status") or states.SKIPPED
            if said != run.status:
                yield f"node {run.node_id} is {run.status}; its event (seq {seq}) says {said}"
    if run.status in states.TERMINAL and not ended:
        yield f"node {run.node_id} is {run.status} and has no end event"


def _phase_histories(phases: Sequence[Phase], events: Sequence[_Row]) -> Iterator[str]:
    started: list[int] = []
    closed: list[int] = []
    for seq, kind, _, data in events:
        if kind == "phase_start":
            started.append(msgspec.json.decode(data)["phase"])
        elif kind == "phase_complete":
            phase = msgspec.json.decode(data)["phase"]
            closed.append(phase)
            if phase not in started:
                yield f"phase {phase} is closed (seq {seq}) before it was opened"
    if started != sorted(set(started)):
        yield f"phases were opened in the order {started}"
    if closed != sorted(set(closed)):
        yield f"phases were closed in the order {closed}"
    if started != [phase.index for phase in phases]:
        yield f"phases {[phase.index for phase in phases]} are stored; events opened {started}"


def _snapshots(
    execution: Execution, phases: Sequence[Phase], runs: Sequence[NodeRun], events: Sequence[_Row]
) -> Iterator[str]:
    """Every phase that an execution has left has one snapshot, which names the nodes that ended in it."""
    taken = [msgspec.json.decode(data) for _, kind, _, data in events if kind == "state_snapshot"]
    left = [phase.index for phase in phases if execution.is_terminal or phase.index < execution.phase_index]
    if [snapshot["phase"] for snapshot in taken] != left:
        yield f"has left the phases {left}; there are snapshots of {[snapshot['phase'] for snapshot in taken]}"
    for snapshot in taken:
        ended = {
            run.node_id
            for run in runs
            if run.phase_index == snapshot["phase"] and run.status in (states.COMPLETED, states.FAILED)
        }
        if set(snapshot["nodes"]) != ended:
            yield f"the snapshot of phase {snapshot['phase']} names {snapshot['nodes']}; {sorted(ended)} ended in it"


def _rows(execution: Execution, phases: Sequence[Phase], runs: Sequence[NodeRun]) -> Iterator[str]:
    """Phases count their nodes, the execution's status fits its nodes."""
    by_phase: dict[int, list[NodeRun]] = defaultdict(list)
    for run in runs:
        by_phase[run.phase_index].append(run)
    for phase in phases:
        unfinished = sum(run.status not in states.TERMINAL for run in by_phase[phase.index])
        if phase.open != unfinished:
            yield f"phase {phase.index} counts {phase.open} open nodes and has {unfinished}"
        if len(by_phase[phase.index]) != phase.node_count:
            yield f"phase {phase.index} has {len(by_phase[phase.index])} of {phase.node_count} node runs"
        if execution.is_terminal and phase.status == states.RUNNING:
            yield f"has ended; its phase {phase.index} is still running"
    if not execution.is_terminal:
        return
    still = [run.node_id for run in runs if run.status not in states.TERMINAL]
    if still:
        yield f"has ended; its nodes {still} have not"
    kinds = Counter(run.status for run in runs)
    if execution.status in (states.COMPLETED, states.COMPLETED_WITH_ERRORS):
        loops = any(run.node_type.startswith("loop_") for run in runs)  # their bodies run in child executions
        if kinds[states.CANCELLED] or (len(runs) != execution.node_count and not loops):
            yield f"is {execution.status} with {len(runs)} of {execution.node_count} node runs, {dict(kinds)}"
        if execution.cancel_requested:
            yield f"is {execution.status} though its cancellation had been accepted"
    if execution.status == states.FAILED and not (execution.error and execution.error_code):
        yield "failed without saying why"


# --------------------------------------------------------------------------- 5 recordings


def recordings_tell_the_same(executions: QuerySet[Execution], *, sealed: bool = False) -> Iterator[Finding]:
    """INV5: every ended execution has one recording; it opens, has no gap, and its last state is what the rows say.

    With ``sealed`` each is sealed first, and the sealed file is read and its checksums compared.
    """
    ended = executions.filter(status__in=states.TERMINAL).prefetch_related("node_runs")
    for execution in ended.iterator(chunk_size=200):
        for what in _recording(execution, sealed):
            yield Finding(5, str(execution.pk), what)


def _recording(execution: Execution, sealed: bool) -> Iterator[str]:
    recording = Recording.objects.filter(execution_id=execution.pk).first()
    if recording is None:
        yield "has ended and has no recording"
        return
    try:
        if sealed:
            seal(recording)
            recording.refresh_from_db()
            with open_sealed(recording) as file:
                file.verify().check()
        replayer = replayer_of(recording)
        events = list(replayer.events)
        final = replayer.get_state_at_position(len(events) - 1) if events else {}
    except Exception as error:
        yield f"its recording does not open: {error!r}"
        return
    yield from _replayed(execution, recording, replayer, final)


def _replayed(
    execution: Execution, recording: Recording, replayer: ExecutionReplayer, final: Mapping[str, Any]
) -> Iterator[str]:
    numbers = [event.seq for event in replayer.events]
    if numbers != list(range(1, execution.seq + 1)):
        yield f"its recording has events {numbers[:1]}..{numbers[-1:]} ({len(numbers)}), the execution {execution.seq}"
    if recording.event_count != execution.seq or recording.status != execution.status:
        yield (
            f"its recording says {recording.status} with {recording.event_count} events,"
            f" the execution {execution.status} with {execution.seq}"
        )
    outputs: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for run in execution.node_runs.all():
        if run.status == states.COMPLETED and not (run.outputs or run.outputs_blob):
            yield f"its node {run.node_id} completed without outputs"
        elif run.status == states.COMPLETED:
            outputs[run.node_id] = msgspec.json.decode(read_blob(run.outputs_blob) if run.outputs_blob else run.outputs)
        elif run.status == states.FAILED:
            errors[run.node_id] = run.error
    if final.get(NODES, {}) != outputs:
        yield f"its recording ends with outputs of {sorted(final.get(NODES, {}))}, the rows have {sorted(outputs)}"
    if final.get(ERRORS, {}) != errors:
        yield f"its recording ends with errors {final.get(ERRORS, {})}, the rows have {errors}"


# --------------------------------------------------------------------------- 6 processes


def nothing_left_behind(data_dir: Path, ours: Iterable[int] = ()) -> Iterator[Finding]:
    """INV6: no process of this installation runs any more, and no browser profile is left.

    ``ours`` are processes that may live on.
    """
    for pid, command in processes_of(data_dir).items():
        if pid not in {os.getpid(), *ours}:
            yield Finding(6, str(pid), f"still runs: {command[:200]}")
    for profile in sorted((data_dir / "browsers").glob("*")):
        yield Finding(6, profile.name, "a browser profile was left behind")


def processes_of(data_dir: Path) -> dict[int, str]:
    """Return the command lines of the living processes of the installation in ``data_dir``, by pid.

    Those are whatever names the directory on its command line, and workers, beats, commands and Playwright's drivers
    that have it in their environment. Database and broker servers do not count.
    """
    needle = os.fsencode(str(data_dir))
    words = (b"celery", b"manage.py", b"uvicorn", b"run-driver")
    found: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            ours = any(word in command for word in words) and needle in (entry / "environ").read_bytes()
            if needle in command or ours:
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


# --------------------------------------------------------------------------- 7 leases


def nothing_held_by_the_dead(executions: QuerySet[Execution]) -> Iterator[Finding]:
    """INV7: whoever holds a node run or a browser page is alive, and no lease of a dead worker is listed."""
    dead: dict[str, bool] = {}

    def gone(boot: str) -> bool:
        return dead.setdefault(boot, not boot or leases.is_dead(boot))

    held = NodeRun.objects.filter(execution__in=executions).exclude(claim="").exclude(status__in=states.TERMINAL)
    for run in held:
        if gone(run.worker):
            yield Finding(7, str(run.execution_id), f"node {run.node_id} is {run.status} and held by a dead worker")
    live = BrowserSession.objects.filter(execution__in=executions, status__in=("opening", "live"))
    for session in live:
        if gone(session.boot):
            yield Finding(7, str(session.execution_id), f"its browser page is {session.status} in a dead worker")
    for lease in WorkerLease.objects.exclude(queues="beat"):
        if gone(lease.boot):
            yield Finding(7, f"{lease.hostname}:{lease.pid}", "the lease of a dead worker is still listed")


# --------------------------------------------------------------------------- 8 credits


def credits_charged_once(executions: QuerySet[Execution]) -> Iterator[Finding]:
    """INV8: node runs, their events, the execution and its recording agree on the credits."""
    ended = executions.filter(status__in=states.TERMINAL)
    recorded = dict(
        Recording.objects.filter(execution_id__in=ended.values("pk")).values_list("execution_id", "credits")
    )
    charged: Counter[UUID] = Counter()
    for execution_id, credits in NodeRun.objects.filter(execution__in=ended).values_list("execution_id", "credits"):
        charged[execution_id] += credits
    for execution_id, credits in ended.values_list("pk", "credits"):
        if not credits == charged[execution_id] == recorded.get(execution_id, credits):
            yield Finding(
                8, str(execution_id),
                f"its node runs cost {charged[execution_id]}, it says {credits}, its recording {recorded.get(execution_id)}",
            )  # fmt: skip
    yield from _settled_once(ended)


def _settled_once(ended: QuerySet[Execution]) -> Iterator[Finding]:
    """INV8: what was reserved for a metered execution was charged and given back, each in one entry."""
    found: defaultdict[UUID, list[tuple[str, int]]] = defaultdict(list)
    metered = ended.filter(reserved__isnull=False)
    entries = CreditEntry.objects.filter(execution_id__in=metered.values("pk"))
    for execution_id, kind, amount in entries.order_by("kind").values_list("execution_id", "kind", "amount"):
        found[execution_id].append((kind, amount))
    for execution_id, reserved, credits in metered.values_list("pk", "reserved", "credits"):
        expected = [("charge", credits), ("refund", (reserved or 0) - credits), ("reserve", reserved)]
        if found[execution_id] != [(kind, amount) for kind, amount in expected if amount]:
            yield Finding(8, str(execution_id), f"{reserved} reserved, {credits} spent, entries {found[execution_id]}")


def refused(ledger: Ledger) -> int:
    """Return how many arrivals the sink refused."""
    return sum(arrival.result == REFUSED for arrival in ledger.arrivals())
