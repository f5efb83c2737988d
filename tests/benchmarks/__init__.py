"""Measurements side by side in one run; ``./flow bench NAME``."""
