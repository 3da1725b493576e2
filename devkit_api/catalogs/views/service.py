"""Saved queries: kept with the versions they are pinned to, run through the same door as any query."""

from __future__ import annotations

import os
import re
from typing import Any

import attrs
from psycopg2.extras import Json

from devkit_api.catalogs.control.admin import uuid
from devkit_api.catalogs.models import Scope
from devkit_api.catalogs.service import CatalogService
from devkit_api.catalogs.sqldoor import SqlLimits, describe, run_query
from devkit_api.catalogs.views.export import as_stream, write_table
from devkit_api.catalogs.views.schemas import ViewSchema
from devkit_api.catalogs.views.selection import table_of
from devkit_api.database.pool import Pool, fetch, write
from devkit_api.errors import (
    CatalogNotFound,
    DataContextInvalid,
    DataViewNotFound,
    DevkitError,
    Forbidden,
    RequestInvalid,
)
from devkit_api.ids import utc_now
from devkit_api.jsonio import loads_trusted
from devkit_api.objects.addresses import Addresses
from devkit_api.objects.namespaces import VIEW_EXPORTS
from devkit_api.objects.protocol import Expected, ObjectStore
from devkit_api.objects.view_inputs import CONTENT_TYPES, Selection, ViewTables, refusal
from devkit_api.schemas import field_error, load
from devkit_api.security.principals import Principal, Role

Document = dict[str, Any]

NAMESPACE = VIEW_EXPORTS
_KEPT_EXPORTS = 10
_URL_SECONDS = 3600
_COLUMNS = (
    "view_id::text, name, definition, user_id, organization_id, to_json(created_at)#>>'{}', to_json(updated_at)#>>'{}'"
)
_VIEW = ViewSchema()


@attrs.frozen
class View:
    """One saved view. Every source of `definition` names its catalog, and its version unless it follows the current."""

    view_id: str
    name: str
    definition: Document
    user_id: str
    organization_id: str
    created_at: str
    updated_at: str

    @property
    def is_named(self) -> bool:
        """Whether it has several queries, each with a name."""
        return "sources" in self.definition

    @property
    def sources(self) -> list[Document]:
        """The queries: those of a named view, or the only one, without a name."""
        found: list[Document] = self.definition.get("sources") or [self.definition]
        return found

    def view(self) -> Document:
        """For answers."""
        return {
            "id": self.view_id,
            "name": self.name,
            **self.definition,
            "createdBy": self.user_id,
            "createdAt": self.created_at,
            "updatedAt": self.updated_at,
        }


class ViewService:
    """Data views of the organisation: everyone reads them, their authors and administrators change them."""

    def __init__(self, catalogs: CatalogService, limits: SqlLimits, objects: ObjectStore, addresses: Addresses) -> None:
        self._catalogs, self._limits, self._objects, self._addresses = catalogs, limits, objects, addresses

    @property
    def _pool(self) -> Pool:
        return self._catalogs.database.owner

    async def list(self, principal: Principal, *, limit: int, page: int) -> tuple[list[Document], int]:
        """A page of the views `principal` may see, newest first, and how many there are."""
        condition, values = _visible(principal)
        rows = await fetch(
            self._pool,
            f"SELECT {_COLUMNS} FROM devkit.data_views WHERE {condition}"  # noqa: S608
            " ORDER BY created_at DESC, view_id LIMIT %s OFFSET %s",
            [*values, limit, (page - 1) * limit],
        )
        total = await fetch(self._pool, f"SELECT count(*) FROM devkit.data_views WHERE {condition}", values)  # noqa: S608
        return [View(*row).view() for row in rows], total[0][0]

    async def get(self, view_id: str, principal: Principal) -> View:
        """One view. Raises `DataViewNotFound`, also when it is another organisation's."""
        condition, values = _visible(principal)
        statement = f"SELECT {_COLUMNS} FROM devkit.data_views WHERE view_id = %s AND {condition}"  # noqa: S608
        rows = await fetch(self._pool, statement, [uuid(view_id), *values])
        if not rows:
            raise DataViewNotFound(view_id=view_id[:50])
        return View(*rows[0])

    async def create(self, body: Document, principal: Principal) -> Document:
        """Save a view. Its queries are checked by the database, not run."""
        definition = await self._definition(load(_VIEW, body))
        rows = await write(
            self._pool,
            "INSERT INTO devkit.data_views (name, definition, user_id, organization_id) VALUES (%s, %s, %s, %s)"  # noqa: S608
            f" RETURNING {_COLUMNS}",
            [body["name"], Json(definition), principal.user_id, principal.organization_id],
        )
        return View(*rows[0]).view()

    async def update(self, view_id: str, body: Document, principal: Principal) -> Document:
        """Change what is named."""
        view = await self._own(view_id, principal)
        kept = {k: v for k, v in view.definition.items() if k != "columns"}
        if "sources" in body:
            kept = {k: v for k, v in kept.items() if k == "description"}
        kept["sources"] = [{k: v for k, v in s.items() if k != "columns"} for s in kept.get("sources", [])]
        kept = {k: v for k, v in kept.items() if k != "sources" or v}
        changed = {"name": view.name, **kept, **body}
        if changed.get("versionPinMode") == "current":
            changed.pop("catalogVersionId", None)
        definition = await self._definition(load(_VIEW, changed))
        rows = await write(
            self._pool,
            "UPDATE devkit.data_views SET name = %s, definition = %s, updated_at = now() WHERE view_id = %s"  # noqa: S608
            f" RETURNING {_COLUMNS}",
            [changed["name"], Json(definition), view.view_id],
        )
        if not rows:
            raise DataViewNotFound(view_id=view_id[:50])
        return View(*rows[0]).view()

    async def delete(self, view_id: str, principal: Principal) -> Document:
        """Forget a view; files exported from it stay until their addresses expire."""
        view = await self._own(view_id, principal)
        await write(self._pool, "DELETE FROM devkit.data_views WHERE view_id = %s RETURNING 1", [view.view_id])
        return {"id": view.view_id, "status": "deleted"}

    async def status(self, view_id: str, principal: Principal) -> Document:
        """Whether each query can be run now, and at which version."""
        view = await self.get(view_id, principal)
        sources = [await self._source_status(source) for source in view.sources]
        ready = all(source["status"] == "ready" for source in sources)
        return {"id": view.view_id, "status": "ready" if ready else "unavailable", "sources": sources}

    async def refresh(self, view_id: str, principal: Principal) -> Document:
        """Run every query at its version; how many rows each has."""
        view = await self._own(view_id, principal)
        counted = []
        for source in view.sources:
            scope, answer = await self._run(source)
            counted.append({**_named(source, scope), "status": "ready", "rowCount": answer["count"]})
        return {"id": view.view_id, "status": "ready", "refreshedAt": utc_now(), "sources": counted}

    async def export(self, view_id: str, form: str, principal: Principal) -> Document:
        """The rows as files, with addresses that are good for an hour."""
        view = await self._own(view_id, principal)
        form = form.upper()
        prefix = f"{view.view_id}/{utc_now()}-{os.urandom(4).hex()}"
        files = []
        for source in view.sources:
            scope, answer = await self._run(source)
            table = await write_table(answer["columns"], answer["data"], form)
            slug = re.sub(r"[^A-Za-z0-9._-]+", "-", source.get("name") or view.name).strip("-.")[:60] or "view"
            name = f"{prefix}/{slug}.{form.lower()}"
            info = {"content_type": CONTENT_TYPES[form], "metadata": {}}
            stored = await self._objects.put(
                NAMESPACE, name, as_stream(table.content), Expected(len(table.content), table.sha256), info
            )
            url = await self._addresses.get(NAMESPACE, stored, _URL_SECONDS)
            files.append(
                {**_named(source, scope), "filename": name.rsplit("/", 1)[1], "downloadUrl": url,
                 "sizeBytes": stored.size, "sha256": stored.sha256, "rowCount": answer["count"]}
            )  # fmt: skip
        await self._prune(view.view_id)
        first = files[0] if len(files) == 1 else {}
        return {
            "id": view.view_id, "format": form, "status": "completed", "expiresIn": _URL_SECONDS, "files": files,
            **{k: first[k] for k in ("downloadUrl", "rowCount", "sizeBytes", "sha256") if k in first},
        }  # fmt: skip

    async def tables(self, wanted: Selection, principal: Principal) -> ViewTables:
        """The rows of a view now, for a run to read. Raises `DataContextInvalid`."""
        try:
            view = await self.get(wanted.view_id, principal)
            if view.is_named and wanted.selected_ids:
                raise refusal("selectedIds", "cannot choose from a view of several sources")
            tables = [await table_of(s.get("name"), *await self._run(s), wanted) for s in view.sources]
        except DataContextInvalid:
            raise
        except DevkitError as exc:
            if exc.status >= 500:
                raise
            raise refusal("viewId", f"cannot be read: {exc.message.rstrip('.')}") from None
        return ViewTables(tables, view.is_named)

    async def clear(self) -> None:
        """Remove every exported file."""
        await self._objects.delete_namespace(NAMESPACE)

    async def _own(self, view_id: str, principal: Principal) -> View:
        view = await self.get(view_id, principal)
        if not principal.may_see(view.user_id, view.organization_id):
            raise Forbidden(reason="only its author or an administrator changes a data view")
        return view

    async def _definition(self, loaded: Document) -> Document:
        """The view's own fields, each query pinned and with its columns."""
        rest = {k: v for k, v in loaded.items() if k == "description"}
        if "sources" in loaded:
            sources = [await self._pinned(source) for source in loaded["sources"]]
            return {**rest, "composition": "named", "sources": sources}
        own = {k: v for k, v in loaded.items() if k not in {"name", "composition", "description"}}
        return {**rest, "composition": "single", **await self._pinned(own)}

    async def _pinned(self, source: Document) -> Document:
        source = {k: str(v) if k in {"catalogId", "catalogVersionId"} else v for k, v in source.items()}
        mode = source.get("versionPinMode", "pinned")
        if mode == "current" and "catalogVersionId" in source:
            raise _wrong("catalogVersionId", "follows the current version with versionPinMode 'current': leave it out")
        scope = await self._scope(source)
        made = {
            **source,
            "catalogId": scope.catalog.catalog_id,
            "providerKey": scope.catalog.provider,
            "catalogKey": scope.catalog.key,
            "versionPinMode": mode,
        }
        if mode == "pinned":
            made["catalogVersionId"] = scope.version.version_id
        columns = await describe(
            self._catalogs.database.reader, scope, self._limits, source["sql"], source.get("params", [])
        )
        return {**made, "columns": columns}

    async def _scope(self, source: Document) -> Scope:
        """The version a query reads. Names and id of the catalog must agree."""
        version = source.get("catalogVersionId")
        if "catalogId" in source:
            found = await self._catalogs.by_id(source["catalogId"])
            provider, key = source.get("providerKey", found.provider), source.get("catalogKey", found.key)
            if (provider, key) != (found.provider, found.key):
                raise _wrong("catalogId", f"is the catalog {found.name}, not {provider}/{key}")
        elif "providerKey" in source and "catalogKey" in source:
            provider, key = source["providerKey"], source["catalogKey"]
        else:
            raise _wrong("catalogId", "is needed, or providerKey and catalogKey")
        return await self._catalogs.resolve(provider, key, version)

    async def _source_status(self, source: Document) -> Document:
        try:
            return {**_named(source, await self._scope(source)), "status": "ready"}
        except (CatalogNotFound, DevkitError) as exc:
            named = {"name": source["name"]} if "name" in source else {}
            return {**named, "status": "unavailable", "error": {"code": exc.code, "message": exc.message}}

    async def _run(self, source: Document) -> tuple[Scope, Document]:
        scope = await self._scope(source)
        raw = await run_query(
            self._catalogs.database.reader, scope, self._limits, source["sql"], source.get("params", [])
        )
        answer: Document = loads_trusted(raw)
        return scope, answer

    async def _prune(self, view_id: str) -> None:
        found, _ = await self._objects.list(NAMESPACE, prefix=f"{view_id}/", after="", limit=1000)
        exports = sorted({info.name.rsplit("/", 1)[0] for info in found})
        for info in found:
            if info.name.rsplit("/", 1)[0] in exports[:-_KEPT_EXPORTS]:
                await self._objects.delete(NAMESPACE, info.name)


def _visible(principal: Principal) -> tuple[str, list[str]]:
    """The condition that a view is of the caller's organisation, and its values."""
    if principal.role is Role.PLATFORM_ADMIN:
        return "TRUE", []
    return "organization_id = %s", [principal.organization_id]


def _named(source: Document, scope: Scope) -> Document:
    named = {"name": source["name"]} if "name" in source else {}
    return {**named, "catalogId": scope.catalog.catalog_id, "catalogVersionId": scope.version.version_id}


def _wrong(field: str, message: str) -> DevkitError:
    return field_error(RequestInvalid, [{"path": f"/{field}", "message": message}])
