"""Holds answers against the OpenAPI description: their route, status, type, headers and body are in it."""

from __future__ import annotations

import re
from typing import Any

import httpx

from server.runtime.api.description import DESCRIPTION

_PREFIX = re.compile(r"^(/live)?(?=/v1/)")


async def checked(response: httpx.Response) -> None:
    """A response hook for httpx. Fails the test whose answer the description does not have."""
    path = _PREFIX.sub("", response.request.url.path)
    operation = _operation(path, response.request.method.lower())
    if operation is None:
        assert not path.startswith("/v1/") or response.status_code in (404, 405), path
        return
    described = resolve(operation["responses"].get(str(response.status_code)))
    assert described is not None, f"{path}: {response.status_code} is not described"
    await response.aread()
    for name in described.get("headers", {}):
        if name != "Syncline-State-Vector":  # with an update alone
            assert name in response.headers, f"{path} {response.status_code}: no {name}"
    if not described.get("content"):
        assert not response.content
        return
    media_type = response.headers["Content-Type"].partition(";")[0]
    assert media_type in described["content"], f"{path}: {media_type} is not described"
    if media_type.endswith("json"):
        check(response.json(), described["content"][media_type]["schema"])


def _operation(path: str, method: str) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = []
    for template, item in DESCRIPTION["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, path) and method in item:
            found.append(item[method])
    return found[0] if found else None


def resolve(node: Any) -> Any:
    """What a reference stands for."""
    while isinstance(node, dict) and "$ref" in node:
        at: Any = DESCRIPTION
        for part in node["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        node = at
    return node


_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None),
}  # fmt: skip


def check(value: Any, schema: Any) -> None:
    """As much of JSON Schema as the description uses."""
    schema = resolve(schema)
    kinds = schema.get("type")
    if kinds is not None:
        assert isinstance(value, tuple(_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)))
    if isinstance(value, dict):
        known = schema.get("properties", {})
        assert set(schema.get("required", ())) <= set(value), value
        assert schema.get("additionalProperties", True) or set(value) <= set(known), value
        for name in value.keys() & known.keys():
            check(value[name], known[name])
    if isinstance(value, list) and "items" in schema:
        for item in value:
            check(item, schema["items"])
