"""Where the processes of this installation are."""

from __future__ import annotations

from pathlib import Path


def running_redis_url(data_dir: Path) -> str | None:
    """Return the address of the embedded Redis that serves ``data_dir`` now, or None."""
    return None
