"""HTTP door to workflows: node types, definitions, validation, status, schedules, names of credentials, accounts."""

from __future__ import annotations

from ninja import Router

from workflows.api import account, credentials, node_types, schedules, workflows

router = Router()
for _part in (node_types, workflows, schedules, credentials, account):
    router.add_router("", _part.router)
