"""Who may see and who may change what belongs to somebody: the one rule behind every list, page, route and socket.

People see and change what is their own. The permission ``see_everything`` adds the sight of everything, and
``change_everything`` on top of it the right to change it. Superusers have both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth import get_user_model

SEE_EVERYTHING = "workflows.see_everything"
CHANGE_EVERYTHING = "workflows.change_everything"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""HTTP methods that change nothing."""


def sees_everything(user: Any) -> bool:
    """Return whether ``user`` may see what belongs to others; two queries at the first question about a user."""
    return bool(user.has_perm(SEE_EVERYTHING))


def changes_everything(user: Any) -> bool:
    """Return whether ``user`` may change what belongs to others: nobody changes what they may not see."""
    return bool(user.has_perm(CHANGE_EVERYTHING) and user.has_perm(SEE_EVERYTHING))


def who_sees_everything(people: Collection[Any]) -> set[Any]:
    """Return which of these users, named by their keys, may see what belongs to others; one query."""
    users = get_user_model().objects.with_perm(SEE_EVERYTHING)
    return set(users.filter(pk__in=people).values_list("pk", flat=True))


def verb_of(method: str | None) -> str:
    """Return what a request of this HTTP method is about to do to a thing: ``"see"`` or ``"change"``."""
    return "see" if method in SAFE else "change"


def reaches_everything(user: Any, verb: str) -> bool:
    """Return whether ``user`` may ``"see"`` or ``"change"`` what belongs to others."""
    return sees_everything(user) if verb == "see" else changes_everything(user)


def can(user: Any, verb: str, thing: Any, owner_path: str = "owner") -> bool:
    """Return whether ``user`` may ``"see"`` or ``"change"`` ``thing``, whose owner stands at ``owner_path``."""
    if not user.is_active:
        return False
    return owner_id(thing, owner_path) == user.pk or reaches_everything(user, verb)


def owner_id(thing: Any, owner_path: str = "owner") -> Any:
    """Return the key of the user to whom ``thing`` belongs, or None when it belongs to nobody."""
    *steps, last = owner_path.split("__")
    for name in steps:
        thing = getattr(thing, name, None)
    direct = getattr(thing, f"{last}_id", None)
    return direct if direct is not None else getattr(thing, last, None)
