"""The API reference as a page: no script, no inline style, nothing from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from devkit_api.apidocs import style

_ASSETS = Path(__file__).parent / "assets"


@attrs.frozen
class Operation:
    """What the page shows of one operation."""

    method: str
    path: str
    anchor: str
    summary: str
    description: str
    auth: str
    parameters: list[dict[str, Any]]
    bodies: list[dict[str, str]]
    answers: list[dict[str, Any]]


def render(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document that `document.build` made."""
    environment = Environment(
        loader=FileSystemLoader(_ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    groups: dict[str, list[Operation]] = {tag["name"]: [] for tag in document.get("tags", [])}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            groups[operation["tags"][0]].append(_operation(method, path, operation, document["components"]))
    shapes = {name: _pretty(shape) for name, shape in document["components"]["schemas"].items()}
    return environment.get_template("reference.html.j2").render(
        info=document["info"], groups=groups, shapes=shapes, style=style.address()
    )


def _operation(method: str, path: str, operation: dict[str, Any], components: dict[str, Any]) -> Operation:
    content = operation.get("requestBody", {}).get("content", {})
    bodies = [
        {"media": media, "shape": _shape_name(told), "example": _pretty(told["example"]) if "example" in told else ""}
        for media, told in content.items()
    ]
    answers = [
        {"status": status, "about": told["description"], "media": ", ".join(told.get("content", {}))}
        for status, found in operation["responses"].items()
        for told in [components["responses"][found["$ref"].rsplit("/", 1)[-1]] if "$ref" in found else found]
    ]
    return Operation(
        method=method.upper(),
        path=path,
        anchor=operation["operationId"],
        summary=operation["summary"],
        description=operation["description"],
        auth=", ".join(name for option in operation["security"] for name in option) or "none",
        parameters=operation.get("parameters", []),
        bodies=bodies,
        answers=answers,
    )


def _shape_name(told: dict[str, Any]) -> str:
    return str(told.get("schema", {}).get("$ref", "")).rsplit("/", 1)[-1]


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
