"""HTTP door to workflows: node types, definitions, validation, status, schedules, webhooks, names of credentials, accounts."""

from __future__ import annotations

from ninja import Router

from workflows.api import account, credentials, history, node_types, schedules, versions, webhooks, workflows

router = Router()
for _part in (node_types, versions, workflows, schedules, webhooks, credentials, account, history):
    router.add_router("", _part.router)
