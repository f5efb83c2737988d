"""How alerts and rules are written in lists and pages."""

from __future__ import annotations

from typing import Final

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from monitoring.alerts import inbox, rules
from monitoring.alerts.measures import counted, span
from monitoring.models import Alert, AlertMessage, AlertRule
from workflows.admin.cells import button, moment, status_pill

SEVERITY_COLOURS: Final = {"info": "running", "warning": "completed_with_errors", "critical": "failed"}
MESSAGE_COLOURS: Final = {"waiting": "queued", "sent": "completed", "failed": "failed", "withheld": "skipped"}
SILENCES: Final = {"silence-1h": ("For 1 hour", 1), "silence-8h": ("For 8 hours", 8), "silence-1d": ("For 1 day", 24)}
"""How long people want to hear nothing of a rule, in hours, by the verb in the address."""


def alert_pill(alert: Alert) -> SafeString:
    """Return whether an alert goes on, and whether somebody takes care of it."""
    if alert.status == Alert.Status.RESOLVED:
        return status_pill("completed", "Resolved")
    return status_pill("waiting", "Acknowledged") if alert.acknowledged_at else status_pill("failed", "Firing")


def severity_text(thing: Alert | AlertRule) -> SafeString:
    """Return how bad it is."""
    return format_html('<span class="adm-severity-{}">{}</span>', thing.severity, thing.get_severity_display())


def condition_text(rule: AlertRule) -> SafeString:
    """Return what makes a rule fire: "Failure rate ≥ 20 % within 15 minutes", and below how much and how long."""
    kind = rules.KINDS[rule.kind]
    within = f" within {span(rule.window_s)}" if kind.counts else ""
    more = [f"of at least {counted(rule.minimum_runs, 'run')}"] if rule.kind == AlertRule.Kind.FAILURE_RATE else []
    more += [f"for {span(rule.for_s)}"] if rule.for_s else []
    shown = '{} ≥ {} {}{}<span class="adm-second">{}</span>' if more else "{} ≥ {} {}{}{}"
    return format_html(shown, kind.label, number(rule.threshold), kind.unit_of(rule.threshold), within, ", ".join(more))


def number(value: float) -> str:
    """Return a value with as many digits as people read: "42", "1,250", "0.5"."""
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def message_pill(status: str) -> SafeString:
    """Return what became of a message."""
    return status_pill(MESSAGE_COLOURS[status], AlertMessage.Status(status).label)


def message_row(message: AlertMessage) -> dict[str, object]:
    """Return a message as a row of a table."""
    return {
        "status": message_pill(message.status),
        "what": message.get_event_display(),
        "alert": message.alert,
        "url": reverse("admin:monitoring_alert_change", args=(message.alert_id,)),
        "channel": message.channel_name,
        "error": message.error,
        "attempts": message.attempts,
        "written": moment(message.created_at),
    }


def silence_buttons(rule: AlertRule, address: str) -> SafeString:
    """Return what silences a rule, or ends its silence; ``address`` has a place for the verb."""
    if inbox.is_silenced(rule):
        return button(address.format("unsilence"), "End silence", icon="bell", post=True, css="")
    choices = format_html_join(
        "",
        '<button type="submit" formaction="{}">{}</button>',
        ((address.format(verb), text) for verb, (text, _) in SILENCES.items()),
    )
    return format_html(
        '<details class="adm-menu adm-drop"><summary class="button">'
        '<svg class="adm-icon" aria-hidden="true"><use href="#adm-bell-off"/></svg>Silence</summary>'
        '<div class="adm-menu-list">{}</div></details>',
        choices,
    )
