"""What only the engine knows of a recording: callables that ``executions`` sets when it starts.

Without them (plain Python, tests) recordings simply hold less.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import UUID

OUTPUT_SOURCE: Callable[[UUID, Collection[str]], Mapping[str, Any]] | None = None
"""``(execution_id, node_ids) -> {node_id: outputs}`` of completed node runs."""


OUTPUT_BLOBS: Callable[[UUID, Collection[str]], Mapping[str, str]] | None = None
"""``(execution_id, node_ids) -> {node_id: sha256}`` of those node runs whose outputs are a blob."""


ARTIFACT_POLICY: Callable[[Any, UUID], bool] | None = None
"""``(user, execution_id) -> may the user see files of this execution``, also before it has a recording."""


OUTPUTS_NEEDED: Callable[[Collection[UUID]], Collection[UUID]] | None = None
"""``execution_ids -> those whose outputs a running execution may still read``; nothing of them is removed yet."""


RELEASE_OUTPUTS: Callable[[Collection[UUID]], None] | None = None
"""``execution_ids -> None``: let no node run of these ended executions name a blob any more."""


EDGE_SOURCE: Callable[[UUID], list[tuple[str, str]] | None] | None = None
"""``execution_id -> (source, target) of the wires of what it runs``, or None when that cannot be planned any more."""
