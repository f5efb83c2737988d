"""Channels of alerts: where people are told. Addresses of hooks and secrets are written, never read."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status

from monitoring.alerts import channels, tryout
from monitoring.models import AlertChannel
from workflows.api.common import ERRORS, Name, PageFilters, Text, count_of

router = Router()

Kind = Literal["email", "webhook", "slack"]
Address = Annotated[Text, Field(max_length=channels.LONGEST_ADDRESS)]
Secret = Annotated[Text, Field(max_length=channels.LONGEST_SECRET)]


class ChannelOut(Schema):
    """A channel. Of the address of a webhook only the beginning is shown, for the rest may be a secret."""

    id: UUID
    name: str
    kind: Kind
    address: str
    enabled: bool
    created_at: datetime


class ChannelPage(Schema):
    """One page of channels, by name."""

    items: list[ChannelOut]
    count: int


class NewChannel(Schema):
    """A channel to make. With a ``secret`` what is sent to a webhook is signed."""

    name: Name
    kind: Kind
    address: Address
    secret: Secret = ""
    enabled: bool = True


class ChannelChange(Schema):
    """What to change; what is left out stays. An empty ``secret`` takes it away."""

    name: Name | None = None
    kind: Kind | None = None
    address: Address | None = None
    secret: Secret | None = None
    enabled: bool | None = None


class TestOut(Schema):
    """What became of a test message; ``error`` says why it was not taken."""

    taken: bool
    error: str


@router.get("/alert-channels", response={200: ChannelPage, **ERRORS})
def list_channels(request: HttpRequest, page: Query[PageFilters]) -> Any:
    """List your channels by name."""
    rows = _channels(request).order_by("name", "pk")
    return {"items": list(rows[page.offset : page.offset + page.limit]), "count": count_of(rows)}


@router.post("/alert-channels", response={201: ChannelOut, **ERRORS})
def create_channel(request: HttpRequest, body: NewChannel) -> Any:
    """Make a channel of yours."""
    made = channels.save(request.user, body.name, body.kind, body.address, body.secret, enabled=body.enabled)
    return Status(201, made)


@router.get("/alert-channels/{channel_id}", response={200: ChannelOut, **ERRORS})
def get_channel(request: HttpRequest, channel_id: UUID) -> Any:
    """Return one channel."""
    return get_object_or_404(_channels(request), pk=channel_id)


@router.put("/alert-channels/{channel_id}", response={200: ChannelOut, **ERRORS})
def change_channel(request: HttpRequest, channel_id: UUID, body: ChannelChange) -> Any:
    """Change a channel field by field; another kind needs its address."""
    row = get_object_or_404(_channels(request), pk=channel_id)
    enabled = row.enabled if body.enabled is None else body.enabled
    return channels.save(
        row.owner, body.name or row.name, body.kind or row.kind, body.address, body.secret, enabled=enabled, channel=row
    )


@router.delete("/alert-channels/{channel_id}", response={204: None, **ERRORS})
def delete_channel(request: HttpRequest, channel_id: UUID) -> Any:
    """Delete a channel; rules that name it tell the others that they name."""
    channels.delete(get_object_or_404(_channels(request), pk=channel_id))
    return Status(204, None)


@router.post("/alert-channels/{channel_id}/test", response={200: TestOut, **ERRORS})
def test_channel(request: HttpRequest, channel_id: UUID) -> Any:
    """Send a test message and say what became of it, within about 20 seconds; five a minute are allowed."""
    error = tryout.send(get_object_or_404(_channels(request), pk=channel_id))
    return {"taken": not error, "error": error}


def _channels(request: HttpRequest) -> Any:
    return AlertChannel.objects.visible_to(request.user).select_related("owner")
