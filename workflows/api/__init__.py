"""HTTP door to workflows: node types, definitions, validation, status, schedules, names of credentials."""

from __future__ import annotations

from ninja import Router

from workflows.api import credentials, node_types, schedules, workflows

router = Router()
for _part in (node_types, workflows, schedules, credentials):
    router.add_router("", _part.router)
