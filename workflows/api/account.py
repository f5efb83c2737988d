"""HTTP door to one's own account: who am I, how much may I do, which tokens do I have."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status
from pydantic import AwareDatetime

from workflows import access, credits, tokens
from workflows.api.common import ERRORS, Name, Text
from workflows.limits import limits_of
from workflows.models import ApiToken

router = Router(tags=["account"])


class TokenOut(Schema):
    """A token without its text. ``prefix`` is what its text begins with, after ``fb_``."""

    id: UUID
    name: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewToken(Schema):
    """A token to make. A token cannot make one that may do more, or lives longer, than itself."""

    name: Name
    scopes: Annotated[list[Annotated[Text, Field(max_length=40)]], Field(min_length=1, max_length=20)]
    expires_at: AwareDatetime | None = None


class TokenMade(TokenOut):
    """A token that was just made. Its text is shown here only."""

    token: str


class CreditsOut(Schema):
    """Credits: ``available`` to start with, ``reserved`` for what runs, ``spent`` so far."""

    available: int
    reserved: int
    spent: int


class Me(Schema):
    """Whom a request acts for. ``credits`` is null for people who are not metered.

    ``token`` is the one that the request came with; ``rates`` is how often it may ask.
    """

    id: int
    username: str
    email: str
    is_staff: bool
    is_superuser: bool
    see_everything: bool
    change_everything: bool
    token: TokenOut | None
    limits: dict[str, Any]
    rates: dict[str, str]
    credits: CreditsOut | None


@router.get("/users/me", response={200: Me, **ERRORS})
def me(request: HttpRequest) -> Any:
    """Say whom the request acts for, what they may do and how much."""
    user: Any = request.user
    return {
        "id": user.pk,
        "username": user.get_username(),
        "email": user.email,
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
        "see_everything": access.sees_everything(user),
        "change_everything": access.changes_everything(user),
        "token": _token(request),
        "limits": asdict(limits_of(user.pk)),
        "rates": {"requests": settings.API_RATE, "starts": settings.START_RATE},
        "credits": credits.account(user),
    }


@router.get("/tokens", response={200: list[TokenOut], **ERRORS})
def list_tokens(request: HttpRequest) -> Any:
    """List your own tokens, newest first: the latest 1,000."""
    return list(ApiToken.objects.filter(owner=request.user.pk)[:1000])


@router.post("/tokens", response={201: TokenMade, **ERRORS})
def create_token(request: HttpRequest, body: NewToken) -> Any:
    """Make a token. Its text is in this answer and nowhere else."""
    maker = _token(request)
    expires_at = body.expires_at
    if maker is not None:
        too_much = [scope for scope in body.scopes if scope in tokens.SCOPES and not tokens.allows(maker, scope)]
        if too_much:
            return Status(403, {"detail": f'a token without "{too_much[0]}" cannot make one that has it'})
        if maker.expires_at is not None and (expires_at is None or expires_at > maker.expires_at):
            return Status(403, {"detail": f"a token cannot make one that lives longer: {maker.expires_at.isoformat()}"})
    token, text = tokens.create(request.user, body.name, body.scopes, expires_at)
    return Status(201, {**TokenOut.from_orm(token).dict(), "token": text})


@router.delete("/tokens/{token_id}", response={204: None, **ERRORS})
def revoke_token(request: HttpRequest, token_id: UUID) -> Any:
    """End a token now; may be called twice."""
    tokens.revoke(get_object_or_404(ApiToken.objects.changeable_by(request.user), pk=token_id))
    return Status(204, None)


def _token(request: Any) -> ApiToken | None:
    token: ApiToken | None = getattr(request, "token", None)
    return token
