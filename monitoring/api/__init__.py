"""HTTP door to alerts, the rules that raise them, and the channels that tell of them."""

from __future__ import annotations

from ninja import Router

from monitoring.api import alerts, channels, rules

router = Router(tags=["alerts"])
for _part in (alerts, rules, channels):
    router.add_router("", _part.router)
