"""HTTP door to workflows: node types, definitions, validation, status, schedules, names of credentials, accounts."""

from __future__ import annotations

from ninja import Router

from workflows.api import account, credentials, history, node_types, schedules, versions, workflows

router = Router()
for _part in (node_types, versions, workflows, schedules, credentials, account, history):
    router.add_router("", _part.router)
