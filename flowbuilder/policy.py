"""Who may open which address: one table over every page, every operation of the API and every socket.

The door (``flowbuilder.doors``) refuses a page or operation that is not in the table, and a token without the scope. Who
the person has to be is asked by the page, the operation or the socket itself; the table says what they must answer, and the
test suite asks every one of them as everybody there is. What a page shows of whom is another question, and
``workflows.access`` answers it: foreign things do not exist (404).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

ANYONE: Final = "anyone"
PERSON: Final = "person"
"""Whoever is logged in."""
STAFF: Final = "staff"
"""Who may use the admin; they find their own things there, or everything with the permission to see it."""
WATCHED: Final = "watched"
"""Staff, who look at what the product writes; nobody adds, edits or deletes it by hand."""
MADE: Final = "made"
"""Staff, who add what nobody edits or deletes by hand."""
PERMITTED: Final = "permitted"
"""Staff with Django's permissions for the model."""
SUPERUSER: Final = "superuser"
"""Superusers, who look at it."""

API: Final = "/api/v1"


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may open an address. With ``scope`` it takes API tokens of that scope, besides logged-in people."""

    who: str
    scope: str = ""


# Operations of the API and the scope that a token needs for them. Every one is for logged-in people, too.
OPERATIONS: Final[dict[str, str]] = {
    "GET /node-types": "workflows:read",
    "GET /workflows": "workflows:read",
    "POST /workflows": "workflows:write",
    "POST /workflows/validate": "workflows:read",
    "GET /workflows/{workflow_id}": "workflows:read",
    "PUT /workflows/{workflow_id}": "workflows:write",
    "DELETE /workflows/{workflow_id}": "workflows:write",
    "POST /workflows/{workflow_id}/activate": "workflows:write",
    "POST /workflows/{workflow_id}/publish": "workflows:write",
    "POST /workflows/{workflow_id}/unarchive": "workflows:write",
    "GET /workflows/{workflow_id}/versions": "workflows:read",
    "GET /workflows/{workflow_id}/versions/{number}": "workflows:read",
    "GET /workflows/{workflow_id}/diff": "workflows:read",
    "GET /workflows/{workflow_id}/export": "workflows:read",
    "POST /workflows/{workflow_id}/restore": "workflows:write",
    "POST /workflows/{workflow_id}/clone": "workflows:write",
    "POST /workflows/import": "workflows:write",
    "GET /workflows/{workflow_id}/webhooks": "workflows:read",
    "POST /workflows/{workflow_id}/webhooks": "workflows:write",
    "PUT /workflows/{workflow_id}/webhooks/{webhook_id}": "workflows:write",
    "DELETE /workflows/{workflow_id}/webhooks/{webhook_id}": "workflows:write",
    "POST /workflows/{workflow_id}/webhooks/{webhook_id}/rotate": "workflows:write",
    "GET /workflows/{workflow_id}/schedule": "workflows:read",
    "GET /schedules": "workflows:read",
    "POST /workflows/{workflow_id}/pause": "workflows:write",
    "POST /workflows/{workflow_id}/resume": "workflows:write",
    "POST /workflows/{workflow_id}/archive": "workflows:write",
    "PUT /workflows/{workflow_id}/schedule": "workflows:write",
    "DELETE /workflows/{workflow_id}/schedule": "workflows:write",
    "GET /schedules/preview": "workflows:read",
    "GET /credentials": "credentials:read",
    "GET /credentials/kinds": "credentials:read",
    "POST /credentials": "credentials:write",
    "GET /credentials/{credential_id}": "credentials:read",
    "PUT /credentials/{credential_id}": "credentials:write",
    "DELETE /credentials/{credential_id}": "credentials:write",
    "GET /credits": "account:read",
    "GET /credits/entries": "account:read",
    "GET /credits/report": "account:read",
    "GET /audit": "account:read",
    "POST /executions": "executions:run",
    "GET /executions": "executions:read",
    "GET /executions/{execution_id}": "executions:read",
    "GET /executions/{execution_id}/logs": "executions:read",
    "POST /executions/{execution_id}/cancel": "executions:run",
    "POST /executions/{execution_id}/pause": "executions:run",
    "POST /executions/{execution_id}/resume": "executions:run",
    "POST /executions/{execution_id}/retry": "executions:run",
    "GET /executions/{execution_id}/phases": "executions:read",
    "GET /executions/{execution_id}/nodes": "executions:read",
    "GET /executions/{execution_id}/nodes/{node_id}": "executions:read",
    "GET /executions/{execution_id}/outputs": "executions:read",
    "GET /executions/{execution_id}/timeline": "executions:read",
    "GET /executions/{execution_id}/celery": "executions:read",
    "GET /executions/{execution_id}/state": "executions:read",
    "GET /executions/{execution_id}/artifacts": "executions:read",
    "POST /executions/{execution_id}/keep": "executions:run",
    "POST /executions/{execution_id}/approvals/{node_id}": "executions:run",
    "POST /executions/{execution_id}/start-streaming": "executions:read",
    "GET /approvals": "executions:read",
    "GET /dead-letters": "executions:read",
    "GET /dead-letters/{letter_id}": "executions:read",
    "POST /dead-letters/{letter_id}/replay": "executions:run",
    "POST /dead-letters/{letter_id}/discard": "executions:run",
    "GET /recordings": "recordings:read",
    "GET /recordings/artifacts/{sha256}": "recordings:read",
    "GET /recordings/{recording_id}": "recordings:read",
    "GET /recordings/{recording_id}/events": "recordings:read",
    "GET /recordings/{recording_id}/state": "recordings:read",
    "GET /recordings/{recording_id}/compare/{other_id}": "recordings:read",
    "GET /recordings/{recording_id}/download": "recordings:read",
    "POST /recordings/{recording_id}/tags": "recordings:write",
    "GET /alerts": "alerts:read",
    "GET /alerts/{alert_id}": "alerts:read",
    "POST /alerts/{alert_id}/acknowledge": "alerts:write",
    "GET /alert-rules": "alerts:read",
    "POST /alert-rules": "alerts:write",
    "POST /alert-rules/test": "alerts:write",
    "GET /alert-rules/{rule_id}": "alerts:read",
    "PUT /alert-rules/{rule_id}": "alerts:write",
    "DELETE /alert-rules/{rule_id}": "alerts:write",
    "POST /alert-rules/{rule_id}/silence": "alerts:write",
    "GET /alert-rules/{rule_id}/test": "alerts:read",
    "GET /alert-channels": "alerts:read",
    "POST /alert-channels": "alerts:write",
    "GET /alert-channels/{channel_id}": "alerts:read",
    "PUT /alert-channels/{channel_id}": "alerts:write",
    "DELETE /alert-channels/{channel_id}": "alerts:write",
    "POST /alert-channels/{channel_id}/test": "alerts:write",
    "GET /users/me": "account:read",
    "GET /tokens": "account:read",
    "POST /tokens": "account:write",
    "DELETE /tokens/{token_id}": "account:write",
}

STARTS: Final = frozenset(
    {
        "POST /executions",
        "POST /executions/{execution_id}/retry",
        "POST /dead-letters/{letter_id}/replay",
    }
)
"""Operations that begin work; they have a rate of their own."""

READING_POSTS: Final = frozenset(
    {
        "POST /workflows/validate",
        "POST /alert-rules/test",
        "POST /workflows/{workflow_id}/clone",  # the copy is one's own
        "POST /executions/{execution_id}/start-streaming",
    }
)
"""Operations that are no change of the thing in their address."""

FOR_NAMED: Final = frozenset({"POST /executions/{execution_id}/approvals/{node_id}"})
"""Operations for people whom the thing itself names, besides those who may change it; they refuse others themselves."""

THINGS: Final[dict[str, str]] = {
    "workflow_id": "workflows.Workflow",
    "webhook_id": "workflows.Webhook",
    "execution_id": "executions.Execution",
    "recording_id": "recordings.Recording",
    "other_id": "recordings.Recording",
    "token_id": "workflows.ApiToken",
    "credential_id": "workflows.Credential",
    "letter_id": "executions.DeadLetter",
    "alert_id": "monitoring.Alert",
    "rule_id": "monitoring.AlertRule",
    "channel_id": "monitoring.AlertChannel",
}
"""What the names in addresses of the API stand for."""
BY_EXECUTION: Final = frozenset({"recording_id", "other_id"})
"""Those that also go by the id of their execution."""

# Pages outside the admin, and those of the admin that belong to no model.
PAGES: Final[dict[str, str]] = {
    "": ANYONE,
    "favicon.ico": ANYONE,
    "monitoring": ANYONE,  # leads to the admin
    "monitoring/": ANYONE,
    "healthz": ANYONE,
    "readyz": ANYONE,
    "metrics": ANYONE,  # who knows the token, or asks on this machine
    "api/v1/": ANYONE,  # has no page
    "api/v1/docs": ANYONE,
    "api/v1/openapi.json": ANYONE,
    "executions/<str:execution_id>/start-streaming": PERSON,  # with the session and the token of a form
    "approvals/<str:token>": ANYONE,  # whoever has the signed link
    "hooks/<str:token>": ANYONE,  # whoever signs the request
    "hooks/<str:token>/test": ANYONE,  # the same
    "admin/": STAFF,
    "admin/monitoring/": STAFF,
    "admin/login/": ANYONE,
    "admin/logout/": ANYONE,
    "admin/password_change/": STAFF,
    "admin/password_change/done/": STAFF,
    "admin/autocomplete/": STAFF,
    "admin/jsi18n/": ANYONE,
    "admin/r/<path:content_type_id>/<path:object_id>/": STAFF,
    "admin/<app_label>/": STAFF,
    "admin/(?P<url>.*)$": STAFF,  # has no page; leads to the login
}

# Models of the admin, with their lists and forms.
MODELS: Final[dict[str, str]] = {
    "workflows/workflow": STAFF,
    "workflows/workflowversion": WATCHED,
    "workflows/credential": STAFF,
    "workflows/webhook": STAFF,
    "workflows/apitoken": MADE,
    "workflows/creditaccount": WATCHED,
    "workflows/creditentry": WATCHED,
    "workflows/auditentry": WATCHED,
    "workflows/plan": PERMITTED,
    "executions/execution": WATCHED,
    "executions/phase": WATCHED,
    "executions/noderun": WATCHED,
    "executions/browsersession": WATCHED,
    "executions/deadletter": WATCHED,
    "executions/workerlease": SUPERUSER,
    "recordings/recording": WATCHED,
    "recordings/event": WATCHED,
    "recordings/blob": WATCHED,
    "recordings/storedfile": SUPERUSER,
    "monitoring/alert": WATCHED,
    "monitoring/alertrule": STAFF,
    "monitoring/alertchannel": STAFF,
    "auth/user": PERMITTED,
    "auth/group": PERMITTED,
    "django_celery_beat/periodictask": PERMITTED,
    "django_celery_beat/clockedschedule": PERMITTED,
    "django_celery_beat/crontabschedule": PERMITTED,
    "django_celery_beat/solarschedule": PERMITTED,
    "django_celery_beat/intervalschedule": PERMITTED,
}
_OF_A_MODEL: Final = frozenset(
    {"", "add/", *(f"<path:object_id>/{page}" for page in ("", "history/", "delete/", "change/"))}
)

# Further pages of models.
MODEL_PAGES: Final[dict[str, str]] = {
    "workflows/creditaccount/grant/": STAFF,  # whoever may not grant is told so
    "workflows/webhook/<uuid:pk>/rotate/": STAFF,
    "workflows/workflow/<uuid:pk>/run/": STAFF,
    "workflows/workflow/<uuid:pk>/versions/": STAFF,
    "workflows/workflow/<uuid:pk>/versions/<int:number>/restore/": STAFF,
    "workflows/workflow/<uuid:pk>/versions/<int:number>/publish/": STAFF,
    "workflows/workflow/<uuid:pk>/diff/": STAFF,
    "workflows/workflow/<uuid:pk>/export/": STAFF,
    "workflows/workflow/<uuid:pk>/duplicate/": STAFF,
    "workflows/workflow/import/": STAFF,
    "workflows/workflow/examples/": STAFF,
    "workflows/workflow/<uuid:pk>/builder/": STAFF,
    "workflows/workflow/<uuid:pk>/move/<slug:verb>/": STAFF,
    "executions/execution/<uuid:pk>/pause/": STAFF,
    "executions/execution/<uuid:pk>/resume/": STAFF,
    "executions/execution/<uuid:pk>/cancel/": STAFF,
    "executions/execution/<uuid:pk>/keep/": STAFF,
    "executions/deadletter/<int:pk>/handle/<slug:verb>/": STAFF,
    "recordings/recording/<uuid:pk>/event/<int:number>/": STAFF,
    "recordings/recording/<uuid:pk>/tags/": STAFF,
    "recordings/recording/<uuid:pk>/compare/": STAFF,
    "monitoring/alert/<uuid:pk>/handle/<slug:verb>/": STAFF,
    "monitoring/alertrule/<uuid:pk>/handle/<slug:verb>/": STAFF,
    "monitoring/alertrule/<uuid:pk>/test/": STAFF,
    "monitoring/alertrule/test/": STAFF,
    "monitoring/alertchannel/<uuid:pk>/test/": STAFF,
    "auth/user/<id>/password/": PERMITTED,
}

# Sockets, each with the check of the session and of the thing that its consumer makes. The door does not see them: what
# the routes of ``monitoring.consumers`` do not name is declined there.
SOCKETS: Final[dict[str, str]] = {
    "^ws/executions/(?P<execution_id>[^/]+)/logs$": PERSON,
    "^ws/executions/(?P<execution_id>[^/]+)/status$": PERSON,
    "^ws/monitor$": PERSON,
    "": ANYONE,  # every other address; its handshake is declined
}


def operation(route: str, method: str) -> str:
    """Return how ``OPERATIONS`` names a route of the API, for example ``GET /workflows/{workflow_id}``."""
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route.removeprefix(API.lstrip("/")))
    return f"{'GET' if method == 'HEAD' else method} {path}"


def rule_of(route: str, method: str) -> Rule | None:
    """Return the rule of a route, as Django's resolver writes it, or None when it has none."""
    if route in PAGES:
        return Rule(PAGES[route])
    if route.startswith(API.lstrip("/")):
        scope = OPERATIONS.get(operation(route, method))
        return Rule(PERSON, scope) if scope else None
    if not route.startswith("admin/"):
        return None
    route = route.removeprefix("admin/")
    if route.lstrip("^").startswith("(?P<app_label>"):
        return Rule(PAGES["admin/<app_label>/"])
    model = "/".join(route.split("/")[:2])
    who = MODEL_PAGES.get(route) or (MODELS.get(model) if route.removeprefix(f"{model}/") in _OF_A_MODEL else None)
    return Rule(who) if who else None


def has_operations(route: str) -> bool:
    """Return whether the API has this route at all, with whatever method."""
    path = operation(route, "").lstrip()
    return any(known.partition(" ")[2] == path for known in OPERATIONS)
