"""API tokens: what a program shows instead of a login.

A token is ``fb_<prefix>_<secret>``. It is shown once, when it is made; stored are the prefix, by which people
recognize it, and a SHA-256 of the whole, which is enough for 256 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from workflows import audit
from workflows.errors import TokenError
from workflows.models import ApiToken

EVERYTHING: Final = "*"
SCOPES: Final[dict[str, str]] = {
    "workflows:read": "see workflows, versions, schedules and node types",
    "workflows:write": "create, change, activate and delete workflows",
    "executions:read": "see executions and their logs",
    "executions:run": "start, pause, resume and cancel executions, decide approvals",
    "recordings:read": "see and download recordings",
    "recordings:write": "tag recordings",
    "credentials:read": "see the names of credentials",
    "credentials:write": "create, replace and delete credentials",
    "alerts:read": "see alerts, their rules and the names of channels",
    "alerts:write": "acknowledge alerts, silence them, change rules and channels",
    "account:read": "see who the token acts for, its limits and credits, and the names of tokens",
    "account:write": "create and revoke tokens",
    EVERYTHING: "all of these",
}
"""What a token may be allowed to do. Whatever lets it write or run lets it read the same things."""
MOST_TOKENS: Final = 100
"""Tokens that work at the same time, per user."""
LONGEST: Final = timedelta(days=3653)
"""How far away the end of a token may be; one may also have none."""
USED_EVERY: Final = timedelta(minutes=1)
"""``last_used_at`` is this exact, so that a busy program does not cost a write per request."""

_TEXT = re.compile(r"fb_([a-z0-9]{10})_([A-Za-z0-9_-]{43})", re.ASCII)
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_NO_DIGEST = "0" * 64


def create(
    owner: Any, name: str, scopes: Iterable[str] = (EVERYTHING,), expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """Make a token of ``owner`` and return its row and its text, which nobody can find out later.

    Raises:
        TokenError: no name, an unknown scope or none, an end that has passed, or too many tokens.
    """
    name, wanted = name.strip(), sorted(set(scopes))
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(10))
    text = f"fb_{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        # Holds the owner's row, so that two at once see each other's token.
        get_user_model()._default_manager.select_for_update(no_key=True).get(pk=owner.pk)
        check(owner, name, wanted, expires_at)
        token = ApiToken.objects.create(
            owner=owner, name=name, prefix=prefix, digest=_digest(text), scopes=wanted, expires_at=expires_at
        )
        audit.note("create", "token", token, scopes=wanted, prefix=prefix)
    return token, text


def check(owner: Any, name: str, scopes: Iterable[str], expires_at: datetime | None) -> None:
    """Refuse a token that cannot be made.

    Raises:
        TokenError: as ``create``.
    """
    if not name.strip() or len(name) > 200:
        raise TokenError("a token needs a name of at most 200 characters")
    wanted, known = list(scopes), ", ".join(SCOPES)
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown:
        raise TokenError(f'there is no scope "{unknown[0]}"; a token may have: {known}')
    if not wanted:
        raise TokenError(f"name a scope: {known}")
    now = timezone.now()
    if expires_at is not None and not now < expires_at < now + LONGEST:
        raise TokenError(f"the end of the token must be after now and within {LONGEST.days:,} days")
    if working(owner).count() >= MOST_TOKENS:
        raise TokenError(f"{owner} has {MOST_TOKENS} tokens that work; revoke one first")


def find(text: str) -> ApiToken | None:
    """Return the token that ``text`` is, with its owner, and note that it was used; one query.

    None when it is not a token, was revoked, has expired, or its owner may not log in. All of these take alike.
    """
    found = _TEXT.fullmatch(text)
    row: ApiToken | None = ApiToken.objects.select_related("owner").filter(prefix=found[1]).first() if found else None
    same = hmac.compare_digest(row.digest if row else _NO_DIGEST, _digest(text))
    now = timezone.now()
    if row is None or not same or not is_working(row, now):
        return None
    if row.last_used_at is None or now - row.last_used_at > USED_EVERY:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USED_EVERY)
        ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=now)
    return row


def is_working(token: ApiToken, now: datetime | None = None) -> bool:
    """Return whether the token is neither revoked nor expired, and its owner may log in."""
    expired = token.expires_at is not None and token.expires_at <= (now or timezone.now())
    return token.revoked_at is None and not expired and bool(token.owner.is_active)


def working(owner: Any) -> Any:
    """Return the tokens of ``owner`` that are neither revoked nor expired."""
    rows = ApiToken.objects.filter(owner=owner, revoked_at=None)
    return rows.filter(Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


def revoke(token: ApiToken) -> bool:
    """End the token now; return whether it was not revoked before."""
    with transaction.atomic():
        now = timezone.now()
        if not ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            return False
        token.revoked_at = now
        audit.note("revoke", "token", token, prefix=token.prefix)
    return True


def allows(token: ApiToken, scope: str) -> bool:
    """Return whether the token may do what ``scope`` stands for."""
    granted = set(token.scopes)
    if EVERYTHING in granted or scope in granted:
        return True
    thing, _, verb = scope.partition(":")
    return verb == "read" and bool(granted & {f"{thing}:write", f"{thing}:run"})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
