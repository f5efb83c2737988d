"""Storing rules: what each kind measures, in which unit, and who may have one."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from django.db import IntegrityError, transaction

from monitoring.alerts.errors import AlertRefused
from monitoring.models import AlertChannel, AlertRule
from workflows import access, audit
from workflows.kinds import Problem
from workflows.models import NAME_CHARACTERS, Workflow

Kind = AlertRule.Kind
MOST_RULES: Final = 100
"""Per user."""
MOST_CHANNELS: Final = 10
"""Per rule."""
WINDOWS_S: Final = (60, 7 * 86_400)
"""Least and most."""
LONGEST_FOR_S: Final = 86_400
RESOURCES: Final = ("slots", "browsers", "disk", "memory", "redis")
"""What can be exhausted: places for nodes, browser pages, disk and memory of the fullest machine, and Redis."""
EDITED: Final = (
    "name", "kind", "workflow", "everyone", "subject", "threshold", "minimum_runs", "window_s", "for_s", "severity", "enabled",
)  # fmt: skip
"""The fields that people edit; the others are written by beat and by silences."""
_SUBJECT = re.compile(r"[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True, slots=True)
class Description:
    """A kind of rule: what ``threshold`` counts and whether it is the whole installation that is measured.

    ``counts`` says that what happened within the window is counted; other kinds look at what is now.
    """

    label: str
    unit: str
    help: str
    most: float = 1e15
    installation: bool = False
    counts: bool = False
    subjects: tuple[str, ...] | None = None
    """What ``subject`` may be; None for a kind without, empty for any name."""

    def unit_of(self, value: float) -> str:
        """Return the unit as it is written after ``value``: 1 message, 2 messages, 1 s."""
        return self.unit.removesuffix("s") or self.unit if value == 1 else self.unit


KINDS: Final[dict[str, Description]] = {
    Kind.FAILURE_RATE: Description(
        "Failure rate", "%", "Runs that failed, of all that ended in the time that it looks back and that nobody cancelled.", 100, counts=True
    ),
    Kind.QUEUE_BACKLOG: Description(
        "Queue backlog", "messages", "Messages that wait in a queue.", installation=True, subjects=()
    ),
    Kind.RESOURCES: Description(
        "Resource exhaustion", "%", "How much is in use of the slots of workers, of browser pages, of disk and memory of the fullest machine, and of what Redis may take.", 100,
        installation=True, subjects=RESOURCES,
    ),
    Kind.COST: Description("Cost", "credits", "What the executions cost that ended in the time that it looks back.", counts=True),
    Kind.SCHEDULE_LAG: Description(
        "Schedule lag", "s", "How much later than planned a scheduled run began, or is waiting to begin.", counts=True
    ),
    Kind.DEAD_LETTERS: Description("Dead letters", "letters", "Dead letters that nobody has handled."),
    Kind.WORKER_LOST: Description(
        "Worker lost", "workers", "Worker processes that died in the time that it looks back, or give no sign of life.",
        installation=True, counts=True,
    ),
}  # fmt: skip


def save(
    rule: AlertRule, channels: Collection[AlertChannel] | None = None, *, edited: Collection[str] = EDITED
) -> AlertRule:
    """Store ``rule``, new or changed, and the channels that it tells (None leaves them); noted in the audit log.

    Of a changed one only the ``edited`` fields are written: beat and other people write to the same row. ``rule`` then
    has what they wrote to the others.

    Raises:
        AlertRefused: something does not fit, is not its owner's, or there are too many, or the rule is gone.
    """
    new = rule._state.adding
    rule.name = rule.name.strip()
    try:
        with transaction.atomic():
            if not new:
                _take_over(rule, edited)
            _refuse_unfit(rule, channels or ())
            rule.save(update_fields=None if new else edited)
            if channels is not None:
                rule.channels.set(channels)
            audit.note(
                "create" if new else "change", "alert rule", rule, condition=rule.condition, enabled=rule.enabled
            )
    except IntegrityError:
        raise AlertRefused(_title(rule), [Problem("name", "is that of another rule")]) from None
    return rule


def _take_over(rule: AlertRule, edited: Collection[str]) -> None:
    """Hold the row of ``rule``, and give ``rule`` what is stored of the fields that were not edited."""
    stored = AlertRule.objects.select_for_update(no_key=True).filter(pk=rule.pk).first()
    if stored is None:
        raise AlertRefused(_title(rule), [Problem("", "was deleted meanwhile")])
    for field in AlertRule._meta.concrete_fields:
        if field.name in EDITED and field.name not in edited and field.attname not in edited:
            setattr(rule, field.attname, getattr(stored, field.attname))


def _refuse_unfit(rule: AlertRule, channels: Collection[AlertChannel]) -> None:
    found = problems(rule, channels)
    if rule._state.adding and AlertRule.objects.filter(owner=rule.owner).count() >= MOST_RULES:
        found.append(Problem("", f"is one too many: the limit is {MOST_RULES}; delete one first"))
    _refuse(rule, found)


def refuse_unfit(rule: AlertRule, channels: Collection[AlertChannel]) -> None:
    """See that ``rule`` and the channels that it tells could be stored, but for its name and how many there are.

    Raises:
        AlertRefused: something does not fit, or is not its owner's.
    """
    rule.name = rule.name.strip()
    _refuse(rule, problems(rule, channels))


def _refuse(rule: AlertRule, found: Sequence[Problem]) -> None:
    if found:
        raise AlertRefused(_title(rule), found)


def _title(rule: AlertRule) -> str:
    return f'rule "{rule.name[:NAME_CHARACTERS]}"'


def delete(rule: AlertRule) -> None:
    """Delete ``rule``; what it raised is resolved within seconds. Noted in the audit log."""
    with transaction.atomic():
        audit.note("delete", "alert rule", rule)
        rule.delete()


def problems(rule: AlertRule, channels: Sequence[AlertChannel] | Collection[AlertChannel] = ()) -> list[Problem]:
    """Return everything that is wrong with ``rule``; empty when it can be stored. Up to three queries."""
    found = []
    if not rule.name or len(rule.name) > NAME_CHARACTERS or not rule.name.isprintable():
        found.append(Problem("name", f"is a text of 1 to {NAME_CHARACTERS} characters on one line"))
    kind = KINDS.get(rule.kind)
    if kind is None:
        return [*found, Problem("kind", f"must be one of {', '.join(Kind.values)}")]
    found += [*_number_problems(rule, kind), *_subject_problems(rule, kind), *_reach_problems(rule, kind)]
    if rule.severity not in AlertRule.Severity.values:
        found.append(Problem("severity", f"must be one of {', '.join(AlertRule.Severity.values)}"))
    if len(channels) > MOST_CHANNELS:
        found.append(Problem("channels", f"are {len(channels)}; {MOST_CHANNELS} are allowed"))
    if any(channel.owner_id != rule.owner_id for channel in channels):
        found.append(Problem("channels", "must be those of the owner of the rule"))
    return found


def may_watch(rule: AlertRule) -> bool:
    """Return whether the owner of ``rule`` may see what it is about, now."""
    if not rule.owner.is_active:
        return False
    needs_all = KINDS[rule.kind].installation or rule.everyone
    foreign = rule.workflow is not None and rule.workflow.owner_id != rule.owner_id
    return not (needs_all or foreign) or access.sees_everything(rule.owner)


def _number_problems(rule: AlertRule, kind: Description) -> list[Problem]:
    found = []
    if not math.isfinite(rule.threshold) or not 0 < rule.threshold <= kind.most:
        most = f" to {kind.most:g}" if kind.most <= 100 else ""
        found.append(Problem("threshold", f"is a number above 0{most}, in {kind.unit}"))
    least, longest = WINDOWS_S
    if not least <= rule.window_s <= longest or rule.window_s % 60:
        found.append(Problem("window_s", f"is whole minutes in seconds, {least} to {longest:,}"))
    if not 0 <= rule.for_s <= LONGEST_FOR_S:
        found.append(Problem("for_s", f"is 0 to {LONGEST_FOR_S:,} seconds"))
    if not 1 <= rule.minimum_runs <= 1_000_000:
        found.append(Problem("minimum_runs", "is 1 to 1,000,000"))
    return found


def _subject_problems(rule: AlertRule, kind: Description) -> list[Problem]:
    if not rule.subject:
        return []
    if kind.subjects is None:
        return [Problem("subject", f"is for queues and resources, not for {kind.label.lower()}")]
    if kind.subjects and rule.subject not in kind.subjects:
        return [Problem("subject", f"must be one of {', '.join(kind.subjects)}, or empty")]
    return [] if _SUBJECT.fullmatch(rule.subject) else [Problem("subject", "is the name of a queue, or empty")]


def _reach_problems(rule: AlertRule, kind: Description) -> list[Problem]:
    if kind.installation and (rule.workflow_id or rule.everyone):
        return [Problem("workflow", f"must be empty: {kind.label.lower()} is about the whole installation")]
    if rule.workflow_id and rule.everyone:
        return [Problem("everyone", "must be off in a rule of one workflow")]
    if (kind.installation or rule.everyone) and not access.sees_everything(rule.owner):
        return [Problem("kind" if kind.installation else "everyone", "needs the permission to see everything")]
    visible = Workflow.objects.visible_to(rule.owner).filter(pk=rule.workflow_id)
    if rule.workflow_id and not visible.exists():
        return [Problem("workflow", "is none that the owner of the rule may see")]
    return []
