"""Webhooks of a workflow: addresses by which other systems start it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Router, Schema, Status

from workflows import webhooks
from workflows.api.common import ERRORS, Name, visible
from workflows.models import Webhook

router = Router(tags=["webhooks"])

Method = Literal["POST", "PUT", "PATCH"]
Methods = Annotated[list[Method], Field(min_length=1, max_length=3)]


class WebhookOut(Schema):
    """A webhook without its secret. ``test_url`` starts the newest version instead of the active one.

    ``accepted`` and ``refused`` count requests; ``old_secret_until`` is set while the secret before is good, too.
    """

    id: UUID
    workflow_id: UUID
    name: str
    url: str
    test_url: str
    methods: list[str]
    enabled: bool
    created_at: datetime
    last_received_at: datetime | None
    accepted: int
    refused: int
    old_secret_until: datetime | None


class WebhookMade(WebhookOut):
    """A webhook with a new secret, which is shown here only."""

    secret: str


class NewWebhook(Schema):
    """A webhook to make."""

    name: Name
    methods: Methods = ["POST"]


class WebhookEdit(Schema):
    """What to change; what is left out stays."""

    name: Name | None = None
    methods: Methods | None = None
    enabled: bool | None = None


class Rotation(Schema):
    """How long the present secret stays good; 0 ends it now."""

    grace_hours: int = Field(webhooks.GRACE_HOURS, ge=0, le=webhooks.LONGEST_GRACE_HOURS)


@router.get("/workflows/{workflow_id}/webhooks", response={200: list[WebhookOut], **ERRORS})
def list_webhooks(request: HttpRequest, workflow_id: UUID) -> Any:
    """List the webhooks of a workflow, by name."""
    return [webhooks.public(one) for one in visible(request, workflow_id).webhooks.all()]


@router.post("/workflows/{workflow_id}/webhooks", response={201: WebhookMade, **ERRORS})
def create_webhook(request: HttpRequest, workflow_id: UUID, body: NewWebhook) -> Any:
    """Make a webhook. Its secret is in this answer and nowhere else."""
    webhook, secret = webhooks.create(visible(request, workflow_id), body.name, body.methods)
    return Status(201, {**webhooks.public(webhook), "secret": secret})


@router.put("/workflows/{workflow_id}/webhooks/{webhook_id}", response={200: WebhookOut, **ERRORS})
def change_webhook(request: HttpRequest, workflow_id: UUID, webhook_id: UUID, body: WebhookEdit) -> Any:
    """Rename a webhook, change its methods, or switch it on or off."""
    webhook = _find(request, workflow_id, webhook_id)
    webhooks.change(webhook, name=body.name, methods=body.methods, enabled=body.enabled)
    return webhooks.public(webhook)


@router.delete("/workflows/{workflow_id}/webhooks/{webhook_id}", response={204: None, **ERRORS})
def delete_webhook(request: HttpRequest, workflow_id: UUID, webhook_id: UUID) -> Any:
    """Delete a webhook."""
    webhooks.delete(_find(request, workflow_id, webhook_id))
    return Status(204, None)


@router.post("/workflows/{workflow_id}/webhooks/{webhook_id}/rotate", response={200: WebhookMade, **ERRORS})
def rotate_webhook(request: HttpRequest, workflow_id: UUID, webhook_id: UUID, body: Rotation | None = None) -> Any:
    """Give a webhook a new secret, which is in this answer only; the present one stays good for a while."""
    webhook = _find(request, workflow_id, webhook_id)
    secret = webhooks.rotate(webhook, body.grace_hours if body else webhooks.GRACE_HOURS)
    return {**webhooks.public(webhook), "secret": secret}


def _find(request: HttpRequest, workflow_id: UUID, webhook_id: UUID) -> Webhook:
    workflow = visible(request, workflow_id)
    rows = Webhook.objects.select_related("workflow")
    webhook: Webhook = get_object_or_404(rows, pk=webhook_id, workflow=workflow)
    return webhook
