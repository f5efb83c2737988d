"""Storing channels: what an address must look like, and keeping it where only the delivery reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email.headerregistry import Address
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from monitoring.alerts.errors import AlertRefused
from monitoring.models import AlertChannel
from workflows import audit
from workflows.credentials import seal, unseal
from workflows.kinds import Problem
from workflows.models import NAME_CHARACTERS

Kind = AlertChannel.Kind
MOST_CHANNELS: Final = 50
"""Per user."""
LONGEST_ADDRESS: Final = 2_000
LONGEST_MAIL_ADDRESS: Final = 254
LONGEST_SECRET: Final = 200


@dataclass(frozen=True, slots=True)
class Opened:
    """Where a channel leads. ``secret`` signs what is sent there, empty for nothing."""

    address: str = field(repr=False)
    secret: str = field(default="", repr=False)


def save(
    owner: Any, name: str, kind: str, address: str | None = None, secret: str | None = None, *,
    enabled: bool = True, channel: AlertChannel | None = None,
) -> AlertChannel:  # fmt: skip
    """Store a channel of ``owner``, or change ``channel``, and return its row; noted in the audit log.

    An ``address`` or ``secret`` of None stays as it is; an empty secret takes it away. A change of kind needs the
    address again.

    Raises:
        AlertRefused: the name is taken or none, the address does not fit the kind, or there are too many.
    """
    name = name.strip()
    row = channel or AlertChannel(id=uuid4(), owner=owner)
    before = opened(row) if channel is not None and (address is None or secret is None) else Opened("")
    kept = before.address if channel is not None and channel.kind == kind else ""
    wanted = Opened(kept if address is None else address.strip(), before.secret if secret is None else secret)
    if kind != Kind.WEBHOOK and secret is None:
        wanted = Opened(wanted.address)
    found = problems(name, kind, wanted)
    if channel is None and AlertChannel.objects.filter(owner=owner).count() >= MOST_CHANNELS:
        found.append(Problem("", f"is one too many: the limit is {MOST_CHANNELS}; delete one first"))
    if found:
        raise AlertRefused(f'channel "{name[:NAME_CHARACTERS]}"', found)
    row.name, row.kind, row.enabled = name, kind, enabled
    row.address = shown(kind, wanted.address)
    row.data = seal(holder(row.pk), {"address": wanted.address, "secret": wanted.secret})
    try:
        with transaction.atomic():
            row.save(force_insert=channel is None)
            audit.note(
                "change" if channel else "create", "alert channel", row,
                channel_kind=kind, address=row.address, enabled=enabled,
            )  # fmt: skip
    except IntegrityError:
        raise AlertRefused(f'channel "{name}"', [Problem("name", "is that of another channel")]) from None
    return row


def delete(channel: AlertChannel) -> None:
    """Delete ``channel``; rules that name it tell the others that they name. Noted in the audit log."""
    with transaction.atomic():
        audit.note("delete", "alert channel", channel)
        channel.delete()


def opened(channel: AlertChannel) -> Opened:
    """Return the whole address of ``channel`` and its secret.

    Raises:
        CredentialError: no key of ``FLOWBUILDER_CREDENTIAL_KEYS`` opens them.
    """
    fields = unseal(bytes(channel.data), holder(channel.pk), f'channel "{channel.name}"')
    return Opened(fields["address"], fields["secret"])


def holder(pk: UUID) -> str:
    """Return to whom the address and secret of a channel are bound: to itself."""
    return f"alert_channel:{pk}"


def problems(name: str, kind: str, wanted: Opened) -> list[Problem]:
    """Return everything that is wrong with a channel; empty when it can be stored. Never shows the address."""
    found = []
    if not name or len(name) > NAME_CHARACTERS or not name.isprintable():
        found.append(Problem("name", f"is a text of 1 to {NAME_CHARACTERS} characters on one line"))
    if kind not in Kind.values:
        return [*found, Problem("kind", f"must be one of {', '.join(Kind.values)}")]
    wrong = _mail_problem(wanted.address) if kind == Kind.EMAIL else _url_problem(wanted.address)
    if wrong:
        found.append(Problem("address", wrong))
    if wanted.secret and kind != Kind.WEBHOOK:
        found.append(Problem("secret", "is for webhooks only"))
    if len(wanted.secret) > LONGEST_SECRET or not wanted.secret.isprintable():
        found.append(Problem("secret", f"is a text of at most {LONGEST_SECRET} characters on one line"))
    return found


def shown(kind: str, address: str) -> str:
    """Return what people may see of an address: of a URL no more than where it leads, for its path may be a secret."""
    if kind == Kind.EMAIL:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}/…"


def _mail_problem(address: str) -> str:
    right = "is an address such as ann@example.com"
    if len(address) > LONGEST_MAIL_ADDRESS or not address.isascii() or re.search(r"[\s\x00-\x1f\x7f<>,;]", address):
        return right
    try:
        parsed = Address(addr_spec=address)
    except (ValueError, IndexError):
        return right
    return "" if parsed.username and parsed.domain else right


def _url_problem(address: str) -> str:
    right = "is an address such as https://example.com/hook"
    if not address.isascii() or re.search(r"[\s\x00-\x1f\x7f]", address):
        return right
    if len(address) > LONGEST_ADDRESS:
        return f"has {len(address):,} characters; {LONGEST_ADDRESS:,} are allowed"
    try:
        parts = urlsplit(address)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return right
    if not whole or len(parts.netloc) > NAME_CHARACTERS:
        return right
    return "must not hold a user or a password; sign it with a secret instead" if "@" in parts.netloc else ""
