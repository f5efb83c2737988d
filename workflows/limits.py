"""How large workflows may be in this installation."""

from __future__ import annotations

from django.conf import settings

from workflows.validation import Limits


def limits() -> Limits:
    """Return the limits that the settings give."""
    return Limits(
        nodes=settings.MAX_NODES,
        edges=settings.MAX_EDGES,
        definition_bytes=settings.MAX_DEFINITION_BYTES,
        depth=settings.MAX_DEPTH,
        payload_bytes=settings.MAX_PAYLOAD_BYTES,
        browser_sessions=settings.MAX_BROWSER_SESSIONS,
        credits=settings.MAX_CREDITS,
        timeout_s=settings.EXECUTION_DEADLINE_SECONDS,
        minimum_interval_seconds=settings.MINIMUM_INTERVAL_SECONDS,
        switches=frozenset({"FLOWBUILDER_CODE_NODES"} if settings.CODE_NODES else ()),
    )
