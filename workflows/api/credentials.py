"""Names of credentials."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema

from workflows.api.common import ERRORS, user_id
from workflows.models import Credential

router = Router(tags=["credentials"])


class CredentialOut(Schema):
    """A credential by name. Its content is never shown."""

    id: UUID
    name: str
    kind: str


@router.get("/credentials", response={200: list[CredentialOut], **ERRORS})
def list_credentials(request: HttpRequest) -> Any:
    """List the names of your own credentials: those that your workflows can use."""
    return list(Credential.objects.filter(owner_id=user_id(request)).order_by("name")[:1000])
