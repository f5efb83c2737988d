"""Stored secrets: encrypted at rest, bound to their owner, opened only here.

The ciphertext is a Fernet token of a JSON object that names the owner, so a row copied to another user
does not open. The first key of ``FLOWBUILDER_CREDENTIAL_KEYS`` encrypts; all of them decrypt.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from workflows import audit, kinds
from workflows.errors import CredentialError, CredentialInUse, CredentialRefused, CredentialTaken
from workflows.models import Credential, Webhook, Workflow
from workflows.templates import CREDENTIAL_KEY, credential_references
from workflows.validation import KnownCredential

SIZE_LIMIT_BYTES = 64 * 1024
MOST_CREDENTIALS = 500
"""Credentials per user."""
YEARS = range(1970, 9999)
"""When a credential may end; further away no database and no time zone keeps it."""
USED_EVERY = timedelta(minutes=1)
"""``last_used_at`` is this exact, so that a busy credential does not cost a write per node."""
ROTATE_BATCH = 50
ROTATE_PASSES = 10


class Keep:
    """Stands for a value that is to stay as it is."""


KEEP = Keep()


# ---------------------------------------------------------------------- writing


@transaction.atomic
def save(
    owner: Any,
    name: str,
    kind: str = "",
    fields: Mapping[str, Any] | None = None,
    expires_at: datetime | Keep | None = KEEP,
    *,
    credential: Credential | None = None,
    new: bool = False,
) -> Credential:
    """Store the credential ``name`` of ``owner`` and return its row; one of that name is changed, unless it is to be new.

    Fields that are not given keep what they hold, an empty text takes a field away. A change of kind keeps only what
    the new kind has. ``credential`` is the row to change when ``name`` is to be its new name. Noted in the audit log.

    Raises:
        CredentialTaken: another one has the name.
        CredentialRefused: the name is none, the fields do not fit the kind, or the end is no date that can be kept
            (``problems`` says all of it); or the owner has ``MOST_CREDENTIALS``.
        CredentialError: it was stored with a key that is not here any more, and only some of its fields are given.
    """
    name = _name(name)
    credential = _row(owner, name, credential)
    if new and credential is not None:
        raise CredentialTaken(name)
    before = kinds.kind_of(credential.kind).name if credential else ""
    wanted = kinds.ALIASES.get(kind, kind) or before or "password"
    stored = {} if credential is None else _kept(credential, wanted, before, fields or {})
    merged = {**stored, **(fields or {})}
    problems = [*kinds.check(wanted, merged)]
    if isinstance(expires_at, datetime) and expires_at.year not in YEARS:
        problems.append(kinds.Problem("expires_at", f"must lie in the years {YEARS[0]} to {YEARS[-1]}, or be nothing"))
    if problems:
        raise CredentialRefused(name, problems)
    if credential is None and Credential.objects.filter(owner=owner).count() >= MOST_CREDENTIALS:
        raise CredentialRefused(
            name, [kinds.Problem("", f"is one too many: the limit is {MOST_CREDENTIALS}; delete one first")]
        )
    merged = {key: value for key, value in merged.items() if value}
    data = _encrypt(owner.pk, merged)
    if len(data) > 2 * SIZE_LIMIT_BYTES:
        raise CredentialRefused(name, [kinds.Problem("", f"is larger than {SIZE_LIMIT_BYTES:,} bytes")])
    row = credential or Credential(owner=owner)
    row.name, row.kind, row.data = name, wanted, data
    if not isinstance(expires_at, Keep):
        row.expires_at = expires_at
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        raise CredentialTaken(name) from None
    audit.note(
        "change" if credential else "create", "credential", row, owner=owner, name=name, credential_kind=wanted,
        fields=sorted(key for key in {*stored, *merged} if stored.get(key) != merged.get(key)),
        expires_at=row.expires_at.isoformat() if row.expires_at else None,
    )  # fmt: skip
    return row


def delete(credential: Credential, *, force: bool = False) -> None:
    """Delete a credential; noted in the audit log.

    Raises:
        CredentialInUse: workflows name it, and ``force`` is off; ``workflows`` are they.
    """
    users = used_by(credential)
    if users and not force:
        raise CredentialInUse(credential.name, users)
    with transaction.atomic():
        audit.note("delete", "credential", credential, used_by=[workflow.name for workflow in users])
        credential.delete()


def used_by(credential: Credential) -> list[Workflow]:
    """Return the owner's workflows whose running or newest version names a credential, by name.

    Reads the definitions of all workflows of the owner.
    """
    references = {str(credential.pk), credential.name}
    found = []
    rows = Workflow.objects.filter(owner_id=credential.owner_id).exclude(status=Workflow.Status.ARCHIVED)
    for workflow in rows.select_related("version", "draft").order_by("name").iterator(chunk_size=50):
        versions = (version.definition for version in (workflow.version, workflow.draft) if version is not None)
        named = (one[CREDENTIAL_KEY] for definition in versions for one in credential_references(definition))
        if any(isinstance(name, str) and name in references for name in named):
            found.append(workflow)
    return found


def _name(name: str) -> str:
    name = name.strip()
    if not name or len(name) > 200 or not name.isprintable():
        raise CredentialRefused(name[:200], [kinds.Problem("name", "is a text of 1 to 200 characters on one line")])
    return name


def _row(owner: Any, name: str, credential: Credential | None) -> Credential | None:
    """Return the row to change, locked, or None when there will be a new one."""
    wanted = Q(name=name) if credential is None else Q(pk=credential.pk)
    found: Credential | None = Credential.objects.select_for_update().filter(wanted, owner=owner).first()
    if credential is not None and found is None:
        raise CredentialError(f'credential "{credential.name}" is not there any more')
    return found


def _kept(credential: Credential, wanted: str, before: str, given: Mapping[str, Any]) -> dict[str, str]:
    """Return the stored fields that stay when a credential becomes one of the kind ``wanted``."""
    try:
        stored = _decrypt(credential)
    except CredentialError:
        if kinds.check(wanted, given):
            raise
        return {}  # everything is given anew: the way out when its key is lost
    if wanted == before:
        return stored
    return (
        {name: value for name, value in stored.items() if kinds.KINDS[wanted].field(name)}
        if wanted in kinds.KINDS
        else {}
    )


# ---------------------------------------------------------------------- showing


def public(credential: Credential, *, now: datetime | None = None) -> dict[str, Any]:
    """Return what people and programs may see of a credential: everything but its secret fields.

    ``secrets`` are the names of the secret fields that are stored; ``problem`` says why it cannot be used now.
    """
    kind = kinds.kind_of(credential.kind)
    problem = ""
    try:
        fields = _decrypt(credential)
    except CredentialError as error:
        fields, problem = {}, str(error)
    expired = _is_over(credential.expires_at, now)
    return {
        "id": str(credential.pk), "name": credential.name, "kind": kind.name, "kind_label": kind.label,
        "fields": kinds.shown(kind.name, fields),
        "secrets": sorted(name for name in fields if kinds.is_secret(kind.name, name)),
        "expires_at": credential.expires_at, "expired": expired,
        "problem": problem or (_expired(credential) if expired else ""),
        "last_used_at": credential.last_used_at, "created_at": credential.created_at,
        "updated_at": credential.updated_at,
    }  # fmt: skip


def find(owner: Any, reference: str) -> Credential | None:
    """Return the credential that ``owner`` calls so, by id or name, or None."""
    pk = _uuid(reference)
    rows = list(Credential.objects.filter(Q(name=reference) | Q(pk=pk), owner=owner))
    return next((row for row in rows if row.pk == pk), rows[0] if rows else None)


def available(owner_id: Any, named_in: Any = None) -> dict[str, KnownCredential]:
    """Return everything by which ``owner_id`` may refer to their credentials, ids and names, and what each has.

    Only those that the JSON ``named_in`` names are opened for the names of their fields. One query, or two.
    """
    references = {
        one[CREDENTIAL_KEY] for one in credential_references(named_in) if isinstance(one[CREDENTIAL_KEY], str)
    }
    rows = list(Credential.objects.filter(owner_id=owner_id).defer("data"))
    named = [row.pk for row in rows if row.name in references or str(row.pk) in references]
    fields: dict[UUID, frozenset[str]] = {}
    for row in Credential.objects.filter(pk__in=named) if named else ():
        with contextlib.suppress(CredentialError):
            fields[row.pk] = frozenset(_decrypt(row))
    known = {}
    for row in rows:
        known[row.name] = known[str(row.pk)] = KnownCredential(row.kind, fields.get(row.pk), row.expires_at)
    return known


# ---------------------------------------------------------------------- opening, at run time only


@dataclass(frozen=True, slots=True)
class Opened:
    """A credential in plain text; only in memory, only while something runs that needs it."""

    name: str
    kind: str
    fields: Mapping[str, str]
    problem: str = ""
    """Why it may not be used, though it could be opened."""

    @property
    def secrets(self) -> set[str]:
        """Return every text that must not show."""
        return kinds.secret_values(self.kind, self.fields)

    def __repr__(self) -> str:
        return f"Opened({self.name!r})"

    def field(self, wanted: str) -> str:
        """Return one field; an empty ``wanted`` (or "password", where there is none) means the main one.

        ``kinds.WHOLE`` asks for all fields, as a JSON object.

        Raises:
            CredentialError: it has no such field, or has expired.
        """
        if self.problem:
            raise CredentialError(self.problem)
        if wanted == kinds.WHOLE:
            return json.dumps(dict(self.fields), ensure_ascii=False)
        name = kinds.field_name(self.kind, self.fields, wanted)
        value = kinds.value(self.kind, self.fields, name) if name else ""
        if not value:
            names = ", ".join(f'"{one}"' for one in sorted(self.fields))
            raise CredentialError(f'credential "{self.name}" has no field "{wanted}"; it has {names}')
        return value


def open_all(owner_id: Any, references: Iterable[str]) -> dict[str, Opened | CredentialError]:
    """Return the credentials that ``owner_id`` calls so (by id or name), in plain text, or why each cannot be had.

    One query, and at most once a minute one more that notes the use. A credential of somebody else looks like none.
    """
    wanted = set(references)
    if not wanted:
        return {}
    ids = {pk: reference for reference in wanted if (pk := _uuid(reference))}
    rows = list(Credential.objects.filter(Q(name__in=wanted) | Q(pk__in=list(ids)), owner_id=owner_id))
    # A name may look like the id of another one; the id wins.
    found = {row.name: row for row in rows} | {ids[row.pk]: row for row in rows if row.pk in ids}
    now = timezone.now()
    used = {row.pk for row in found.values() if row.last_used_at is None or now - row.last_used_at > USED_EVERY}
    if used:
        Credential.objects.filter(pk__in=used).update(last_used_at=now)
    return {reference: _open(found.get(reference), reference, now) for reference in wanted}


def resolve(owner_id: Any, reference: str, field: str = "password") -> str:
    """Return one field of the credential that ``owner_id`` calls ``reference`` (id or name), in plain text.

    Raises:
        CredentialError: there is none, it has no such field, has expired, or no key opens it. A credential of somebody
            else looks like none.
    """
    found = open_all(owner_id, [reference])[reference]
    if isinstance(found, CredentialError):
        raise found
    return found.field(field)


def _open(row: Credential | None, reference: str, now: datetime) -> Opened | CredentialError:
    if row is None:
        return CredentialError(f'there is no credential "{reference}"; add it under Credentials')
    try:
        fields = _decrypt(row)
    except CredentialError as error:
        return error
    return Opened(row.name, row.kind, fields, _expired(row) if _is_over(row.expires_at, now) else "")


def _is_over(expires_at: datetime | None, now: datetime | None = None) -> bool:
    return expires_at is not None and expires_at <= (now or timezone.now())


def _expired(credential: Credential) -> str:
    when = credential.expires_at.astimezone(UTC) if credential.expires_at else None
    return (
        f'credential "{credential.name}" expired on {when:%Y-%m-%d at %H:%M} UTC; '
        "store a new secret and a later end under Credentials"
    )


def _uuid(reference: str) -> UUID | None:
    try:
        return UUID(reference)
    except (ValueError, AttributeError, TypeError):
        return None


# ---------------------------------------------------------------------- keys


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation found: how many it encrypted anew, how many had the first key already, and what stays open."""

    rotated: int
    current: int
    unreadable: tuple[str, ...] = ()
    """Credentials that no key opens: left as they are."""
    late: int = 0
    """Rows that were written with an older key all the time, so that some process still has an older first key."""

    @property
    def finished(self) -> bool:
        """Return whether the older keys can be taken away without losing anything."""
        return not self.unreadable and not self.late


def rotate() -> Rotation:
    """Encrypt every credential, and every secret of a webhook or a channel, that does not have the first key.

    Says what happened.

    In transactions of 50 rows, beside whatever runs; it can be ended and begun again at any time. Passes over the rows
    until one finds nothing left to do, so a row that is written with an older key meanwhile is not missed.

    Raises:
        CredentialError: no key opens any of them, which means that the keys are wrong.
    """
    rotated = 0
    for _ in range(ROTATE_PASSES):
        last = _pass()
        rotated += last.rotated
        if not last.rotated:
            break
    if last.unreadable and not last.current and not rotated:
        raise CredentialError(
            f"none of {len(last.unreadable)} credentials can be opened with the keys in FLOWBUILDER_CREDENTIAL_KEYS; add "
            "the key that they were stored with behind the new one (without that setting: in secrets.json)"
        )
    result = Rotation(rotated, last.current, last.unreadable, last.rotated)
    if rotated:
        audit.note("rotate", "credential", "", name="all credentials", rotated=rotated, unreadable=len(last.unreadable))
    return result


def _pass() -> Rotation:
    rotated = current = 0
    unreadable: list[str] = []
    for model in SEALED:
        rows: Any = model._default_manager
        keys = list(rows.order_by("pk").values_list("pk", flat=True))
        for begin in range(0, len(keys), ROTATE_BATCH):
            with transaction.atomic():
                for row in rows.select_for_update().filter(pk__in=keys[begin : begin + ROTATE_BATCH]).order_by("pk"):
                    if _has_first_key(row):
                        current += 1
                        continue
                    try:
                        data = _encrypt(_holder(row), unseal(bytes(row.data), _holder(row), _named(row)))
                    except CredentialError:
                        unreadable.append(f"{row.name} ({row.pk})")
                        continue
                    rows.filter(pk=row.pk).update(data=data)
                    rotated += 1
    return Rotation(rotated, current, tuple(unreadable))


def _has_first_key(row: Any) -> bool:
    try:
        _keys(tuple(settings.CREDENTIAL_KEYS[:1])).decrypt(bytes(row.data))
    except InvalidToken:
        return False
    return True


def _holder(row: Any) -> str:
    return SEALED[type(row)][1](row)


def webhook_holder(pk: UUID) -> str:
    """Return to whom the secrets of a webhook are bound, whoever owns its workflow: to itself."""
    return f"webhook:{pk}"


def _named(row: Any) -> str:
    return f'{SEALED[type(row)][0]} "{row.name}"'


SEALED: dict[type[Any], tuple[str, Callable[[Any], str]]] = {
    Credential: ("credential", lambda row: str(row.owner_id)),
    Webhook: ("webhook", lambda row: webhook_holder(row.pk)),
}
"""Every table with secrets in ``data``: what a row is called, and to whom it is bound. Rooms above add theirs."""


def seal(holder: str, fields: Mapping[str, str]) -> bytes:
    """Return ``fields`` encrypted with the first key; only ``unseal`` with the same ``holder`` opens them."""
    content = {"owner": holder, "fields": dict(fields)}
    return _keys(tuple(settings.CREDENTIAL_KEYS)).encrypt(json.dumps(content).encode())


def unseal(data: bytes, holder: str, what: str) -> dict[str, str]:
    """Return the fields that ``seal`` encrypted; ``what`` is how the error calls them.

    Raises:
        CredentialError: no key opens them, or they are those of another holder.
    """
    try:
        content = json.loads(_keys(tuple(settings.CREDENTIAL_KEYS)).decrypt(data))
        owner, fields = content["owner"], content["fields"]
    except (InvalidToken, ValueError, KeyError, TypeError):
        raise CredentialError(
            f"{what} cannot be opened with the keys in FLOWBUILDER_CREDENTIAL_KEYS; "
            "add the key that it was stored with, or store it again"
        ) from None
    if owner != holder:
        raise CredentialError(f"{what} was stored for another user; store it again")
    return {str(key): str(value) for key, value in fields.items()}


def _encrypt(owner_id: Any, fields: Mapping[str, str]) -> bytes:
    return seal(str(owner_id), fields)


def _decrypt(credential: Credential) -> dict[str, str]:
    return unseal(bytes(credential.data), str(credential.owner_id), f'credential "{credential.name}"')


@lru_cache(maxsize=4)
def _keys(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(f"FLOWBUILDER_CREDENTIAL_KEYS must be Fernet keys: {error}") from error
