"""What the demo runs against: a small shop, a webhook sink, and the example workflows."""
