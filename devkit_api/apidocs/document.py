"""The OpenAPI 3.1 document. Everything in it is read from the code: nothing is listed here.

Addresses come from the routes, who may call from the policy table, bodies and answers from the marshmallow schemas that
guard and describe the handlers, errors from the catalogue.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from devkit_api import __version__
from devkit_api.apidocs import failures
from devkit_api.describe import BYTES, JSON, Description, Shape, description_of
from devkit_api.routing import API, MACHINE_PLANE, Route
from devkit_api.security.policy import POLICIES, Policy
from devkit_api.security.principals import Kind

_PLACE = re.compile(r"\{(\w+)(?::[^{}]*)?\}")
_SECURITY = {
    Kind.API_KEY: "apiKey",  # pragma: allowlist secret
    Kind.SESSION: "session",
    Kind.RUN_TOKEN: "runToken",
}
_ABOUT = f"""The HLA-Compass platform on your own machine.

Every address below `{API}` is also served below `{MACHINE_PLANE}`, with the same handler and the same rules.
Lists come in pages, either by `page` and `limit` with a `pagination` block, or by `limit` and a token to go on from.
Every failure has one shape, `Error`; `error.code` is a code of the catalogue, and `error.docs` leads to its page.
Every answer carries `X-Correlation-ID`, which is also in the log. Too many requests are answered with 429 and
`Retry-After`."""
_SCHEMES: dict[str, dict[str, str]] = {
    "apiKey": {
        "type": "apiKey", "in": "header", "name": "X-API-Key",
        "description": "The key that `python -m devkit_api env` prints, or one of `devkit keys`.",
    },
    "session": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "A token of `/v1/auth/login` or of `python -m devkit_api token`.",
    },
    "runToken": {
        "type": "apiKey", "in": "header", "name": "X-API-Key",
        "description": "The token of one run: its module process holds it; an external run's creator gets it once.",
    },
}  # fmt: skip
# Examples of what stands in an address; a name that is not here has none.
_PLACES = {
    "module_id": "peptide-counter",
    "run_id": "devkit-run-01a205ae71880000fa24441e3945",
    "code": "RUN_NOT_FOUND",
    "provider": "alithea-bio",
    "catalog": "immunopeptidomics",
    "protein": "P03466",
    "namespace": "devkit-run-01a205ae71880000fa24441e3945",
    "filename": "peptides.csv",
    "version": "1.0.0",
    "upload_id": "upload-of-nobody",
    "publish_id": "publication-of-nobody",
    "deployment_id": "deployment-of-nobody",
    "artifact_id": "artifact-of-nobody",
    "report_id": "report-of-nobody",
    "part": "payload",
    "view_id": "0b54c1f2-6e0a-4d55-9c1f-3a2b1c0d9e8f",
    "name": "results/table.csv",
}
CORRELATION = {"description": "The request's id, also in the log.", "schema": {"type": "string"}}


def build(routes: Iterable[Route]) -> dict[str, Any]:
    """The document for these routes, the same for the same code."""
    spec = APISpec(
        title="HLA-Compass devkit",
        version=__version__,
        openapi_version="3.1.0",
        plugins=[MarshmallowPlugin(schema_name_resolver=_component_name)],
        info={"description": _ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": "/", "description": "The devkit that serves this document."}],
    )
    for name, scheme in _SCHEMES.items():
        spec.components.security_scheme(name, scheme)
    spec.components.schema("Error", failures.SCHEMA)
    spec.components.header("CorrelationId", CORRELATION)
    for code, example in failures.examples().items():
        spec.components.example(code, example)
    tags: dict[str, None] = {}
    shared: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PLACE.sub(r"{\1}", route.path)
        operation = _operation(route, path, shared)
        tags.update(dict.fromkeys(operation["tags"]))
        spec.path(path=path, operations={route.method.lower(): operation})
    for name, response in shared.items():
        spec.components.response(name, response)
    for tag in tags:
        spec.tag({"name": tag})
    return spec.to_dict()


def undescribed(routes: Iterable[Route]) -> list[str]:
    """Routes of which the reference knows no more than the address, the policy and the docstring."""
    return [f"{route.method} {route.path}" for route in routes if description_of(route.handler) is None]


def _operation(route: Route, path: str, shared: dict[str, dict[str, Any]]) -> dict[str, Any]:
    known = description_of(route.handler) or Description(answer={"type": "object"}, body_optional=True)
    policy = POLICIES[route.policy]
    about = inspect.cleandoc(route.handler.__doc__ or route.path)
    parameters = [_path_parameter(name) for name in _PLACE.findall(route.path)]
    takes_body = route.method in {"POST", "PUT", "PATCH"}
    query = () if takes_body and known.body is not None else known.query
    parameters += [
        {"name": p.name, "in": p.where, "schema": dict(p.schema), "description": p.about, "required": p.required}
        for p in query
    ]
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": _summary(about),
        "description": f"{about}\n\n{_who(route.policy, policy)}",
        "tags": [_tag(route)],
        "parameters": parameters,
        "security": _security(policy),
        "responses": {**_answers(known), **failures.responses(route, known, policy, shared)},
        "x-policy": route.policy,
    }
    if description_of(route.handler) is None:
        operation["x-described"] = False
    if takes_body and (body := _body(known)) is not None:
        operation["requestBody"] = body
    return operation


def _body(known: Description) -> dict[str, Any] | None:
    content: dict[str, Any] = {}
    if known.body is not None:
        content[JSON] = {"schema": _shape(known.body)}
        if known.example is not None:
            content[JSON]["example"] = dict(known.example)
    if known.form is not None:
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": dict(known.form)}}
    if known.binary_body:
        content[BYTES] = {"schema": {"type": "string", "format": "binary"}}
    return {"required": not known.body_optional, "content": content} if content else None


def _answers(known: Description) -> dict[str, Any]:
    headers = {"X-Correlation-ID": {"$ref": "#/components/headers/CorrelationId"}}
    first: dict[str, Any] = {"description": "Done.", "headers": headers}
    if known.answer is not None:
        first["content"] = {known.media: {"schema": _shape(known.answer)}}
    if known.links:
        first["links"] = {name: dict(link) for name, link in known.links.items()}
    answers = {str(known.status): first}
    for status, meaning in known.answers.items():
        answers[str(status)] = {**first, "description": meaning}
        if status in {204, 304, 416}:
            answers[str(status)].pop("content", None)
    return answers


def _shape(shape: Shape) -> Any:
    return shape if isinstance(shape, type) and issubclass(shape, Schema) else dict(shape)


def _component_name(schema: Any) -> str:
    given = schema if isinstance(schema, type) else type(schema)
    return str(given.__name__).removesuffix("Schema").lstrip("_")


def _path_parameter(name: str) -> dict[str, Any]:
    parameter = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**parameter, "example": _PLACES[name]} if name in _PLACES else parameter


def _operation_id(route: Route) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", _PLACE.sub(r"\1", route.path)).strip("_")
    return f"{route.method.lower()}_{words or 'index'}"


def _summary(about: str) -> str:
    """The first line of a docstring, without the address it begins with."""
    first = about.splitlines()[0]
    told = re.sub(r"^`[^`]*`(?: (?:with a query|\([^)]*\)))?[:.]?\s*", "", first).strip()
    return (told[:1].upper() + told[1:]).rstrip(".") if told else first.strip("`.")


def _tag(route: Route) -> str:
    return route.policy.split(":")[0]


def _who(name: str, policy: Policy) -> str:
    if Kind.ANONYMOUS in policy.kinds:
        return "Anybody may call it." if name != "objects:signed" else "The signature in the address is the credential."
    needs = [f"Policy `{name}`: role `{policy.role.value}` or above"]
    if policy.scope:
        needs.append(f"scope `{policy.scope}`")
    return ", ".join(needs) + (", and a run token only for its own run." if policy.own_run else ".")


def _security(policy: Policy) -> list[dict[str, list[str]]]:
    if Kind.ANONYMOUS in policy.kinds:
        return [{}]
    return [{_SECURITY[kind]: []} for kind in _SECURITY if kind in policy.kinds]
