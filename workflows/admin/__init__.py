"""Admin pages of workflows, their versions, schedules, webhooks and credentials; tokens, credits, plans and the log of who did what.

Every staff user works with their own workflows and credentials; superusers see all. Upper rooms extend these
classes (the Run action comes from ``executions.admin``).
"""

from workflows.admin import audit, credentials, credits, plans, tokens, versions, webhooks, workflows

__all__ = ["audit", "credentials", "credits", "plans", "tokens", "versions", "webhooks", "workflows"]
