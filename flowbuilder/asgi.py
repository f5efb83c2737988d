"""The web process: which protocol goes to which application."""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

# WhiteNoise serves files by a synchronous iterator; they are small, and Django buffers them.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowbuilder.settings")
# Loads the applications; consumers can be imported only after it.
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from flowbuilder.bodies import BoundedBodies  # noqa: E402
from flowbuilder.proxies import ClientAddresses  # noqa: E402
from flowbuilder.request_ids import RequestIds  # noqa: E402
from flowbuilder.sockets import OpenSockets, SocketRate  # noqa: E402
from monitoring.clients import clients  # noqa: E402
from monitoring.consumers import websocket_urlpatterns  # noqa: E402
from monitoring.doorway import OriginMiddleware  # noqa: E402
from monitoring.feed import current_feed  # noqa: E402
from monitoring.presence import current_presence  # noqa: E402


async def lifespan(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer the server's start and stop; at the stop, leave the channel layer and take back the number of sockets and who follows."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await clients.close()
            await current_presence().close()
            await current_feed().close()
            await send({"type": "lifespan.shutdown.complete"})
            return


application = ClientAddresses(
    RequestIds(
        ProtocolTypeRouter(
            {
                "http": BoundedBodies(http, "/hooks/"),
                "websocket": OriginMiddleware(
                    SocketRate(AuthMiddlewareStack(OpenSockets(URLRouter(websocket_urlpatterns))))
                ),
                "lifespan": lifespan,
            }
        )
    ),
    settings.TRUSTED_PROXIES,
)
