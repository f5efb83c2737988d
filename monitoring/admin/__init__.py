"""Admin pages of alerts: the inbox, rules, and channels."""

from monitoring.admin import alerts

__all__ = ["alerts"]
