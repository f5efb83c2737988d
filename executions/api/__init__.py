"""HTTP door to executions, their phases and node runs, approvals and dead letters."""

from __future__ import annotations

from ninja import Router

from executions.api import executions, inside, letters, runs

router = Router()
router.add_router("/executions", executions.router, tags=["executions"])
router.add_router("/executions", runs.router, tags=["executions"])
router.add_router("/executions", inside.router, tags=["executions"])
router.add_router("", letters.router)
