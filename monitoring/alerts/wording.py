"""What a message says: one content, fixed when it is written, shown as a mail, as plain JSON and as Slack's."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from monitoring.alerts.rules import KINDS
from monitoring.models import Alert, AlertMessage

TEST: Final = "test"
_COLOURS: Final = {"info": "#2563eb", "warning": "#d97706", "critical": "#dc2626"}
_RESOLVED_COLOUR: Final = "#16a34a"


def content_of(alert: Alert, event: str) -> dict[str, Any]:
    """Return what a message about ``alert`` says now: plain JSON, which is also what webhooks are sent.

    ``event`` is one of ``AlertMessage.Event``.
    """
    over = event == AlertMessage.Event.RESOLVED
    title = f"{'Resolved' if over else alert.get_severity_display()}: {alert.rule_name}"
    return {
        "event": event,
        "title": title,
        "text": _resolved_text(alert) if over else alert.message,
        "url": f"{settings.PUBLIC_URL}/admin/monitoring/alert/{alert.pk}/change/",
        "alert": {
            "id": str(alert.pk), "rule_id": str(alert.rule_id) if alert.rule_id else None, "rule": alert.rule_name,
            "kind": alert.kind, "severity": alert.severity, "key": alert.key,
            "workflow_id": str(alert.workflow_id) if alert.workflow_id else None,
            "workflow": alert.workflow_name or None,
            "value": alert.value, "threshold": alert.threshold, "unit": KINDS[alert.kind].unit,
            "opened_at": alert.opened_at.isoformat(),
            "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None,
        },
    }  # fmt: skip


def test_content(channel_name: str) -> dict[str, Any]:
    """Return what is sent to try a channel."""
    return {
        "event": TEST,
        "title": "Test message",
        "text": f'This is how alerts of Flow Builder arrive at the channel "{channel_name}".',
        "url": f"{settings.PUBLIC_URL}/admin/",
        "alert": None,
    }


def mail(content: dict[str, Any], address: str, message_id: UUID) -> EmailMessage:
    """Return ``content`` as a mail in plain text; its Message-ID is the same on every attempt."""
    sender = Address("Flow Builder", addr_spec=settings.MAIL_FROM)
    message = EmailMessage()
    message["Subject"] = one_line(f"[Flow Builder] {content['title']}")[:200]
    message["From"], message["To"] = sender, Address(addr_spec=address)
    message["Date"] = localtime()
    message["Message-ID"] = f"<{message_id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    if content["alert"]:
        message["References"] = f"<alert.{content['alert']['id']}@{sender.domain}>"
    message.set_content("\n".join([content["text"], *_facts(content), "", content["url"], ""]))
    return message


def slack(content: dict[str, Any]) -> dict[str, Any]:
    """Return ``content`` as incoming webhooks of Slack, Mattermost and their like take it."""
    alert = content["alert"] or {}
    over = content["event"] == AlertMessage.Event.RESOLVED
    title, text = _escaped(content["title"]), _escaped(content["text"])
    return {
        "text": f"*{title}*",
        "attachments": [
            {
                "color": _RESOLVED_COLOUR if over else _COLOURS.get(alert.get("severity", ""), _COLOURS["info"]),
                "fallback": f"{title}: {text}",
                "text": f"{text}\n<{content['url']}|Open in Flow Builder>",
            }
        ],
    }


def one_line(text: str) -> str:
    """Return ``text`` without line breaks and other characters that a header cannot hold."""
    return re.sub(r"[\x00-\x1f\x7f\u2028\u2029]+", " ", text).strip()


def _resolved_text(alert: Alert) -> str:
    why = f" ({alert.reason})" if alert.reason else ""
    return f"It is over{why}. It was: {alert.message}"


def _facts(content: dict[str, Any]) -> list[str]:
    alert = content["alert"]
    if not alert:
        return []
    facts = {
        "Rule": alert["rule"],
        "Workflow": alert["workflow"],
        "Since": alert["opened_at"],
        "Until": alert["resolved_at"],
    }
    return ["", *(f"{name}: {one_line(str(value))}" for name, value in facts.items() if value)]


def _escaped(text: str) -> str:
    return one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
