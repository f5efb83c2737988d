"""Webhooks: addresses by which other systems start workflows, and the signatures that they have to bring.

A sender signs ``timestamp.body`` with HMAC-SHA256 and the secret of the webhook:

    X-Flow-Signature: t=1732240000,v1=<64 hex digits>

The secret is shown once. After a rotation the one before stays good for a while, so that nothing is lost meanwhile.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from workflows import audit
from workflows.credentials import seal, unseal, webhook_holder
from workflows.errors import CredentialError, WebhookError
from workflows.models import NAME_CHARACTERS, Webhook, Workflow
from workflows.strict import name_problem

SIGNATURE_HEADER: Final = "X-Flow-Signature"
DELIVERY_HEADER: Final = "X-Flow-Delivery"
TOLERANCE_SECONDS: Final = 300
"""How far the timestamp of a request may be from our clock, either way."""
MOST_WEBHOOKS: Final = 20
"""Per workflow."""
GRACE_HOURS: Final = 24
"""How long the secret before a rotation stays good, unless the rotation says otherwise."""
LONGEST_GRACE_HOURS: Final = 7 * 24

_SIGNATURE = re.compile(r"t=([0-9]{1,11}(?:\.[0-9]{1,9})?),v1=([0-9a-f]{64})", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature is right. ``nonce`` is the signature, ``timestamp`` as its sender wrote it."""

    nonce: str
    timestamp: str
    body_hash: str


# ---------------------------------------------------------------------- keeping


def create(workflow: Workflow, name: str, methods: Iterable[str] = ("POST",)) -> tuple[Webhook, str]:
    """Make a webhook of ``workflow`` and return its row and its secret, which is not shown again.

    Raises:
        WebhookError: the name is taken or none, a method is not possible, or the workflow has too many.
    """
    webhook = Webhook(id=uuid4(), workflow=workflow, token=secrets.token_urlsafe(32))
    _describe(webhook, name, methods)
    secret = _new_secret()
    webhook.data = _sealed(webhook, {"secret": secret})
    with transaction.atomic():
        Workflow.objects.select_for_update().filter(pk=workflow.pk).first()
        if workflow.webhooks.count() >= MOST_WEBHOOKS:
            raise WebhookError(f'workflow "{workflow.name}" has {MOST_WEBHOOKS} webhooks; delete one first')
        _save(webhook, force_insert=True)
        _note("create", webhook, methods=webhook.methods)
    return webhook, secret


def change(
    webhook: Webhook, *, name: str | None = None, methods: Iterable[str] | None = None, enabled: bool | None = None
) -> None:
    """Give ``webhook`` another name, other methods, or switch it on or off; noted if anything differs.

    Raises:
        WebhookError: as ``create``.
    """
    with transaction.atomic():
        stored = Webhook.objects.select_for_update(of=("self",)).select_related("workflow").get(pk=webhook.pk)
        before = _described(stored)
        _describe(
            stored, stored.name if name is None else name, stored.methods if methods is None else methods
        )  # fmt: skip
        stored.enabled = stored.enabled if enabled is None else enabled
        after = _described(stored)
        changed = {key: value for key, value in after.items() if before[key] != value}
        if changed:
            _save(stored, update_fields=tuple(after))
            only_switched = changed.keys() == {"enabled"}
            verb = ("enable" if stored.enabled else "disable") if only_switched else "change"
            _note(verb, stored, **({} if only_switched else changed))
    for key, value in after.items():
        setattr(webhook, key, value)


def rotate(webhook: Webhook, grace_hours: int = GRACE_HOURS) -> str:
    """Give ``webhook`` a new secret and return it; the present one stays good for ``grace_hours``, 0 ends it now.

    Of an earlier rotation nothing stays good. After ``hand_over`` the one that ends goes on until then, whatever the grace.

    Raises:
        WebhookError: the grace is not from 0 to ``LONGEST_GRACE_HOURS``.
        CredentialError: no key opens the present secret, which is to stay good; with a grace of 0 it is replaced.
    """
    if not 0 <= grace_hours <= LONGEST_GRACE_HOURS:
        raise WebhookError(f"the grace is from 0 to {LONGEST_GRACE_HOURS} hours, not {grace_hours}")
    with transaction.atomic():
        stored = Webhook.objects.select_for_update(of=("self",)).select_related("workflow").get(pk=webhook.pk)
        secret = _new_secret()
        fields = {"secret": secret}
        until = timezone.now() + timedelta(hours=grace_hours) if grace_hours else None
        if until is not None:
            present = _opened(stored)
            fields["old"] = present.get("secret") or present["old"]
            until = until if "secret" in present else min(until, stored.old_until or until)
        stored.data, stored.old_until = _sealed(stored, fields), until
        stored.save(update_fields=("data", "old_until"))
        _note("rotate", stored, grace_hours=grace_hours)
    webhook.data, webhook.old_until = stored.data, until
    return secret


def hand_over(workflow: Workflow) -> None:
    """End the secrets that the former owner of ``workflow`` knows, in ``GRACE_HOURS``: starts are at the new one's cost.

    Until the new owner rotates a webhook it has no other secret. What is ending already ends no later.
    """
    until = timezone.now() + timedelta(hours=GRACE_HOURS)
    for webhook in Webhook.objects.select_for_update(of=("self",)).filter(workflow=workflow).select_related("workflow"):
        try:
            present = _opened(webhook)
        except CredentialError:
            continue  # it opens for nobody
        handed = "secret" not in present
        ends = min(until, webhook.old_until or until) if handed else until
        webhook.data, webhook.old_until = _sealed(webhook, {"old": present["old" if handed else "secret"]}), ends
        webhook.save(update_fields=("data", "old_until"))
        _note("end secret", webhook, grace_hours=GRACE_HOURS)


def delete(webhook: Webhook) -> None:
    """Delete ``webhook``; its address answers like one that never was."""
    with transaction.atomic():
        _note("delete", webhook)
        Webhook.objects.filter(pk=webhook.pk).delete()


def check(workflow: Workflow, name: str, methods: Iterable[str], but: Webhook | None = None) -> None:
    """Refuse a webhook that cannot be made, or (``but``) cannot be changed so.

    Raises:
        WebhookError: as ``create``.
    """
    _describe(Webhook(), name, methods)
    others = workflow.webhooks.exclude(pk=but.pk) if but else workflow.webhooks
    if others.filter(name=name.strip()).exists():
        raise _taken(workflow, name.strip())


def _describe(webhook: Webhook, name: str, methods: Iterable[str]) -> None:
    name, wanted = name.strip(), [method.upper() for method in methods]
    if not name or len(name) > NAME_CHARACTERS or not name.isprintable() or name_problem(name):
        raise WebhookError(f"a webhook needs a name of at most {NAME_CHARACTERS} characters on one line")
    unknown = [method for method in wanted if method not in Webhook.METHODS]
    if unknown or not wanted:
        known = ", ".join(Webhook.METHODS)
        raise WebhookError(f'a webhook takes {known}, not "{unknown[0]}"' if unknown else f"name a method: {known}")
    webhook.name, webhook.methods = name, [method for method in Webhook.METHODS if method in wanted]


def _described(webhook: Webhook) -> dict[str, Any]:
    return {"name": webhook.name, "methods": list(webhook.methods), "enabled": webhook.enabled}


def _save(webhook: Webhook, **how: Any) -> None:
    try:
        with transaction.atomic():
            webhook.save(**how)
    except IntegrityError:
        raise _taken(webhook.workflow, webhook.name) from None


def _taken(workflow: Workflow, name: str) -> WebhookError:
    return WebhookError(f'workflow "{workflow.name}" has a webhook "{name}" already; choose another name')


def _note(verb: str, webhook: Webhook, **detail: Any) -> None:
    workflow = webhook.workflow
    audit.note(
        verb, "webhook", webhook, owner=workflow.owner_id, workflow=str(workflow.pk), workflow_name=workflow.name,
        **detail,
    )  # fmt: skip


# ---------------------------------------------------------------------- showing


def url_of(webhook: Webhook, *, test: bool = False) -> str:
    """Return the address of ``webhook``, or the one by which it starts the newest version."""
    return f"{settings.PUBLIC_URL}/hooks/{webhook.token}{'/test' if test else ''}"


def example(webhook: Webhook, secret: str | None = None) -> str:
    """Return a shell script that sends a signed request to ``webhook``; run again, it starts nothing twice."""
    method = "" if webhook.methods[:1] == ["POST"] else f"-X {webhook.methods[0]} "
    return "\n".join(
        (
            f"SECRET='{secret or 'the secret'}'",
            "BODY='{\"order\": 4711}'",
            "DELIVERY='order-4711'",
            "T=$(date +%s)",
            """V1=$(printf '%s.%s' "$T" "$BODY" | openssl dgst -sha256 -hmac "$SECRET" -r | cut -d' ' -f1)""",
            f'curl -sS {method}-H "Content-Type: application/json" -H "{SIGNATURE_HEADER}: t=$T,v1=$V1" \\',
            f'    -H "{DELIVERY_HEADER}: $DELIVERY" --data-binary "$BODY" {url_of(webhook)}',
        )
    )


def public(webhook: Webhook) -> dict[str, Any]:
    """Return what owners and their programs may see of a webhook: everything but its secret."""
    grace = webhook.old_until is not None and webhook.old_until > timezone.now()
    return {
        "id": str(webhook.pk), "workflow_id": str(webhook.workflow_id), "name": webhook.name,
        "url": url_of(webhook), "test_url": url_of(webhook, test=True), "methods": list(webhook.methods),
        "enabled": webhook.enabled, "created_at": webhook.created_at, "last_received_at": webhook.last_received_at,
        "accepted": webhook.accepted, "refused": webhook.refused,
        "old_secret_until": webhook.old_until if grace else None,
    }  # fmt: skip


# ---------------------------------------------------------------------- requests


def find(token: str) -> Webhook | None:
    """Return the webhook with this address, with its workflow; None when there is none or it is switched off.

    One query in both cases, which finds nothing in both.
    """
    if not _TOKEN.fullmatch(token):
        return None
    rows = Webhook.objects.select_related("workflow__owner", "workflow__version", "workflow__draft")
    rows = rows.defer("workflow__version__definition", "workflow__draft__definition")
    found: Webhook | None = rows.filter(token=token, enabled=True).first()
    return found


def verify(webhook: Webhook, header: str, body: bytes, now: float | None = None) -> Signed | None:
    """Return what was signed when ``header`` signs ``body`` with a secret that is good now; None for anything else.

    Raises:
        WebhookError: the signature is right, but older or newer than ``TOLERANCE_SECONDS``.
        CredentialError: no key opens the secret.
    """
    opened = _opened(webhook)
    in_grace = webhook.old_until is not None and webhook.old_until > timezone.now()
    keys = [opened[name] for name in ("secret", *(("old",) if in_grace else ())) if name in opened]
    found = _SIGNATURE.fullmatch(header)
    timestamp, given = (found[1], found[2]) if found else ("0", "0" * 64)
    right = [hmac.compare_digest(sign(key, timestamp, body), given) for key in keys]
    if not any(right) or found is None:
        return None
    if abs((time.time() if now is None else now) - float(timestamp)) > TOLERANCE_SECONDS:
        raise WebhookError(
            f"the timestamp is more than {TOLERANCE_SECONDS // 60} minutes away from our clock; sign the request anew"
        )
    return Signed(given, timestamp, hashlib.sha256(body).hexdigest())


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a request, as ``v1`` of its header: 64 hex digits."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _new_secret() -> str:
    return f"whsec_{secrets.token_urlsafe(32)}"


def _sealed(webhook: Webhook, fields: dict[str, str]) -> bytes:
    return seal(webhook_holder(webhook.pk), fields)


def _opened(webhook: Webhook) -> dict[str, str]:
    return unseal(bytes(webhook.data), webhook_holder(webhook.pk), f'the secret of webhook "{webhook.name}"')
