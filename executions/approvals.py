"""Links by which a person answers an approval without logging in: signed, and good for one node run only."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.core import signing

_SALT = "executions.approval"


def link_token(execution_id: UUID, node_index: int) -> str:
    """Return the signed text that names a node run which waits for an approval; the same one every time."""
    return signing.Signer(salt=_SALT).sign_object([execution_id.hex, node_index])


def read_token(token: str) -> tuple[UUID, int] | None:
    """Return the execution and the node (an index) that ``token`` names, or None when we did not sign it."""
    try:
        execution_id, node_index = signing.Signer(salt=_SALT).unsign_object(token)
        return UUID(execution_id), int(node_index)
    except (signing.BadSignature, ValueError, TypeError):
        return None


def link(execution_id: UUID, node_index: int) -> str:
    """Return the address of the page on which the approval is answered (setting FLOWBUILDER_URL)."""
    return f"{settings.PUBLIC_URL}/approvals/{link_token(execution_id, node_index)}"
