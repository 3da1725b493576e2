"""What is registered, in memory: modules by id and version, and the pages of their list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from devkit_api import jsonio
from devkit_api.errors import ModuleNotChosen, ModuleNotFound, ModuleSuspended
from devkit_api.modules.models import Module
from devkit_api.schemas import pagination


class ModuleIndex:
    """Modules by id and version. The version registered last is the current one."""

    def __init__(self) -> None:
        self._versions: dict[str, dict[str, Module]] = {}
        self._views: dict[tuple[Any, ...], bytes] = {}

    @property
    def count(self) -> int:
        """How many modules are registered."""
        return len(self._versions)

    def current(self) -> Iterator[Module]:
        """Every module in its current version."""
        return (self.get(module_id) for module_id in list(self._versions))

    @property
    def bundle_digests(self) -> set[str]:
        """Digests of the bundles that registered modules use."""
        return {module.bundle.digest for module in self.every() if module.bundle}

    def every(self, module_id: str | None = None) -> list[Module]:
        """Every version of every module, or of one."""
        known = self._versions.values() if module_id is None else [self._versions.get(module_id, {})]
        return [module for versions in known for module in versions.values()]

    def find(self, module_id: str, version: str | None = None) -> Module | None:
        """The module, or None."""
        versions = self._versions.get(module_id)
        if not versions:
            return None
        if version:
            return versions.get(version)
        newest_first = list(reversed(versions.values()))
        return next((module for module in newest_first if not module.is_suspended), newest_first[0])

    def startable(self, module_id: str, version: str | None = None) -> Module:
        """As `get`, for a new run. Raises `ModuleSuspended` as well."""
        module = self.get(module_id, version)
        if module.is_suspended:
            raise ModuleSuspended(module_id=module.module_id, version=module.version)
        return module

    def by_uuid(self, uuid: str) -> str:
        """The id of the module with this UUID. Raises `ModuleNotFound`."""
        for module_id in self._versions:
            if self.get(module_id).uuid == uuid:
                return module_id
        raise ModuleNotFound(module_id=uuid, version="")

    def get(self, module_id: str, version: str | None = None) -> Module:
        """The module in `version`, or its current one. Raises `ModuleNotFound`."""
        module = self.find(module_id, version)
        if module is None:
            suffix = f" in version {version[:40]!r}" if version and module_id in self._versions else ""
            raise ModuleNotFound(module_id=module_id[:100], version=suffix)
        return module

    def only_with_page(self) -> Module:
        """The one module that has a page. Raises `ModuleNotChosen` when there is none, or more than one."""
        pages = sorted(module_id for module_id in self._versions if self.get(module_id).has_page)
        if len(pages) != 1:
            shown = ", ".join(pages[:5]) + (", …" if len(pages) > 5 else "")
            reason = f"{len(pages)} have a page ({shown})" if pages else "none of the registered ones has a page"
            raise ModuleNotChosen(reason=reason, details={"modules": pages[:20]})
        return self.get(pages[0])

    def versions(self, module_id: str) -> list[str]:
        """Registered versions of a module, the current one last."""
        return list(self._versions.get(module_id, ()))

    def page(self, *, page: int, limit: int, category: str | None = None, search: str | None = None) -> bytes:
        """`{"items", "pagination"}` as JSON, made once per registry change and question."""
        question = (page, limit, category, search)
        view = self._views.get(question)
        if view is None:
            if len(self._views) > 64:
                self._views.clear()
            view = self._views[question] = self._render(page, limit, category, search)
        return view

    def _render(self, page: int, limit: int, category: str | None, search: str | None) -> bytes:
        modules = [self.get(module_id) for module_id in sorted(self._versions)]
        items = [module.summary() for module in modules]
        if category:
            items = [item for item in items if item["category"] == category]
        if search:
            needle = search.casefold()
            items = [i for i in items if needle in f"{i['id']} {i['display_name']} {i['description']}".casefold()]
        shown = items[(page - 1) * limit : page * limit]
        return jsonio.dumps({"items": shown, "pagination": pagination(page=page, limit=limit, total=len(items))})

    def _remember(self, module: Module) -> None:
        versions = self._versions.setdefault(module.module_id, {})
        if module.source_problem is None and not module.is_suspended:
            versions.pop(module.version, None)  # registered last, listed last: the current version
        versions[module.version] = module
        self._views.clear()

    def _replace(self, module: Module) -> None:
        """The same registration with other words about it: it keeps its place among the versions."""
        self._versions[module.module_id][module.version] = module
        self._views.clear()

    def _forget(self, module: Module) -> None:
        versions = self._versions.get(module.module_id, {})
        versions.pop(module.version, None)
        if not versions:
            self._versions.pop(module.module_id, None)
        self._views.clear()

    def _forget_all(self) -> None:
        self._versions.clear()
        self._views.clear()
