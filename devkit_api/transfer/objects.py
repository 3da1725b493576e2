"""Files of a bucket in an export: in the form the file store has them, so that either kind of devkit can import them.

What the bucket's own versioning keeps of earlier versions stays there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs

from devkit_api.errors import DevkitError
from devkit_api.objects.describe import describe
from devkit_api.objects.file_index import Entry
from devkit_api.objects.files import FileObjectStore, place_of
from devkit_api.objects.namespaces import (
    CATALOG_IMPORTS,
    UPLOADS,
    VIEW_EXPORTS,
    prefix_of,
    run_files,
    run_inputs,
    run_reports,
)
from devkit_api.objects.protocol import Expected, ObjectInfo, ObjectStore
from devkit_api.settings import Settings
from devkit_api.transfer import TransferRefused
from devkit_api.transfer.archive import Writer
from devkit_api.transfer.layout import STATE

OBJECTS = "objects"
_MOST_DOCUMENT_BYTES = 64 * 1024 * 1024
T = TypeVar("T")
Await = Callable[[Coroutine[Any, Any, T]], T]


@asynccontextmanager
async def bucket_of(settings: Settings) -> AsyncIterator[ObjectStore | None]:
    """The bucket these settings name, open and found; None when files lie in the state directory."""
    if settings.s3_endpoint is None:
        yield None
        return
    from devkit_api.objects.s3 import S3ObjectStore  # an extra, and slow to import

    store = S3ObjectStore(settings, settings.state_dir)
    await store.open()
    try:
        yield store
    except DevkitError as exc:
        raise TransferRefused(f"{exc.message} {exc.hint}") from None
    finally:
        await store.close()


async def bytes_in(store: ObjectStore, state: Path) -> int:
    """How many bytes the files of this devkit have in the bucket."""
    total = 0
    for namespace in namespaces_of(state):
        async for page in _own_pages(store, namespace):
            total += sum(info.size for info in page)
    return total


def namespaces_of(state: Path) -> Iterator[str]:
    """Where in a bucket the files of this devkit are; those that belong to no run may be another one's."""
    yield from (UPLOADS, CATALOG_IMPORTS, VIEW_EXPORTS)
    planned = (str(document(path).get("run_id")) for path in sorted((state / "plans").glob("*/*.json")))
    runs = (path.stem for path in sorted((state / "runs").glob("*/*.json")))
    for run_id in dict.fromkeys([*runs, *planned]):
        yield from (run_files(run_id), run_inputs(run_id), run_reports(run_id))


def pack(store: ObjectStore, state: Path, writer: Writer, wait: Await[Any], count: Callable[[int], None]) -> None:
    """Add every file of the bucket to an archive. Blocking; `wait` runs what the store does."""
    for namespace in namespaces_of(state):
        pages = _own_pages(store, namespace)
        while (page := wait(anext(pages, None))) is not None:
            for info in wait(describe(store, namespace, page)):
                _pack_one(store, namespace, info, writer, wait)
                count(info.size)


def _pack_one(store: ObjectStore, namespace: str, info: ObjectInfo, writer: Writer, wait: Await[Any]) -> None:
    made = datetime.fromisoformat(info.created_at).timestamp()
    # As the file store counts versions: a time of change, and a size.
    stored = attrs.evolve(info, version=f"{int(made * 1e9):x}-{info.size:x}")
    content, about = place_of(Path(STATE) / OBJECTS, namespace, stored)
    source = _Source(store.read(namespace, info.name, version=info.version), wait)
    sha256 = writer.add_stream(content.as_posix(), source, info.size, mtime=int(made))
    if info.sha256 not in {"", sha256}:
        raise TransferRefused(f"{prefix_of(namespace)}{info.name} does not have its SHA-256 any more")
    writer.add_bytes(about.as_posix(), Entry(attrs.evolve(stored, sha256=sha256)).document(), mtime=int(made))


class _Source:
    """An asynchronous stream, read by a thread."""

    def __init__(self, stream: AsyncIterator[bytes], wait: Await[Any]) -> None:
        self._stream = stream
        self._wait = wait
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            chunk = self._wait(anext(self._stream, None))
            if chunk is None:
                return b""
            self._rest = chunk
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class Delivery:
    """Unpacked files on their way into a bucket; what was there before is never changed."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._sent: list[tuple[str, str]] = []

    async def send(self, folder: Path) -> None:
        """Put every file of a file store. Raises `TransferRefused` when the bucket holds another one of a name."""
        staged = FileObjectStore(folder)
        for path in sorted(folder.glob("[0-9a-f][0-9a-f]/*")):
            async for page in _pages(staged, path.name):
                for info in page:
                    assert isinstance(info, ObjectInfo)  # noqa: S101  the file store tells all
                    await self._send_one(staged, path.name, info)

    async def undo(self) -> None:
        """Remove what was put."""
        for namespace, name in self._sent:
            await self._store.delete(namespace, name)

    async def _send_one(self, staged: FileObjectStore, namespace: str, info: ObjectInfo) -> None:
        known = await self._store.stat(namespace, info.name)
        if known is not None:
            if (known.size, known.sha256) != (info.size, info.sha256):
                raise TransferRefused(
                    f"the bucket holds another {prefix_of(namespace)}{info.name}; use an empty bucket"
                )
            return
        self._sent.append((namespace, info.name))
        about = {"content_type": info.content_type, "metadata": info.metadata}
        chunks = staged.read(namespace, info.name)
        await self._store.put(namespace, info.name, chunks, Expected(info.size, info.sha256), about)


async def _pages(store: ObjectStore, namespace: str) -> AsyncIterator[Any]:
    after: str | None = ""
    while after is not None:
        page, after = await store.list(namespace, after=after)
        if page:
            yield page


async def _own_pages(store: ObjectStore, namespace: str) -> AsyncIterator[Any]:
    async for page in _pages(store, namespace):
        # What nobody claims is taken along: better twice than not at all.
        yield await store.own(namespace, page, or_unmarked=True)


def document(path: Path) -> dict[str, Any]:
    """What a document of the state says; nothing when it is none."""
    if path.stat().st_size > _MOST_DOCUMENT_BYTES:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def waiting(loop: asyncio.AbstractEventLoop) -> Await[Any]:
    """How a thread has `loop` do something, and waits for it."""

    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        async def run() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    return wait
