"""What the demo runs against: a small shop, a webhook sink, and the example workflows."""

from pathlib import Path

WORKFLOWS = Path(__file__).parent / "workflows"
"""Directory of the example workflows, one JSON file each."""
