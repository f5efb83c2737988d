"""Addresses of the web process."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from executions.views import approval
from flowbuilder.api import api
from flowbuilder.hooks import receive
from flowbuilder.streaming import start_streaming
from monitoring.views import healthz, metrics, readyz


def icon(request: HttpRequest) -> HttpResponseRedirect:
    """Lead to the icon: browsers ask for this name on pages that name none, such as JSON."""
    return HttpResponseRedirect(static("flowbuilder/mark.svg"))


admin.autodiscover()

handler400 = "flowbuilder.doors.bad_request"
urlpatterns = [
    path("favicon.ico", icon),
    path("", RedirectView.as_view(url="/admin/"), name="home"),
    path("monitoring", RedirectView.as_view(url="/admin/monitoring/")),
    path("monitoring/", RedirectView.as_view(url="/admin/monitoring/"), name="monitoring"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("api/v1/", api.urls),
    path("executions/<str:execution_id>/start-streaming", start_streaming, name="start_streaming"),
    path("approvals/<str:token>", approval, name="approval"),
    path("hooks/<str:token>", receive, name="webhook"),
    path("hooks/<str:token>/test", receive, {"test": True}, name="webhook_test"),
    path("admin/", admin.site.urls),
]
