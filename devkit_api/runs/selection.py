"""Inputs that take a data selection (`x-hla-data-role`): filled from a run's data context, or naming one themselves.

The platform maps what a run selects onto the marked fields. So a caller may give a data context and leave the fields
out, or give the fields and no context; given both, they must agree.
"""

from __future__ import annotations

from typing import Any

import attrs

from devkit_api.modules.data_roles import DataRole, data_fields, defaults

Finding = dict[str, Any]
# Where a data context has what a role names; `view_inputs.selection_of` and `file_of` read it from there.
_MEMBERS = {
    DataRole.VIEW_ID: "viewId",
    DataRole.URI: "uri",
    DataRole.IDS: "selectedIds",
    DataRole.ID_COLUMN: "idColumn",
    DataRole.FORMAT: "format",
}
_NAMES_DATA = ("sources", "viewId", "view_id", "uri", "selection_uri", "selection", "materialization")
_SELECT = "what the run's data context selects: a saved view, an uploaded file or named sources in `dataContext`"
_SELECT_ONE = "what the run's data context selects: a saved view or an uploaded file in `dataContext`, of one source"


@attrs.frozen
class DataFields:
    """The marked fields of one module."""

    roles: dict[str, DataRole]
    defaults: dict[str, Any]

    @classmethod
    def of(cls, contract: dict[str, Any] | None) -> DataFields:
        """The marked fields of a contract."""
        return cls(data_fields(contract), defaults(contract))

    def asked(self, parameters: dict[str, Any], context: dict[str, Any] | None) -> dict[str, Any] | None:
        """The data context of a run: the one given, else the one its marked fields name, else what was given."""
        if context and any(name in context for name in _NAMES_DATA):
            return context
        wanted = {role: self._value(role, parameters) for role in _MEMBERS}
        if wanted[DataRole.VIEW_ID] is not None:
            # An address beside it is not what is read, and must turn out to be the view's.
            kind, wanted[DataRole.URI] = "data_view", None
        elif wanted[DataRole.URI] is not None:
            kind = "uri"
        else:
            return context
        made = {_MEMBERS[role]: value for role, value in wanted.items() if value is not None}
        return {"type": kind, **(context or {}), **made}

    def filled(
        self, parameters: dict[str, Any], context: dict[str, Any], manifest_uri: str
    ) -> tuple[dict[str, Any], list[Finding]]:
        """The parameters with every marked field as the frozen `context` has it, and what contradicts it."""
        selected = _selected(context, manifest_uri)
        made, findings = dict(parameters), []
        for name, role in self.roles.items():
            given = _present(parameters.get(name))
            if given is not None and not _agrees(role, given, selected.get(role), context):
                findings.append(_contradiction(name, role, selected.get(role)))
            elif role in selected:
                made[name] = selected[role]
        return made, findings

    def stray(self, parameters: dict[str, Any]) -> list[Finding]:
        """What only a data context can give, in a run that has none."""
        return [
            {"path": _pointer(name), "message": "is made when the inputs of a run are frozen", "expected": _SELECT}
            for name, role in self.roles.items()
            if role is DataRole.MANIFEST_URI and _present(parameters.get(name)) is not None
        ]

    def explained(self, findings: list[Finding]) -> list[Finding]:
        """Findings about parameters; what misses a marked field says where its value comes from."""
        marked = {_pointer(name): role for name, role in self.roles.items()}
        return [
            {**found, "expected": _SELECT_ONE if marked[found["path"]] is DataRole.URI else _SELECT}
            if found["path"] in marked and found["message"] == "is missing"
            else found
            for found in findings
        ]

    def located(self, findings: list[Finding]) -> list[Finding] | None:
        """Findings about a context that was made of the fields, as findings about them; None if one is about none."""
        names = {role: name for name, role in reversed(self.roles.items())}
        paths = {f"/dataContext/{member}": _pointer(names[role]) for role, member in _MEMBERS.items() if role in names}
        if any(found["path"] not in paths for found in findings):
            return None
        return [{**found, "path": paths[found["path"]]} for found in findings]

    def _value(self, role: DataRole, parameters: dict[str, Any]) -> Any:
        """What the fields of a role ask for. A default asks for nothing by itself."""
        names = [name for name, other in self.roles.items() if other is role]
        given = [parameters[name] for name in names if _present(parameters.get(name)) is not None]
        if not given and role in (DataRole.ID_COLUMN, DataRole.FORMAT):
            given = [self.defaults[name] for name in names if _present(self.defaults.get(name)) is not None]
        return given[0] if given else None


def _selected(context: dict[str, Any], manifest_uri: str) -> dict[DataRole, Any]:
    """What a frozen context gives each role. Of several sources no one is the selection."""
    sources = context["sources"]
    inner = context.get("selection")
    about = inner if isinstance(inner, dict) else context
    found = {
        DataRole.MANIFEST_URI: manifest_uri,
        DataRole.URI: sources[0]["uri"] if len(sources) == 1 else None,
        DataRole.FORMAT: sources[0].get("format") if len(sources) == 1 else "JSON",
        DataRole.VIEW_ID: context.get("view_id"),
        DataRole.IDS: about.get("selected_ids", about.get("selectedIds")),
        DataRole.ID_COLUMN: about.get("id_column", about.get("idColumn")),
    }
    return {role: value for role, value in found.items() if _present(value) is not None}


def _agrees(role: DataRole, given: Any, selected: Any, context: dict[str, Any]) -> bool:
    """Whether a field says what was selected; an address may also be the one that was copied."""
    if role is DataRole.URI and selected is not None:
        return given in (selected, context["sources"][0].get("origin"))
    if role is DataRole.IDS and isinstance(given, list) and isinstance(selected, list):
        return [str(item) for item in given] == [str(item) for item in selected]
    if role in (DataRole.FORMAT, DataRole.VIEW_ID):
        return str(given).upper() in (str(selected).upper(), "AUTO" if role is DataRole.FORMAT else "")
    return bool(given == selected)


def _contradiction(name: str, role: DataRole, selected: Any) -> Finding:
    if selected is None:
        message = "is nothing the data context selects"
        several = role is DataRole.URI
        expected = "a context with one source; `selection.manifest_uri` takes several" if several else "no such field"
    else:
        message, expected = "is not what the data context selects", f"{str(selected)[:200]}, or no such field"
    return {"path": _pointer(name), "message": message, "expected": expected}


def _present(value: Any) -> Any:
    """The value; None for what a form leaves empty."""
    return None if value in ("", []) else value


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
