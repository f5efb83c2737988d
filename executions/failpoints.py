"""Places where a test can kill this very process.

``FLOWBUILDER_FAILPOINT=name:file`` arms the point ``name``: the first process that reaches it while
``file`` exists removes the file and ends itself by SIGKILL. ``*:directory`` arms every point that has
a file of its name in the directory. Unset (always, outside tests), a point costs one comparison.
"""

from __future__ import annotations

import os
import signal

_name, _, _file = os.environ.get("FLOWBUILDER_FAILPOINT", "").partition(":")


def failpoint(name: str) -> None:
    """Kill this process if ``name`` is the armed point and nobody else has fired it yet."""
    if _name not in (name, "*"):
        return
    try:
        os.unlink(_file if _name != "*" else os.path.join(_file, name))
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
