"""The admin site: navigation, dashboard and monitor, around the pages that the apps bring."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils import timezone

from flowbuilder.rates import read_rate
from flowbuilder.throttle import Attempts
from monitoring.alerts import inbox
from monitoring.health import troubles

ALERTS = "monitoring.alert"
OTHER = "More"
"""Navigation group of models that no group names."""


@dataclass(frozen=True, slots=True)
class Group:
    """A heading of the navigation. ``models`` are (``app.model``, icon, name or "" for the model's own)."""

    name: str
    models: tuple[tuple[str, str, str], ...]
    folded: bool = False


NAVIGATION = (
    Group(
        "Build",
        (
            ("workflows.workflow", "workflow", ""),
            ("workflows.credential", "key", ""),
            ("workflows.webhook", "download", ""),
            ("workflows.workflowversion", "version", "Versions"),
        ),
    ),
    Group(
        "Run",
        (
            ("executions.execution", "execution", ""),
            ("recordings.recording", "recording", ""),
            ("executions.deadletter", "letter", ""),
        ),
    ),
    Group(
        "Watch",
        (
            (ALERTS, "bell", ""),
            ("monitoring.alertrule", "rule", ""),
            ("monitoring.alertchannel", "send", ""),
        ),
    ),
    Group(
        "Account",
        (
            ("workflows.creditaccount", "credits", "Credits"),
            ("workflows.creditentry", "ledger", "Ledger"),
            ("workflows.plan", "plan", ""),
            ("workflows.apitoken", "token", "API tokens"),
            ("workflows.auditentry", "audit", "Audit log"),
        ),
    ),
    Group(
        "Engine",
        (
            ("executions.phase", "phase", ""),
            ("executions.noderun", "node", "Node runs"),
            ("executions.browsersession", "browser", "Browser sessions"),
            ("executions.workerlease", "worker", "Workers"),
            ("recordings.event", "event", ""),
            ("recordings.blob", "blob", ""),
            ("recordings.storedfile", "blob", "Stored files"),
        ),
        folded=True,
    ),
    Group(
        "System",
        (
            ("django_celery_beat.periodictask", "clock", "Periodic tasks"),
            ("django_celery_beat.crontabschedule", "calendar", "Crontabs"),
            ("django_celery_beat.intervalschedule", "calendar", "Intervals"),
            ("django_celery_beat.clockedschedule", "calendar", "Clocked"),
            ("django_celery_beat.solarschedule", "sun", "Solar events"),
            ("auth.user", "user", ""),
            ("auth.group", "group", ""),
        ),
        folded=True,
    ),
)


class FlowBuilderSite(AdminSite):
    """Django's admin with our navigation, a dashboard as its index, and the monitor."""

    site_header = "Flow Builder"
    site_title = "Flow Builder"
    index_title = "Dashboard"
    site_url = None
    enable_nav_sidebar = False
    index_template = "admin/dashboard.html"

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return the addresses of the site; ours come first."""
        own: list[URLPattern | URLResolver] = [
            path("monitoring/", self.admin_view(self.monitoring), name="monitoring"),
        ]
        return own + super().get_urls()

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what every page gets; whoever may use the admin is told what keeps the installation from its work."""
        context = super().each_context(request)
        return {**context, "troubles": troubles if context["has_permission"] else None}

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return the models that the user may see, in the groups of ``NAVIGATION``; of one app, as Django does."""
        if app_label is not None:
            return super().get_app_list(request, app_label)
        by_name = {
            f"{app['app_label']}.{model['object_name'].lower()}": model
            for app in super().get_app_list(request)
            for model in app["models"]
        }
        if ALERTS in by_name:
            by_name[ALERTS]["badge"] = new_alerts(request.user)
        groups = [_group(group, by_name, request.path) for group in NAVIGATION]
        if by_name:
            rest = tuple((name, "more", "") for name in by_name)
            groups.append(_group(Group(OTHER, rest, folded=True), by_name, request.path))
        return [group for group in groups if group["models"]]

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Log in; who fails too often is told to wait (429) before any password is looked at."""
        if request.method != "POST":
            return super().login(request, extra_context)
        attempts = Attempts(request, request.POST.get("username", ""), read_rate(settings.LOGIN_RATE))
        wait = attempts.begin()
        if wait:
            retry = {"Retry-After": str(wait)}
            return TemplateResponse(request, "429.html", {"seconds": wait}, status=429, headers=retry)
        answer = super().login(request, extra_context)
        if answer.status_code == HTTPStatus.FOUND:  # not the user: who had a session before still has it
            attempts.succeeded()
        return answer

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show what happened, what runs and what comes next. The number of queries is fixed."""
        from flowbuilder.dashboard import dashboard

        return super().index(request, {**(extra_context or {}), **dashboard(request.user, timezone.now())})

    def monitoring(self, request: HttpRequest) -> HttpResponse:
        """Show the executions that run and the newest ones, live."""
        context = {
            **self.each_context(request),
            "title": "Monitor",
            "props": {
                "api": "/api/v1",
                "ws": "/ws",
                "execution_url": "/admin/executions/execution/{id}/change/",
                "workflow_id": request.GET.get("workflow"),
                "examples_url": reverse("admin:workflows_workflow_examples"),
            },
        }
        return TemplateResponse(request, "admin/monitoring.html", context)


def new_alerts(user: Any) -> str:
    """Return how many alerts wait for somebody who takes care of them: "3", "99+", empty for none. One query."""
    count = inbox.new_count(user)
    return f"{inbox.COUNTED}+" if count > inbox.COUNTED else str(count or "")


def _group(group: Group, by_name: dict[str, Any], current: str) -> dict[str, Any]:
    """Return ``group`` in the form of Django's app list, taking its models out of ``by_name``."""
    models = []
    for key, icon, name in group.models:
        model = by_name.pop(key, None)
        if model is not None and model["admin_url"]:
            here = current.startswith(model["admin_url"])
            models.append({**model, "icon": icon, "name": name or model["name"], "current": here})
    return {
        "name": group.name,
        "app_label": group.name.lower(),
        "app_url": "",
        "has_module_perms": True,
        "models": models,
        "folded": group.folded,
        "current": any(model["current"] for model in models),
    }
