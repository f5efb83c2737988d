"""Places where a test can kill this very process, or hold one of its threads.

``FLOWBUILDER_FAILPOINT=name:file`` arms the point ``name``: the first process that reaches it while
``file`` exists renames the file to ``file.reached`` and ends itself by SIGKILL; if the file says
``hold``, the thread waits until ``file.reached`` is gone instead; if it says ``always``, it stays and
ends the next process, too. ``*:directory`` arms every point that has a file of its name in the directory. Unset (always, outside tests), a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
import time

_name, _, _file = os.environ.get("FLOWBUILDER_FAILPOINT", "").partition(":")


def failpoint(name: str) -> None:
    """Kill this process, or hold this thread, if ``name`` is armed and nobody else has fired it yet."""
    if _name not in (name, "*"):
        return
    path = _file if _name == name else os.path.join(_file, name)
    reached = f"{path}.reached"
    try:
        os.rename(path, reached)
    except FileNotFoundError:
        return
    with open(reached) as file:
        wanted = file.read()
    if wanted == "always":
        os.rename(reached, path)
    if wanted != "hold":
        os.kill(os.getpid(), signal.SIGKILL)
    while os.path.exists(reached):
        time.sleep(0.01)
