"""How much users may do: the limits of the installation, and what plans make of them.

A plan of the user's own wins over the plans of their groups. A field that a plan leaves empty is the installation's
limit; among several plans of one rank the most generous value counts. None means that there is no limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model

from workflows.errors import TransitionError
from workflows.models import Plan, Workflow
from workflows.validation import Limits

KNOWN_SECONDS = 1.0
"""How long a process goes by the plans that it has read; a change counts everywhere after this."""


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What one user may do, in the words of ``Plan``."""

    nodes: int
    active_workflows: int | None
    concurrent_executions: int | None
    browser_slots: int | None
    minimum_interval_s: int
    maximum_duration_s: int | None
    recordings_kept: int | None
    credits: int | None

    @property
    def holds_starts(self) -> bool:
        """Return whether a start may have to wait for others of the same user."""
        return self.concurrent_executions is not None or self.browser_slots is not None


_FIELDS = tuple(field.name for field in fields(UserLimits))


def installation() -> UserLimits:
    """Return the limits of users without a plan: those of the settings."""
    return UserLimits(
        nodes=settings.MAX_NODES,
        active_workflows=settings.USER_WORKFLOWS,
        concurrent_executions=settings.USER_EXECUTIONS,
        browser_slots=settings.USER_BROWSERS,
        minimum_interval_s=settings.MINIMUM_INTERVAL_SECONDS,
        maximum_duration_s=settings.MAX_DURATION_SECONDS,
        recordings_kept=settings.USER_RECORDINGS,
        credits=settings.MAX_CREDITS or None,
    )


def limits_of(user_id: Any) -> UserLimits:
    """Return what a user may do, by the plans as they are now; None is a user without one. Two queries at most."""
    return installation() if user_id is None else _apply(_plans_of(user_id))


def known_limits(user_id: Any) -> UserLimits:
    """Return what a user may do, by the plans as they were at most a second ago.

    A query a second and process while there are no plans; one for each user and second when there are.
    """
    return _apply(_known.of(user_id))


def limits(owner_id: Any = None) -> Limits:
    """Return how large the workflows of ``owner_id`` may be; without an owner, those of a user without a plan."""
    own = limits_of(owner_id)
    return Limits(
        nodes=own.nodes,
        edges=settings.MAX_EDGES,
        definition_bytes=settings.MAX_DEFINITION_BYTES,
        depth=settings.MAX_DEPTH,
        payload_bytes=settings.MAX_PAYLOAD_BYTES,
        browser_sessions=settings.MAX_BROWSER_SESSIONS,
        timeout_s=settings.EXECUTION_DEADLINE_SECONDS,
        credits=own.credits or 0,
        minimum_interval_seconds=own.minimum_interval_s,
        switches=frozenset({"FLOWBUILDER_CODE_NODES"} if settings.CODE_NODES else ()),
    )


def check_active(workflow: Workflow) -> None:
    """Refuse that ``workflow`` becomes active when its owner has as many as they may. Holds the owner's row.

    Call it in the transaction that makes it active, so that two at once see each other.

    Raises:
        TransitionError: the limit is reached; the numbers are in the message.
    """
    most = limits_of(workflow.owner_id).active_workflows
    if most is None:
        return
    owner = get_user_model()._default_manager.select_for_update(no_key=True).get(pk=workflow.owner_id)
    count = Workflow.objects.filter(owner=owner, status=Workflow.Status.ACTIVE).count()
    if count >= most:
        raise TransitionError(
            f'workflow "{workflow.name}" cannot be active: {owner} has {count} active workflow{"" if count == 1 else "s"},'
            f" and the limit is {most}; pause or archive another one, or ask an administrator for a larger plan"
        )


def recordings_kept() -> dict[int, int]:
    """Return how many recordings are kept of the users for whom that is limited. Four queries."""
    plans = {plan.pk: plan for plan in Plan.objects.all()}
    own, of_groups = (_holders(plans, key) for key in ("users", "groups__user"))
    users = get_user_model()._default_manager.order_by("pk").values_list("pk", flat=True)
    found = {key: _apply(own.get(key) or of_groups.get(key) or ()).recordings_kept for key in users.iterator()}
    return {key: most for key, most in found.items() if most is not None}


def _holders(plans: Mapping[int, Plan], path: str) -> dict[Any, list[Plan]]:
    """Return the plans of each user whom ``path`` leads to."""
    found: dict[Any, list[Plan]] = {}
    for plan, user in Plan.objects.filter(**{f"{path}__isnull": False}).values_list("pk", path).distinct():
        if plan in plans:
            found.setdefault(user, []).append(plans[plan])
    return found


# --------------------------------------------------------------------------- plans


def _plans_of(user_id: Any) -> Sequence[Plan]:
    return list(Plan.objects.filter(users=user_id)) or list(Plan.objects.filter(groups__user=user_id).distinct())


def _apply(plans: Sequence[Plan]) -> UserLimits:
    base = installation()
    if not plans:
        return base
    return UserLimits(**{name: _most_generous(name, plans, getattr(base, name)) for name in _FIELDS})


def _most_generous(name: str, plans: Sequence[Plan], base: int | None) -> Any:
    values = [base if getattr(plan, name) is None else getattr(plan, name) for plan in plans]
    if None in values:
        return None
    generous: Callable[[list[Any]], Any] = min if name == "minimum_interval_s" else max
    return generous(values)


class _Known:
    """The plans as this process has read them, for the paths that every start takes."""

    def __init__(self) -> None:
        self._until = 0.0
        self._any = False
        self._plans: dict[Any, Sequence[Plan]] = {}

    def of(self, user_id: Any) -> Sequence[Plan]:
        """Return the plans of a user."""
        now = time.monotonic()
        if now >= self._until:
            self._any, self._plans, self._until = Plan.objects.exists(), {}, now + KNOWN_SECONDS
        plans = self._plans  # another thread may begin anew at any moment
        if not self._any:
            return ()
        if user_id not in plans:
            plans[user_id] = _plans_of(user_id)
        return plans[user_id]

    def forget(self, **kwargs: object) -> None:
        """Read them anew at the next use (a receiver of signals)."""
        self._until = 0.0


_known = _Known()
forget = _known.forget
