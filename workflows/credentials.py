"""Stored secrets: encrypted at rest, bound to their owner, opened only here.

The ciphertext is a Fernet token of a JSON object that names the owner, so a row copied to another user
does not open. The first key of ``FLOWBUILDER_CREDENTIAL_KEYS`` encrypts; all of them decrypt.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from workflows.errors import CredentialError
from workflows.models import Credential

SIZE_LIMIT_BYTES = 64 * 1024
USED_EVERY = timedelta(minutes=1)
"""``last_used_at`` is this exact, so that a busy credential does not cost a write per node."""


def store(owner: Any, name: str, fields: Mapping[str, Any], kind: str = "password") -> Credential:
    """Encrypt ``fields`` under ``name`` of ``owner``, replacing what was there, and return the row.

    Raises:
        CredentialError: no name, no fields, a field that is not a text, or more than 64 KiB.
    """
    if not name.strip() or len(name) > 200:
        raise CredentialError("a credential needs a name of at most 200 characters")
    if not fields:
        raise CredentialError(f'credential "{name}" needs at least one field, such as "password"')
    for key, value in fields.items():
        if not isinstance(value, str):
            raise CredentialError(f'credential "{name}": the field "{key}" is not a text')
    data = _encrypt(owner.pk, fields)
    if len(data) > 2 * SIZE_LIMIT_BYTES:
        raise CredentialError(f'credential "{name}" is larger than {SIZE_LIMIT_BYTES:,} bytes')
    credential, _ = Credential.objects.update_or_create(
        owner=owner, name=name.strip(), defaults={"kind": kind, "data": data}
    )
    found: Credential = credential
    return found


def resolve(owner_id: Any, reference: str, field: str = "password") -> str:
    """Return one field of the credential that ``owner_id`` calls ``reference`` (id or name), in plain text.

    Raises:
        CredentialError: there is none, it has no such field, or no key opens it. A credential of somebody
            else looks like none.
    """
    credential = _find(owner_id, reference)
    fields = _decrypt(credential)
    if field not in fields:
        names = ", ".join(f'"{name}"' for name in sorted(fields))
        raise CredentialError(f'credential "{credential.name}" has no field "{field}"; it has {names}')
    now = timezone.now()
    if credential.last_used_at is None or now - credential.last_used_at > USED_EVERY:
        Credential.objects.filter(pk=credential.pk).update(last_used_at=now)
    return fields[field]


def available(owner_id: Any) -> set[str]:
    """Return everything by which ``owner_id`` may refer to their credentials: ids and names."""
    known: set[str] = set()
    for pk, name in Credential.objects.filter(owner_id=owner_id).values_list("pk", "name"):
        known.update((str(pk), name))
    return known


def rotate() -> int:
    """Encrypt every credential anew with the first key and return how many there were.

    Raises:
        CredentialError: no key opens one of them; then nothing is changed.
    """
    count = 0
    with transaction.atomic():
        for credential in Credential.objects.select_for_update().iterator(chunk_size=200):
            fields = _decrypt(credential)
            data = _encrypt(credential.owner_id, fields)
            Credential.objects.filter(pk=credential.pk).update(data=data)
            count += 1
    return count


def _find(owner_id: Any, reference: str) -> Credential:
    wanted = Q(name=reference)
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        wanted |= Q(pk=UUID(reference))
    found: list[Credential] = list(Credential.objects.filter(wanted, owner_id=owner_id)[:2])
    if not found:
        raise CredentialError(f'there is no credential "{reference}"; add it under Credentials')
    # A name may look like the id of another one; the id wins.
    return next((one for one in found if str(one.pk) == reference), found[0])


def _encrypt(owner_id: Any, fields: Mapping[str, str]) -> bytes:
    content = {"owner": str(owner_id), "fields": dict(fields)}
    return _keys(tuple(settings.CREDENTIAL_KEYS)).encrypt(json.dumps(content).encode())


def _decrypt(credential: Credential) -> dict[str, str]:
    try:
        content = json.loads(_keys(tuple(settings.CREDENTIAL_KEYS)).decrypt(bytes(credential.data)))
        owner, fields = content["owner"], content["fields"]
    except (InvalidToken, ValueError, KeyError, TypeError):
        raise CredentialError(
            f'credential "{credential.name}" cannot be opened with the keys in FLOWBUILDER_CREDENTIAL_KEYS; '
            "add the key that it was stored with, or store it again"
        ) from None
    if owner != str(credential.owner_id):
        raise CredentialError(f'credential "{credential.name}" was stored for another user; store it again')
    return {str(key): str(value) for key, value in fields.items()}


@lru_cache(maxsize=4)
def _keys(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(f"FLOWBUILDER_CREDENTIAL_KEYS must be Fernet keys: {error}") from error
