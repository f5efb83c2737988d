"""Locked files that say whether a process lives: the kernel frees them when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def is_free(path: Path) -> bool:
    """Return whether no process holds the lock of ``path``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
