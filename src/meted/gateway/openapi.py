"""The doors described in OpenAPI 3.1: paths written once as data, schemas from the types."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from meted import __version__
from meted.domain.job import JobKind
from meted.gateway import answers, bodies, money_bodies
from meted.gateway.admin import JOB_VERBS, DeploymentBody
from meted.gateway.levers import FrontBody, RolloutBody
from meted.gateway.money_bodies import (
    AUDIT_ROWS,
    BILL_ROWS,
    MOST_AUDIT_ROWS,
    MOST_BILL_ROWS,
    MOST_DIMENSIONS,
)
from meted.live.books import Dimension
from meted.live.job_codec import SPECS

Access = Literal["none", "key", "admin"]
Schema = dict[str, Any]

FREE: Any = dict[str, Any]
ROWS: Any = list[dict[str, Any]]
HOT_ERRORS = (402, 404, 429, 503, 504)
REFERENCE = "#/components/schemas/{name}"
PHRASES = {
    400: "A field, a parameter or the body is wrong; `param` names it.",
    401: "No key, or one that is unknown or revoked.",
    402: "No budget has the money, and waiting does not help.",
    403: "The key is no admin key.",
    404: "There is nothing of that name.",
    405: "The method is not one of this path.",
    408: "The body did not come whole in time.",
    409: "It is there already, or cannot be changed this way.",
    413: "The body is too large.",
    415: "The body is compressed.",
    429: "Over a rate limit of the key, or a budget's money is reserved; `Retry-After` says when.",
    500: "The request failed.",
    503: "The queue is full, the store is down, or the house is starting or stopping.",
    504: "The request expired.",
}
MOMENT = "ISO 8601 with a zone, or microseconds since 1970"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parameter of the query."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One door. answer: its type, or the media type of its text. body: its type, or several of
    which it is one. errors: besides the usual ones."""

    method: str
    path: str
    summary: str
    access: Access
    answer: Any
    body: Any = None
    query: tuple[Query, ...] = ()
    errors: tuple[int, ...] = ()
    streams: bool = False


def _rows_query(default: int, most: int) -> Query:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Query(name="limit", schema=schema, description="Most rows.")


BILL_QUERY = (
    Query(
        name="by",
        schema={
            "type": "array",
            "items": {"type": "string", "enum": [str(one) for one in Dimension]},
            "maxItems": MOST_DIMENSIONS,
            "uniqueItems": True,
        },
        description="Break down by this; give it twice for two dimensions. Default: kind.",
    ),
    Query(name="from", schema={"type": "string"}, description=f"From this moment on: {MOMENT}."),
    Query(name="to", schema={"type": "string"}, description=f"Before this moment: {MOMENT}."),
    _rows_query(BILL_ROWS, MOST_BILL_ROWS),
)


def _operation(
    method: str, path: str, summary: str, access: Access, answer: Any, **more: Any
) -> Operation:
    return Operation(
        method=method, path=path, summary=summary, access=access, answer=answer, **more
    )


LEVERS: tuple[Operation, ...] = (
    _operation("GET", "/meted/v1/rollouts", "The rollouts, oldest first", "admin", ROWS),
    _operation(
        *("POST", "/meted/v1/rollouts", "Compare a second version, and serve it if it saves"),
        *("admin", FREE),
        body=RolloutBody,
        errors=(404, 409),
    ),
    _operation(
        *("GET", "/meted/v1/rollouts/{name}", "A rollout, or a deployment's last", "admin", FREE),
        errors=(404,),
    ),
    _operation(
        *("DELETE", "/meted/v1/rollouts/{name}", "Return to the first version", "admin", FREE),
        errors=(404, 409),
    ),
    _operation("GET", "/meted/v1/receipts", "What each lever was measured to save", "admin", ROWS),
    _operation(
        *("GET", "/meted/v1/savings", "Receipts, and what the verified ones saved", "admin", FREE),
        errors=(503,),
    ),
    _operation(
        *("GET", "/meted/v1/fronts", "The last search of each deployment", "admin", ROWS),
        errors=(503,),
    ),
    _operation(
        *("POST", "/meted/v1/fronts", "Keep a search for the page", "admin", FREE),
        body=FrontBody,
        errors=(503,),
    ),
)

OPERATIONS: tuple[Operation, ...] = (
    _operation(
        *("POST", "/v1/chat/completions", "Answer a chat, whole or streamed", "key"),
        *(answers.ChatAnswer,),
        body=bodies.ChatBody,
        errors=HOT_ERRORS,
        streams=True,
    ),
    _operation(
        *("POST", "/v1/completions", "Continue a text, whole or streamed", "key"),
        *(answers.CompletionAnswer,),
        body=bodies.CompletionBody,
        errors=HOT_ERRORS,
        streams=True,
    ),
    _operation(
        *("POST", "/v1/embeddings", "Turn texts into vectors", "key", answers.EmbeddingsAnswer),
        body=bodies.EmbeddingsBody,
        errors=HOT_ERRORS,
    ),
    _operation(
        *("GET", "/v1/models", "The deployments", "key", answers.ModelsAnswer), errors=(429,)
    ),
    _operation(
        *("GET", "/v1/models/{name}", "One deployment", "key", answers.ModelAnswer),
        errors=(404, 429),
    ),
    _operation(
        *("GET", "/health", "Whether the house takes requests", "none", answers.HealthAnswer)
    ),
    _operation("GET", "/version", "The running version", "none", answers.VersionAnswer),
    _operation("GET", "/metrics", "Prometheus or OpenMetrics text", "none", "text/plain"),
    _operation("GET", "/openapi.json", "This description", "none", FREE),
    _operation("GET", "/meted/v1/status", "The house now", "admin", FREE),
    _operation("GET", "/meted/v1/timeline", "The last minutes", "admin", FREE),
    _operation("GET", "/meted/v1/predictions", "Predicted and measured step times", "admin", ROWS),
    _operation("GET", "/meted/v1/checkpoints", "Every checkpoint on disk", "admin", ROWS),
    _operation(
        *("GET", "/meted/v1/deployments", "What clients can ask for", "admin"),
        *(list[answers.DeploymentRow],),
    ),
    _operation(
        *("POST", "/meted/v1/deployments", "Serve a checkpoint", "admin", FREE),
        body=DeploymentBody,
        errors=(404, 409),
    ),
    _operation(
        *("DELETE", "/meted/v1/deployments/{name}", "Serve it no more", "admin", FREE),
        errors=(404,),
    ),
    _operation("GET", "/meted/v1/jobs", "The jobs, trainings and searches", "admin", ROWS),
    _operation(
        *("POST", "/meted/v1/jobs", "Queue a training or a search", "admin", FREE),
        body=tuple(SPECS.values()),
        errors=(404, 409),
    ),
    _operation(
        *("GET", "/meted/v1/jobs/{name}", "A job with its losses and its result"),
        *("admin", FREE),
        errors=(404,),
    ),
    *(
        _operation(
            *("POST", f"/meted/v1/jobs/{{name}}/{verb}", f"{verb.title()} a job", "admin", FREE),
            errors=(404, 409),
        )
        for verb in JOB_VERBS
    ),
    *LEVERS,
    _operation(
        "POST", "/meted/v1/shutdown", "Drain and end the house", "admin", answers.StatusAnswer
    ),
    _operation(
        *("GET", "/meted/v1/bill", "Usage, cost and price; a tenant sees its own", "key"),
        *(answers.BillAnswer,),
        query=BILL_QUERY,
        errors=(429, 503),
    ),
    _operation(
        *("GET", "/meted/v1/budgets", "How budgets stand; a tenant sees its own", "key"),
        *(list[answers.BudgetAnswer],),
        errors=(400, 429, 503),
    ),
    _operation(
        *("PUT", "/meted/v1/budgets/{name}", "Make or change a budget", "admin"),
        *(answers.BudgetAnswer,),
        body=money_bodies.BudgetBody,
        errors=(409, 503),
    ),
    _operation(
        *("DELETE", "/meted/v1/budgets/{name}", "Remove a budget", "admin"),
        *(answers.RemovedAnswer,),
        errors=(404, 503),
    ),
    _operation(
        *("GET", "/meted/v1/keys", "Keys without secrets; a tenant sees its own", "key"),
        *(list[answers.KeyAnswer],),
        errors=(400, 429, 503),
    ),
    _operation(
        *("POST", "/meted/v1/keys", "Make a key; its secret is shown once", "admin"),
        *(answers.NewKeyAnswer,),
        body=money_bodies.KeyBody,
        errors=(503,),
    ),
    _operation(
        *("POST", "/meted/v1/keys/{id}/rotate", "A new secret; the old is refused", "admin"),
        *(answers.NewKeyAnswer,),
        errors=(404, 503),
    ),
    _operation(
        *("DELETE", "/meted/v1/keys/{id}", "Refuse a key from now on", "admin"),
        *(answers.RevokedAnswer,),
        errors=(404, 503),
    ),
    _operation(
        *("GET", "/meted/v1/prices", "The price book", "admin", list[answers.PriceAnswer]),
        errors=(503,),
    ),
    _operation(
        *("POST", "/meted/v1/prices", "Append a price", "admin", answers.PriceAnswer),
        body=money_bodies.PriceBody,
        errors=(409, 503),
    ),
    _operation(
        *("GET", "/meted/v1/rates", "The rate book", "admin", list[answers.RateAnswer]),
        errors=(503,),
    ),
    _operation(
        *("POST", "/meted/v1/rates", "Append rates", "admin", answers.RateAnswer),
        body=money_bodies.RateBody,
        errors=(409, 503),
    ),
    _operation(
        *("GET", "/meted/v1/audit", "What admins did, newest first", "admin"),
        *(list[answers.AuditRow],),
        query=(_rows_query(AUDIT_ROWS, MOST_AUDIT_ROWS),),
        errors=(503,),
    ),
    _operation(
        *("POST", "/meted/v1/refresh", "Read keys, budgets, prices and rates again", "admin"),
        *(answers.RefreshedAnswer,),
        errors=(503,),
    ),
)


def description() -> dict[str, Any]:
    """The whole description, JSON-ready."""
    typed = [
        one
        for operation in OPERATIONS
        for one in (operation.answer, *_bodies(operation))
        if not isinstance(one, str)
    ]
    typed = [*{repr(one): one for one in (*typed, answers.ErrorAnswer)}.values()]
    found, components = msgspec.json.schema_components(typed, ref_template=REFERENCE)
    # Defaults of fields may be tuples, which JSON has as arrays.
    components = msgspec.json.decode(msgspec.json.encode(components))
    schemas = {repr(one): schema for one, schema in zip(typed, found, strict=True)}
    for kind, spec in SPECS.items():
        _complete_spec(components[spec.__name__], kind)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        described = _described(operation, schemas)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Meted",
            "version": __version__,
            "description": "OpenAI's protocol, and the house that serves, trains and keeps books.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "headers": _HEADERS,
        },
    }


def _bodies(operation: Operation) -> tuple[Any, ...]:
    """The types that a body may be of."""
    body: Any = operation.body
    if isinstance(body, tuple):
        return cast(tuple[Any, ...], body)
    return () if body is None else (body,)


def _complete_spec(schema: dict[str, Any], kind: JobKind) -> None:
    """A spec as the door takes it: told apart by its kind, and perhaps without a tenant."""
    schema["properties"] = {"kind": {"const": str(kind)}, **schema["properties"]}
    schema["required"].remove("tenant")
    if kind is not JobKind.TRAINING:
        schema["required"].append("kind")


def _described(operation: Operation, schemas: dict[str, Schema]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "responses": _responses(operation, schemas),
        "security": [] if operation.access == "none" else [{"key": []}],
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("name", "id")
        if f"{{{name}}}" in operation.path
    ]
    parameters += [
        {"name": one.name, "in": "query", "schema": one.schema, "description": one.description}
        for one in operation.query
    ]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        either = [schemas[repr(one)] for one in _bodies(operation)]
        schema = either[0] if len(either) == 1 else {"oneOf": either}
        content = {"application/json": {"schema": schema}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _responses(operation: Operation, schemas: dict[str, Schema]) -> dict[str, Any]:
    content: dict[str, Any]
    if isinstance(operation.answer, str):
        content = {operation.answer: {"schema": {"type": "string"}}}
    else:
        content = {"application/json": {"schema": schemas[repr(operation.answer)]}}
    if operation.streams:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    headers = {"x-meted-request-id": _header("x-meted-request-id")}
    if operation.body in (bodies.ChatBody, bodies.CompletionBody, bodies.EmbeddingsBody):
        headers |= {name: _header(name) for name in _HEADERS}
    responses: dict[str, Any] = {
        "200": {"description": operation.summary, "content": content, "headers": headers}
    }
    if operation.path == "/health":
        responses["503"] = {"description": PHRASES[503], "content": content}
    refused = {"application/json": {"schema": schemas[repr(answers.ErrorAnswer)]}}
    for status in _errors(operation):
        responses[str(status)] = {"description": PHRASES[status], "content": refused}
    return responses


def _errors(operation: Operation) -> Sequence[int]:
    statuses = {*operation.errors}
    if operation.access != "none":
        statuses |= {401, 500}
    if operation.access == "admin":
        statuses.add(403)
    if operation.query:
        statuses.add(400)
    if operation.body is not None:
        statuses |= {400, 408, 413, 415}
    return sorted(statuses)


def _identifier(operation: Operation) -> str:
    """E.g. post_meted_v1_keys_id_rotate."""
    parts = operation.path.replace("{", "").replace("}", "").replace(".", "_").strip("/")
    return f"{operation.method.lower()}_{parts.replace('/', '_')}"


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _text_header(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "schema": {"type": "string"}}


_HEADERS = {
    "x-meted-request-id": _text_header("Names the request in the books and in the log."),
    "x-meted-cost-usd": _text_header("What the request cost us, in exact dollars."),
    "x-meted-price-usd": _text_header("What its tenant is charged, in exact dollars."),
    "x-meted-stopped": _text_header("`budget; name=NAME`: whose money ended the answer early."),
    "x-ratelimit-limit-requests": _text_header("Requests per minute of this key."),
    "x-ratelimit-remaining-requests": _text_header("What is left of them now."),
    "x-ratelimit-reset-requests": _text_header("The time until all are there again."),
    "x-ratelimit-limit-tokens": _text_header("Tokens per minute of this key."),
    "x-ratelimit-remaining-tokens": _text_header("What is left of them now."),
    "x-ratelimit-reset-tokens": _text_header("The time until all are there again."),
}
