"""The audit log: who did what to which thing, and by which door they came in.

A door says who is there once (``acting``); whatever changes something says what it did (``note``), in the
transaction of the change, so that the log holds exactly what happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from workflows.models import AuditEntry

Door = AuditEntry.Door


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and by which door. Without a user it is the product itself."""

    user: Any = None
    door: str = Door.SYSTEM
    via: str = ""
    """What stood for the user, for example the visible part of an API token."""


NOBODY = Actor()
_actor: ContextVar[Actor] = ContextVar("flowbuilder_actor", default=NOBODY)


@contextmanager
def acting(user: Any, door: str, via: str = "") -> Iterator[None]:
    """Let ``user`` be who does whatever is noted inside, by ``door``."""
    token = _actor.set(Actor(user if getattr(user, "is_authenticated", False) else None, door, via))
    try:
        yield
    finally:
        _actor.reset(token)


def note(verb: str, kind: str, thing: Any, *, owner: Any = None, name: str = "", **detail: Any) -> None:
    """Write that the present actor did ``verb`` to ``thing`` (a row or an id) of ``kind``; one INSERT.

    ``owner`` is whose thing it is, else ``thing.owner``; ``detail`` must be plain JSON and never holds a secret.
    """
    actor = _actor.get()
    AuditEntry.objects.create(
        actor=actor.user,
        actor_name=actor.user.get_username() if actor.user else "",
        door=actor.door,
        verb=verb,
        kind=kind,
        object_id=str(getattr(thing, "pk", thing)),
        object_name=(name or str(thing))[:200],
        owner_id=getattr(owner, "pk", owner) or getattr(thing, "owner_id", None),
        detail={**detail, **({"via": actor.via} if actor.via else {})},
    )
