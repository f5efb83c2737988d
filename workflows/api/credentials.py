"""Credentials: write-only. Nothing here answers with a secret, or with anything made of one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema, Status
from pydantic import AwareDatetime

from workflows import credentials
from workflows.api.common import ERRORS, Text, user_id
from workflows.kinds import KINDS
from workflows.models import Credential

router = Router(tags=["credentials"])

CredentialName = Annotated[Text, Field(min_length=1, max_length=200)]
Fields = Annotated[
    dict[Annotated[Text, Field(max_length=64)], Annotated[Text, Field(max_length=credentials.SIZE_LIMIT_BYTES)]],
    Field(max_length=100),
]


class CredentialOut(Schema):
    """A credential without its secrets, of which ``secrets`` are the names.

    ``problem`` says why it cannot be used now: it has expired, or its key is gone. Empty when it can.
    """

    id: UUID
    name: str
    kind: str
    kind_label: str
    fields: dict[str, str]
    secrets: list[str]
    expires_at: datetime | None
    expired: bool
    problem: str
    last_used_at: datetime | None
    created_at: datetime
    updated_at: datetime


class FieldOut(Schema):
    """A field of a kind. A secret one is never answered. ``options`` is empty where any text is taken."""

    name: str
    label: str
    secret: bool
    required: bool
    help: str
    type: str
    max: int
    options: list[str]
    default: str


class KindOut(Schema):
    """A kind of credential. ``main`` is the field that a reference means which names none.

    A kind that is ``free`` takes fields of any name, all of them secret.
    """

    name: str
    label: str
    help: str
    main: str
    free: bool
    fields: list[FieldOut]


class NewCredential(Schema):
    """A credential to store; ``kind`` and its fields are those of ``GET /credentials/kinds``."""

    name: CredentialName
    kind: Annotated[Text, Field(max_length=40)] = "password"
    fields: Fields
    expires_at: AwareDatetime | None = None


class CredentialChange(Schema):
    """What to change. Fields that are not given keep what they hold, an empty text takes one away.

    What is not given at all stays, too; ``expires_at`` null takes the end away.
    """

    name: CredentialName | None = None
    kind: Annotated[Text, Field(max_length=40)] | None = None
    fields: Fields = Field(default_factory=dict)
    expires_at: AwareDatetime | None = None


class DeleteFilters(Schema):
    """Whether to delete a credential that workflows name."""

    force: bool = False


@router.get("/credentials", response={200: list[CredentialOut], **ERRORS})
def list_credentials(request: HttpRequest) -> Any:
    """List your own credentials, those that your workflows can use, by name; at most 1,000."""
    return [credentials.public(row) for row in _own(request).order_by("name")[:1000]]


@router.get("/credentials/kinds", response={200: list[KindOut], **ERRORS})
def list_kinds(request: HttpRequest) -> Any:
    """List the kinds of credentials with their fields."""
    return list(KINDS.values())


@router.post("/credentials", response={201: CredentialOut, **ERRORS})
def create_credential(request: HttpRequest, body: NewCredential) -> Any:
    """Store a credential; 409 if you have one of this name."""
    row = credentials.save(request.user, body.name, body.kind, body.fields, body.expires_at, new=True)
    return Status(201, credentials.public(row))


@router.get("/credentials/{credential_id}", response={200: CredentialOut, **ERRORS})
def get_credential(request: HttpRequest, credential_id: UUID) -> Any:
    """Return a credential of yours, without its secrets."""
    return credentials.public(get_object_or_404(_own(request), pk=credential_id))


@router.put("/credentials/{credential_id}", response={200: CredentialOut, **ERRORS})
def change_credential(request: HttpRequest, credential_id: UUID, body: CredentialChange) -> Any:
    """Change a credential field by field."""
    row = get_object_or_404(_own(request), pk=credential_id)
    ends = body.expires_at if "expires_at" in body.model_fields_set else credentials.KEEP
    saved = credentials.save(request.user, body.name or row.name, body.kind or "", body.fields, ends, credential=row)
    return credentials.public(saved)


@router.delete("/credentials/{credential_id}", response={204: None, **ERRORS})
def delete_credential(request: HttpRequest, credential_id: UUID, how: Query[DeleteFilters]) -> Any:
    """Delete a credential; 409 while workflows name it, unless ``force`` says to do it all the same."""
    credentials.delete(get_object_or_404(_own(request), pk=credential_id), force=how.force)
    return Status(204, None)


def _own(request: HttpRequest) -> Any:
    return Credential.objects.filter(owner_id=user_id(request))
