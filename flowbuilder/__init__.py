"""The project: settings, addresses, processes."""

import gc

COLLECTING = gc.get_threshold()
"""How often this process looks for garbage once it has started (``apps.py``)."""
gc.set_threshold(100_000, 20, 20)  # what a start loads stays; to look through it takes a seventh of the start
