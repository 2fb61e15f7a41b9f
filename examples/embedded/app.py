"""A guest book: pages of the app's own, and beside them Syncline under /live.

Run it with `SYNCLINE_JWT_SECRET=... uvicorn --factory examples.embedded.app:create`, from the repository.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from server.asgi import Syncline


def guest_book(syncline: Syncline) -> Starlette:
    """The app. Its lifespan is Syncline's: that opens the store, and saves everything at the end."""

    async def home(request: Request) -> Response:
        return JSONResponse({"sync": "/live/v1/sync", "yjs": "/live/yjs/guests", "http": "/live/v1/docs/guests"})

    return Starlette(routes=[Route("/", home), Mount("/live", syncline)], lifespan=syncline.lifespan)


def create() -> Starlette:
    """With settings from the environment, as `syncline serve` has them."""
    return guest_book(Syncline())
