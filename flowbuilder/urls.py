"""Addresses of the web process."""

from django.contrib import admin
from django.urls import path
from django.views.generic import RedirectView

from executions.views import approval
from flowbuilder.api import api
from monitoring.views import healthz, readyz

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/"), name="home"),
    path("monitoring", RedirectView.as_view(url="/admin/monitoring/")),
    path("monitoring/", RedirectView.as_view(url="/admin/monitoring/"), name="monitoring"),
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("api/v1/", api.urls),
    path("approvals/<str:token>", approval, name="approval"),
    path("admin/", admin.site.urls),
]
