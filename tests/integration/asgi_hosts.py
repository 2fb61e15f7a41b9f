"""Apps of other frameworks with Syncline under /live, as docs/EMBEDDING.md has it."""

from __future__ import annotations

import sys

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from fastapi import FastAPI
from starlette.types import ASGIApp

from server.asgi import Syncline

HOME = {"sync": "/live/v1/sync"}


def fastapi_host(syncline: Syncline) -> ASGIApp:
    app = FastAPI(lifespan=syncline.lifespan)
    app.add_api_route("/", lambda: HOME)
    app.mount("/live", syncline)
    return app


def home(request: HttpRequest) -> JsonResponse:
    return JsonResponse(HOME)


urlpatterns = [path("", home)]


def django_host(syncline: Syncline) -> ASGIApp:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=sys.modules[__name__], ALLOWED_HOSTS=["127.0.0.1"])
    return syncline.beside(get_asgi_application(), at="/live")
