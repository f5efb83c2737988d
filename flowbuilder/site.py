"""The admin site: dashboard, monitor and the pages of the apps."""

from django.contrib.admin import AdminSite


class FlowBuilderSite(AdminSite):
    """Django's admin under our name."""

    site_header = "Flow Builder"
    site_title = "Flow Builder"
    index_title = "Dashboard"
