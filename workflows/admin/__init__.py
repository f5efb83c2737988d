"""Admin pages of workflows, their versions, schedules and credentials.

Every staff user works with their own workflows and credentials; superusers see all. Upper rooms extend these
classes (the Run action comes from ``executions.admin``).
"""

from workflows.admin import credentials, versions, workflows

__all__ = ["credentials", "versions", "workflows"]
