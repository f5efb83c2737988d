"""What validation says about a workflow, and what it is told about the place where the workflow would run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; an error forbids activation.

    ``field`` is the input or setting, ``edge_id`` the wire. ``path`` is the exact place in the JSON, such as
    ``nodes[3].data.inputs.Body.items[0]``; ``position`` the offset in the text there, from 0, and ``line`` the
    line of that text, from 1.
    """

    code: str
    severity: Severity
    message: str
    node_id: str | None = None
    field: str | None = None
    hint: str = ""
    edge_id: str | None = None
    path: str | None = None
    position: int | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON for the builder and the API."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line for a terminal."""
        return f"{self.severity} {self.code}: {self.message}{f' ({self.hint})' if self.hint else ''}"


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a workflow may be. ``timeout_s`` is of one node; ``credits`` 0 means no limit.

    ``depth`` is the number of nodes on the longest path, ``payload_bytes`` of one value that is typed in.
    """

    nodes: int = 500
    edges: int = 2000
    definition_bytes: int = 1024 * 1024
    depth: int = 500
    payload_bytes: int = 256 * 1024
    timeout_s: float = 900
    browser_sessions: int = 10
    credits: int = 0
    minimum_interval_seconds: int = 300
    switches: frozenset[str] = frozenset()
    """Settings that are on, among those that node types ask for."""


@dataclass(frozen=True, slots=True)
class KnownCredential:
    """What may be known of a credential before a run: its kind, the names of its fields, and when it ends.

    ``fields`` is None when they are not known, for example because no key opens it.
    """

    kind: str
    fields: frozenset[str] | None
    expires_at: datetime | None = None


CREDENTIAL_CODES = frozenset({"MISSING_CREDENTIAL", "CREDENTIAL_FIELD", "CREDENTIAL_KIND", "CREDENTIAL_EXPIRED"})
"""What a draft may still lack; its credentials may be stored later."""


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that forbid activation."""
    return [finding for finding in findings if finding.severity == "error"]
