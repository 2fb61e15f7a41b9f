"""The OpenAPI description of the routes. Tests hold every answer against it."""

from __future__ import annotations

from typing import Any, Final

from server.runtime.api.batch import DOCUMENTS_MAX, ROOTS_MAX

_NAME: Final = {"type": "string", "pattern": "^[A-Za-z0-9._~@:+-]{1,128}$"}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_ETAG_HEADER: Final = {"ETag": {"$ref": "#/components/headers/ETag"}}


def _problems(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{_RESPONSES[status]}"} for status in statuses}


_RESPONSES: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    408: "TooSlow",
    409: "Conflict",
    413: "TooBig",
    415: "OtherType",
    422: "BadUpdate",
    423: "Quarantined",
    429: "RateLimited",
    500: "Internal",
    503: "Unavailable",
}
_TEXTS: Final = {
    400: "The request can not be read: bad_request, bad_state.",
    401: "No good token: bad_token, token_expired, replayed.",
    403: "The token grants no such thing, or its device is shut out: forbidden, device_revoked.",
    408: "The body did not come in time: too_slow.",
    409: "The update builds on what the server lacks: missing_deps. `state_vector` tells what it has.",
    413: "Over a limit: too_big.",
    415: "The body is of another type: bad_request.",
    422: "The update is not taken: bad_update, too_expensive; or the key was used for another one: key_reused.",
    423: "The document can not be read until an operator has looked: doc_quarantined.",
    429: "The device has used up its share, or its user has too many requests under way: rate_limited.",
    500: "A defect of the server: internal.",
    503: "Not now: overloaded, shutting_down, not_saved. The update may be saved or not: send it again.",
}


def _response(status: int) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": _TEXTS[status],
        "content": {"application/problem+json": {"schema": _PROBLEM}},
    }
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return response


def _of_document(*, has_owner: bool) -> list[dict[str, Any]]:
    names = ["owner", "name"] if has_owner else ["name"]
    return [{"name": name, "in": "path", "required": True, "schema": _NAME} for name in names]


def _get(*, has_owner: bool) -> dict[str, Any]:
    return {
        "operationId": "getSharedDocument" if has_owner else "getDocument",
        "summary": "A document's values, or what a replica lacks of it.",
        "parameters": [
            {
                "name": "format", "in": "query", "schema": {"enum": ["json", "update"]},
                "description": "Counts before Accept. With a state vector, update is the default; else json.",
            },
            {
                "name": "root", "in": "query", "schema": {"type": "array", "items": {"type": "string"}},
                "description": "These roots alone (json).",
            },
            {"name": "If-None-Match", "in": "header", "schema": {"type": "string"}},
            {
                "name": "Syncline-State-Vector", "in": "header", "schema": {"type": "string"},
                "description": "What the replica has, as a v1 state vector in base64url: the update has the rest.",
            },
        ],
        "responses": {
            "200": {
                "description": "The document, empty if nobody has written to it.",
                "headers": _ETAG_HEADER | {
                    "Syncline-State-Vector": {
                        "schema": {"type": "string"}, "description": "The server's, with an update.",
                    }
                },
                "content": {
                    "application/json": {"schema": {"$ref": "#/components/schemas/Values"}},
                    "application/octet-stream": {"schema": {}},
                },
            },
            "304": {"description": "It is what If-None-Match says.", "headers": _ETAG_HEADER},
            **_problems(400, 401, 403, 423, 429, 500, 503),
        },
    }  # fmt: skip


def _post(*, has_owner: bool) -> dict[str, Any]:
    return {
        "operationId": "pushToSharedDocument" if has_owner else "pushToDocument",
        "summary": "Put a v1 update into a document. Answered when it is durable.",
        "parameters": [
            {
                "name": "Idempotency-Key", "in": "header",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "Optional: an update sent twice has no second effect in any case.",
            }
        ],
        "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {}}}},
        "responses": {
            "200": {
                "description": "It is in the log, on disk.",
                "headers": _ETAG_HEADER,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pushed"}}},
            },
            **_problems(400, 401, 403, 408, 409, 413, 415, 422, 423, 429, 500, 503),
        },
    }  # fmt: skip


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for place, has_owner in (("{name}", False), ("{owner}/{name}", True)):
        names = _of_document(has_owner=has_owner)
        paths[f"/v1/docs/{place}"] = {"parameters": names, "get": _get(has_owner=has_owner)}
        paths[f"/v1/docs/{place}/updates"] = {"parameters": names, "post": _post(has_owner=has_owner)}
    paths["/v1/docs:batch"] = {
        "post": {
            "operationId": "getDocuments",
            "summary": "The values of several documents.",
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Batch"}}},
            },
            "responses": {
                "200": {
                    "description": "An answer for each document, in order.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answers"}}},
                },
                **_problems(400, 401, 403, 408, 413, 415, 429, 503),
            },
        }
    }
    paths["/v1/openapi.json"] = {
        "get": {
            "operationId": "describe",
            "summary": "This description.",
            "security": [],
            "responses": {"200": {"description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {}}}}},
        }
    }
    return paths


_SCHEMAS: Final = {
    "Values": {
        "type": "object",
        "description": "The roots that are not empty, by name: texts as strings, maps as objects, arrays as arrays.",
    },
    "Pushed": {
        "type": "object",
        "required": ["seq", "changed", "etag"],
        "additionalProperties": False,
        "properties": {
            "seq": {"type": "integer", "minimum": 0, "description": "The log entry; 0 if there was nothing new."},
            "changed": {"type": "boolean"},
            "etag": {"type": "string"},
        },
    },
    "Batch": {
        "type": "object",
        "required": ["docs"],
        "additionalProperties": False,
        "properties": {
            "docs": {
                "type": "array",
                "minItems": 1,
                "maxItems": DOCUMENTS_MAX,
                "items": {
                    "type": "object",
                    "required": ["doc"],
                    "additionalProperties": False,
                    "properties": {
                        "doc": {"type": "string", "description": "name, or owner/name"},
                        "roots": {"type": ["array", "null"], "maxItems": ROOTS_MAX, "items": {"type": "string"}},
                        "etag": {"type": ["string", "null"], "description": "As If-None-Match."},
                    },
                },
            }
        },
    },
    "Answers": {
        "type": "object",
        "required": ["docs"],
        "additionalProperties": False,
        "properties": {
            "docs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["doc", "status"],
                    "additionalProperties": False,
                    "properties": {
                        "doc": {"type": "string"},
                        "status": {"type": "integer", "description": "As if it had been asked for by itself."},
                        "etag": {"type": "string"},
                        "values": {"$ref": "#/components/schemas/Values"},
                        "problem": _PROBLEM,
                    },
                },
            }
        },
    },
    "Problem": {
        "type": "object",
        "required": ["title", "status", "code", "detail"],
        "additionalProperties": False,
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string"},
            "detail": {"type": "string", "description": "For people."},
            "state_vector": {"type": "string", "description": "The server's, in base64url."},
            "reason": {"type": "string"},
        },
    },
}

DESCRIPTION: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {"title": "Syncline", "version": "1", "description": "Documents over HTTP."},
    "security": [{"token": []}],
    "paths": _paths(),
    "components": {
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        "headers": {"ETag": {"schema": {"type": "string"}, "description": "The document's version, a weak validator."}},
        "responses": {name: _response(status) for status, name in _RESPONSES.items()},
        "schemas": _SCHEMAS,
    },
}
