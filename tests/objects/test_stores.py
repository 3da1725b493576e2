"""What every object store promises: one suite, both adapters."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from devkit_api.errors import ChecksumMismatch, ObjectNotFound, ObjectReplaced
from devkit_api.objects.protocol import Expected, ObjectInfo, ObjectStore

RUN = "devkit-run-conformance"
INFO = {"content_type": "text/csv", "metadata": {"run-id": RUN, "note": "Größe µ"}}


async def chunks(data: bytes, size: int = 64 * 1024) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def expected(data: bytes) -> Expected:
    return Expected(len(data), hashlib.sha256(data).hexdigest())


async def put(store: ObjectStore, name: str, data: bytes, namespace: str = RUN) -> ObjectInfo:
    return await store.put(namespace, name, chunks(data), expected(data), INFO)


async def read(store: ObjectStore, name: str, namespace: str = RUN, **options: Any) -> bytes:
    return b"".join([chunk async for chunk in store.read(namespace, name, **options)])


async def test_reads_back_what_was_put_with_everything_known_of_it(store: ObjectStore) -> None:
    data = bytes(range(256)) * 5000
    stored = await put(store, "tables/ätwo words.csv", data)
    assert await store.stat(RUN, "tables/ätwo words.csv") == stored
    assert (stored.size, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (stored.content_type, stored.metadata) == ("text/csv", INFO["metadata"])
    assert await read(store, "tables/ätwo words.csv") == data


async def test_an_empty_file_is_a_file(store: ObjectStore) -> None:
    await put(store, "empty", b"")
    assert await read(store, "empty") == b""
    assert [item.name for item in (await store.list(RUN))[0]] == ["empty"]


@pytest.mark.parametrize(("start", "length", "wanted"), [(0, 3, b"012"), (4, None, b"456789"), (8, 50, b"89")])
async def test_reads_ranges(store: ObjectStore, start: int, length: int | None, wanted: bytes) -> None:
    await put(store, "digits", b"0123456789")
    assert await read(store, "digits", start=start, length=length) == wanted


async def test_a_put_makes_a_new_version_and_the_old_one_is_gone(store: ObjectStore) -> None:
    first, second = await put(store, "a", b"one"), await put(store, "a", b"two")
    assert first.version != second.version
    assert await read(store, "a", version=second.version) == b"two"
    with pytest.raises(ObjectReplaced):
        await read(store, "a", version=first.version)


@pytest.mark.parametrize("wrong", [Expected(3, "0" * 64), Expected(2, hashlib.sha256(b"abc").hexdigest())])
async def test_other_bytes_than_announced_change_nothing(store: ObjectStore, wrong: Expected) -> None:
    await put(store, "kept", b"before")
    for name in ("kept", "new"):
        with pytest.raises(ChecksumMismatch):
            await store.put(RUN, name, chunks(b"abc"), wrong, INFO)
    assert await read(store, "kept") == b"before"
    assert await store.stat(RUN, "new") is None


async def test_a_stream_that_breaks_off_leaves_nothing(store: ObjectStore) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.put(RUN, "half", broken(), None, INFO)
    assert await store.stat(RUN, "half") is None
    assert await store.list(RUN) == ([], None)


async def test_size_and_checksum_are_found_when_not_announced(store: ObjectStore) -> None:
    stored = await store.put(RUN, "upload", chunks(b"some bytes"), None, INFO)
    assert (stored.size, stored.sha256) == (10, hashlib.sha256(b"some bytes").hexdigest())


async def test_lists_in_order_by_prefix_and_page(store: ObjectStore) -> None:
    names = [f"p/{i:02}" for i in range(7)] + ["P/upper", "q", "p0", "p/ü"]
    for name in names:
        await put(store, name, name.encode())
    seen, after, pages = [], "", 0
    while True:
        page, more = await store.list(RUN, prefix="p/", after=after, limit=3)
        seen += [item.name for item in page]
        pages += 1
        if more is None:
            break
        after = more
    assert seen == sorted(name for name in names if name.startswith("p/"))
    assert pages == 3
    everything, more = await store.list(RUN)
    assert ([item.name for item in everything], more) == (sorted(names), None)
    assert {item.name: item.size for item in everything}["P/upper"] == 7


async def test_a_copy_outlives_its_source(store: ObjectStore) -> None:
    source = await put(store, "a", b"payload")
    copied = await store.copy(RUN, "a", "other-run~inputs", "sources/a")
    await put(store, "a", b"changed")
    await store.delete(RUN, "a")
    assert (copied.sha256, copied.content_type) == (source.sha256, source.content_type)
    assert await read(store, "sources/a", namespace="other-run~inputs") == b"payload"


async def test_what_is_not_there_is_said_to_be_not_there(store: ObjectStore) -> None:
    assert await store.stat(RUN, "nothing") is None
    with pytest.raises(ObjectNotFound):
        await read(store, "nothing")
    with pytest.raises(ObjectNotFound):
        await store.copy(RUN, "nothing", RUN, "copy")
    await store.delete(RUN, "nothing")
    assert await store.list("no-such-run") == ([], None)


async def test_deletes_a_file_or_a_whole_namespace_and_nothing_else(store: ObjectStore) -> None:
    for namespace in (RUN, RUN + "~inputs", RUN + "-other"):
        for name in ("a", "b/c"):
            await put(store, name, b"x", namespace)
    await store.delete(RUN, "a")
    assert [item.name for item in (await store.list(RUN))[0]] == ["b/c"]
    await store.delete_namespace(RUN)
    assert await store.list(RUN) == ([], None)
    assert len((await store.list(RUN + "~inputs"))[0]) == 2
    assert len((await store.list(RUN + "-other"))[0]) == 2


async def test_puts_of_one_name_at_once_leave_one_whole_file(store: ObjectStore) -> None:
    contents = [bytes([i]) * 50_000 for i in range(6)]
    await asyncio.gather(*(put(store, "same", data) for data in contents))
    stored = await store.stat(RUN, "same")
    assert stored is not None
    data = await read(store, "same", version=stored.version)
    assert data in contents
    assert hashlib.sha256(data).hexdigest() == stored.sha256


async def test_direct_addresses_take_and_give_the_bytes(store: ObjectStore) -> None:
    data = b"direct"
    direct = await store.direct_put(RUN, "d.csv", expected(data), INFO, 60)
    if direct is None:
        assert await store.direct_get(RUN, await put(store, "d.csv", data), 60) is None
        return
    async with aiohttp.ClientSession() as http:
        async with http.put(direct.url, data=data, headers=direct.headers) as answer:
            assert answer.status == 200
        stored = await store.stat(RUN, "d.csv")
        assert stored is not None
        assert (stored.sha256, stored.metadata) == (expected(data).sha256, INFO["metadata"])
        address = await store.direct_get(RUN, stored, 60)
        assert address is not None
        async with http.get(address) as answer:
            assert await answer.read() == data
            assert "d.csv" in answer.headers["Content-Disposition"]
    signed = direct.url.lower()
    assert "content-length" in signed
    assert "x-amz-checksum-sha256" in signed
