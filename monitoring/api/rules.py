"""Rules of alerts: listed, stored, silenced."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status
from ninja.errors import HttpError

from monitoring.alerts import inbox, rules, trial
from monitoring.api.shapes import Kind, Severity
from monitoring.models import AlertChannel, AlertRule
from workflows.api.common import ERRORS, LARGEST, Name, PageFilters, Text, count_of, user_id

router = Router()

Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Channels = Annotated[list[UUID], Field(max_length=rules.MOST_CHANNELS)]
LONGEST_SILENCE_HOURS = inbox.LONGEST_SILENCE // timedelta(hours=1)


class RuleOut(Schema):
    """A rule. ``threshold`` is in the ``unit`` of its kind; ``firing`` says how many of its alerts go on."""

    id: UUID
    name: str
    kind: Kind
    workflow_id: UUID | None
    everyone: bool
    subject: str
    threshold: float
    unit: str
    minimum_runs: int
    window_s: int
    for_s: int
    severity: Severity
    channel_ids: list[UUID]
    enabled: bool
    silenced_until: datetime | None
    firing: int
    created_at: datetime

    @staticmethod
    def resolve_unit(rule: AlertRule) -> str:
        """Return what the threshold counts."""
        return rules.KINDS[rule.kind].unit

    @staticmethod
    def resolve_channel_ids(rule: AlertRule) -> list[UUID]:
        """Return the channels that it tells."""
        return [channel.pk for channel in rule.channels.all()]


class RulePage(Schema):
    """One page of rules, by name."""

    items: list[RuleOut]
    count: int


class NewRule(Schema):
    """A rule to make. Without ``workflow_id`` it is about all of yours, or with ``everyone`` about everybody's.

    The unit of ``threshold`` is that of the kind: percent of failures or of a resource, messages, credits, seconds of
    lag, letters, workers. ``subject`` is one queue or resource, where the kind watches several.
    """

    name: Name
    kind: Kind
    threshold: Number
    workflow_id: UUID | None = None
    everyone: bool = False
    subject: Annotated[Text, Field(max_length=100)] = ""
    minimum_runs: Whole = 3
    window_s: Whole = 900
    for_s: Whole = 0
    severity: Severity = "warning"
    channel_ids: Channels = []
    enabled: bool = True


class RuleChange(Schema):
    """What to change; what is left out stays."""

    name: Name | None = None
    kind: Kind | None = None
    threshold: Number | None = None
    workflow_id: UUID | None = None
    everyone: bool | None = None
    subject: Annotated[Text, Field(max_length=100)] | None = None
    minimum_runs: Whole | None = None
    window_s: Whole | None = None
    for_s: Whole | None = None
    severity: Severity | None = None
    channel_ids: Channels | None = None
    enabled: bool | None = None


class Silence(Schema):
    """For how long nobody is told; ``hours`` of 0 lets people be told again."""

    hours: float = Field(ge=0, le=LONGEST_SILENCE_HOURS, allow_inf_nan=False)


class FiringOut(Schema):
    """A time for which a rule would have fired; ``ended_at`` is null where it still would. ``worst`` is the highest value."""

    key: str
    began_at: datetime
    ended_at: datetime | None
    worst: float
    message: str


class TrialOut(Schema):
    """What a rule would have done: ``firings`` are the newest 100 of ``count``.

    ``highest`` is the highest value of all, null when nothing is known; there are numbers from ``known_since`` on.
    """

    since: datetime
    until: datetime
    threshold: float
    firings: list[FiringOut]
    count: int
    highest: float | None
    known_since: datetime | None


class Span(Schema):
    """How far to look back."""

    days: int = Field(trial.LONGEST_DAYS, ge=1, le=trial.LONGEST_DAYS)


class TrialFilters(Span):
    """How far to look back, and another threshold than that of the rule."""

    threshold: float | None = Field(None, gt=0, le=1e15, allow_inf_nan=False)


@router.get("/alert-rules", response={200: RulePage, **ERRORS})
def list_rules(request: HttpRequest, page: Query[PageFilters]) -> Any:
    """List your rules by name."""
    rows = _rules(request).order_by("name", "pk")
    return {"items": list(rows[page.offset : page.offset + page.limit]), "count": count_of(_visible(request))}


@router.post("/alert-rules", response={201: RuleOut, **ERRORS})
def create_rule(request: HttpRequest, body: NewRule) -> Any:
    """Make a rule of yours; what does not fit is said field by field."""
    rule = AlertRule(owner_id=user_id(request))
    _store(rule, body.model_dump())
    return Status(201, _rules(request).get(pk=rule.pk))


@router.post("/alert-rules/test", response={200: TrialOut, **ERRORS})
def test_new_rule(request: HttpRequest, body: NewRule, how: Query[Span]) -> Any:
    """Say what a rule that is not stored would have done in the last days; its name may be that of another one."""
    rule = AlertRule(owner_id=user_id(request))
    rules.refuse_unfit(rule, _filled(rule, body.model_dump()) or ())
    return _tried(rule, how.days)


@router.get("/alert-rules/{rule_id}", response={200: RuleOut, **ERRORS})
def get_rule(request: HttpRequest, rule_id: UUID) -> Any:
    """Return one rule."""
    return get_object_or_404(_rules(request), pk=rule_id)


@router.put("/alert-rules/{rule_id}", response={200: RuleOut, **ERRORS})
def change_rule(request: HttpRequest, rule_id: UUID, body: RuleChange) -> Any:
    """Change a rule field by field; what it raised is resolved when it looks for something else now."""
    rule = get_object_or_404(_visible(request), pk=rule_id)
    given = body.model_dump(exclude_unset=True)
    _store(rule, {name: value for name, value in given.items() if value is not None or name == "workflow_id"})
    return _rules(request).get(pk=rule.pk)


@router.delete("/alert-rules/{rule_id}", response={204: None, **ERRORS})
def delete_rule(request: HttpRequest, rule_id: UUID) -> Any:
    """Delete a rule; what it raised is resolved and stays in the list of alerts."""
    rules.delete(get_object_or_404(_visible(request), pk=rule_id))
    return Status(204, None)


@router.post("/alert-rules/{rule_id}/silence", response={200: RuleOut, **ERRORS})
def silence_rule(request: HttpRequest, rule_id: UUID, body: Silence) -> Any:
    """Let nobody be told of a rule for some hours, or with 0 let them be told again."""
    rule = get_object_or_404(_rules(request), pk=rule_id)
    if body.hours:
        inbox.silence(rule, timedelta(hours=body.hours))
    else:
        inbox.end_silence(rule)
    return rule


@router.get("/alert-rules/{rule_id}/test", response={200: TrialOut, **ERRORS})
def test_rule(request: HttpRequest, rule_id: UUID, how: Query[TrialFilters]) -> Any:
    """Say what a rule would have done in the last days, also with another threshold; nothing is changed or sent."""
    rule = get_object_or_404(_visible(request), pk=rule_id)
    rule.threshold = how.threshold or rule.threshold
    return _tried(rule, how.days)


def _tried(rule: AlertRule, days: int) -> dict[str, Any]:
    return {**asdict(trial.rule_test(rule, days)), "threshold": rule.threshold}


def _visible(request: HttpRequest) -> Any:
    return AlertRule.objects.visible_to(request.user).select_related("owner", "workflow")


def _rules(request: HttpRequest) -> Any:
    return _visible(request).annotate(firing=inbox.firing_of_rule()).prefetch_related("channels")


def _store(rule: AlertRule, fields: dict[str, Any]) -> None:
    channels = _filled(rule, fields)
    rules.save(rule, channels, edited=fields)


def _filled(rule: AlertRule, fields: dict[str, Any]) -> list[AlertChannel] | None:
    """Set the fields of ``rule`` and return the channels that it is to tell, None when those are not among ``fields``."""
    wanted = fields.pop("channel_ids", None)
    for name, value in fields.items():
        setattr(rule, name, value)
    channels = None if wanted is None else list(AlertChannel.objects.filter(owner=rule.owner, pk__in=wanted))
    if channels is not None and len(channels) < len(set(wanted)):
        raise HttpError(422, "channel_ids: must be those of channels of the owner of the rule")
    return channels
