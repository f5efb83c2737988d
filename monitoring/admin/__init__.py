"""Admin pages of alerts: the inbox, rules, and channels."""

from monitoring.admin import alerts, channels, rules

__all__ = ["alerts", "channels", "rules"]
