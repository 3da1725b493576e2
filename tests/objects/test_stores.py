"""What every object store promises: one suite, both adapters."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from devkit_api.errors import ChecksumMismatch, ObjectNotFound, ObjectReplaced, PartsInvalid, PartsNotFound
from devkit_api.objects import s3, s3_parts
from devkit_api.objects.file_index import MAX_EARLIER
from devkit_api.objects.files import FileObjectStore
from devkit_api.objects.protocol import MIN_PART_BYTES, Begun, Expected, ObjectInfo, ObjectStore, Part
from devkit_api.objects.s3 import S3ObjectStore

RUN = "devkit-run-conformance"
INFO = {"content_type": "text/csv", "metadata": {"run-id": RUN, "note": "Größe µ"}}


every_kind = pytest.mark.parametrize("store", ["files", "s3", "s3-versions"], indirect=True)


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


@every_kind
async def test_a_put_makes_a_new_version_and_the_one_before_is_kept_where_versions_are(
    store: ObjectStore, keeps_versions: bool
) -> None:
    first, second = await put(store, "a", b"one"), await put(store, "a", b"and two")
    await put(store, "a.b", b"another file")
    assert first.version != second.version
    assert await store.stat(RUN, "a") == second
    assert await read(store, "a") == await read(store, "a", version=second.version) == b"and two"
    kept = [(one.version, one.size, one.created_at) for one in await store.versions(RUN, second)]
    now = (second.version, 7, second.created_at)
    if keeps_versions:
        assert kept == [now, (first.version, 3, first.created_at)]
        assert await store.stat(RUN, "a", first.version) == first
        assert await read(store, "a", version=first.version, start=1) == b"ne"
    else:
        assert kept == [now]
        with pytest.raises(ObjectReplaced):
            await read(store, "a", version=first.version)


@every_kind
async def test_a_version_that_never_was_is_not_there(store: ObjectStore) -> None:
    await put(store, "a", b"one")
    for version in ("", "0-0", "d41d8cd98f00b204e9800998ecf8427e", "ä/..", "v" * 900):
        assert await store.stat(RUN, "a", version) is None
        assert await store.stat(RUN, "b", version) is None
        with pytest.raises(ObjectReplaced):
            await read(store, "a", version=version)


@every_kind
async def test_no_version_outlives_its_file(store: ObjectStore, keeps_versions: bool) -> None:
    first, other = await put(store, "a", b"one"), await put(store, "ab", b"other")
    await put(store, "a", b"two")
    await store.delete(RUN, "a")
    assert await store.stat(RUN, "a", first.version) is None
    assert await store.stat(RUN, "ab") == other
    again = await put(store, "a", b"three")
    assert len(await store.versions(RUN, again)) == 1
    last = await put(store, "a", b"four")
    await store.delete_namespace(RUN)
    for version in (again.version, last.version, None):
        assert await store.stat(RUN, "a", version) is None


async def put_part(store: ObjectStore, begun: Begun, number: int, data: bytes) -> Part:
    return await store.put_part(begun, number, chunks(data), expected(data))


PIECES = [b"a" * MIN_PART_BYTES, b"b" * MIN_PART_BYTES, b"the end"]


@every_kind
async def test_a_file_in_parts_is_there_when_it_is_complete(store: ObjectStore, keeps_versions: bool) -> None:
    await put(store, "big", b"before")
    begun = await store.begin_parts(RUN, "big", INFO)
    await put_part(store, begun, 7, b"not used")
    parts = [await put_part(store, begun, number, PIECES[number - 1]) for number in (3, 1, 2)]
    parts[1] = await put_part(store, begun, 1, PIECES[0])  # once more, in place of the first
    named = sorted(parts, key=lambda part: part.number)
    assert [(part.number, part.size) for part in await store.parts(begun)] == [
        *((part.number, part.size) for part in named), (7, 8),
    ]  # fmt: skip
    assert await read(store, "big") == b"before"
    stored = await store.complete_parts(begun, named)
    assert await store.stat(RUN, "big") == stored
    assert (stored.size, stored.content_type, stored.metadata) == (2 * MIN_PART_BYTES + 7, "text/csv", INFO["metadata"])
    whole = b"".join(PIECES)
    assert await read(store, "big") == whole
    assert stored.sha256 == hashlib.sha256(whole).hexdigest()
    kept = [one.size for one in await store.versions(RUN, stored)]
    assert kept == ([stored.size, 6] if keeps_versions else [stored.size])
    assert await read(store, "big", start=MIN_PART_BYTES - 1, length=2) == b"ab"
    with pytest.raises(PartsNotFound):
        await store.parts(begun)


async def test_parts_that_do_not_fit_make_no_file(store: ObjectStore) -> None:
    begun = await store.begin_parts(RUN, "big", INFO)
    small, last = await put_part(store, begun, 1, b"small"), await put_part(store, begun, 2, b"last")
    missing = Part(9, 4, last.sha256, last.etag)
    wrong = Part(1, 5, small.sha256, last.etag)
    for named in ([], [small, last], [last, small], [last, last], [missing], [wrong]):
        with pytest.raises(PartsInvalid):
            await store.complete_parts(begun, named)
    with pytest.raises(ChecksumMismatch):
        await store.put_part(begun, 1, chunks(b"other"), expected(b"small"))
    for number in (0, 10_001):
        with pytest.raises(PartsInvalid):
            await put_part(store, begun, number, b"x")
    assert await store.stat(RUN, "big") is None
    await store.complete_parts(begun, [small])
    assert await read(store, "big") == b"small"


async def test_what_is_given_up_is_gone(store: ObjectStore) -> None:
    begun = await store.begin_parts(RUN, "big", INFO)
    part = await put_part(store, begun, 1, b"x")
    await store.abort_parts(begun)
    await store.abort_parts(begun)
    for unknown in (begun, Begun(RUN, "big", "../" * 3), Begun(RUN, "another", begun.upload)):
        with pytest.raises(PartsNotFound):
            await put_part(store, unknown, 1, b"x")
        with pytest.raises(PartsNotFound):
            await store.complete_parts(unknown, [part])
    assert await store.list(RUN) == ([], None)


async def test_an_empty_file_may_come_in_parts(store: ObjectStore) -> None:
    begun = await store.begin_parts(RUN, "empty", INFO)
    await store.complete_parts(begun, [await put_part(store, begun, 1, b"")])
    assert await read(store, "empty") == b""


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
    direct = await store.direct_put(RUN, "d.csv", expected(data), INFO, 900)
    if direct is None:
        assert await store.direct_get(RUN, await put(store, "d.csv", data), 900) is None
        return
    async with aiohttp.ClientSession() as http:
        async with http.put(direct.url, data=data, headers=direct.headers) as answer:
            assert answer.status == 200
        stored = await store.stat(RUN, "d.csv")
        assert stored is not None
        assert (stored.sha256, stored.metadata) == (expected(data).sha256, INFO["metadata"])
        address = await store.direct_get(RUN, stored, 900)
        assert address is not None
        async with http.get(address) as answer:
            assert await answer.read() == data
            assert "d.csv" in answer.headers["Content-Disposition"]
    signed = direct.url.lower()
    assert "content-length" in signed
    assert "x-amz-checksum-sha256" in signed


async def test_large_files_go_to_a_bucket_in_parts_and_are_copied_in_parts(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isinstance(store, S3ObjectStore):
        monkeypatch.setattr(s3, "PART_BYTES", MIN_PART_BYTES)
        monkeypatch.setattr(s3, "COPY_BYTES", MIN_PART_BYTES)
        monkeypatch.setattr(s3_parts, "PART_BYTES", MIN_PART_BYTES)
        monkeypatch.setattr(s3_parts, "COPY_BYTES", MIN_PART_BYTES)
    data = b"".join(PIECES)
    stored = await put(store, "large", data)
    copied = await store.copy(RUN, "large", RUN, "copy")
    if isinstance(store, S3ObjectStore):
        assert stored.version.endswith("-3") or len(await store.versions(RUN, stored)) == 1
    for info in (stored, copied):
        assert (info.sha256, info.metadata) == (expected(data).sha256, INFO["metadata"])
        assert hashlib.sha256(await read(store, info.name)).hexdigest() == info.sha256


async def test_files_keep_few_versions_of_few_bytes_and_none_of_the_same(tmp_path: Path) -> None:
    store = FileObjectStore(tmp_path, version_bytes=100)
    await store.open()

    async def kept(name: str) -> list[bytes]:
        info = await store.stat(RUN, name)
        assert info is not None
        return [await read(store, name, version=one.version) for one in await store.versions(RUN, info)]

    for text in (b"a", b"b", b"a", b"a"):
        await put(store, "same", text)
    assert await kept("same") == [b"a", b"b"]
    for size in (40, 50, 60, 7):
        await put(store, "sized", bytes([size]) * size)
    assert await kept("sized") == [b"\x07" * 7, b"<" * 60]
    for number in range(20):
        await put(store, "many", b"%d" % number)
    assert await kept("many") == [b"%d" % number for number in range(19, 8, -1)]
    files = sum(1 for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json")
    assert files == 2 + 2 + 11
    # What a devkit finds that starts again is the same.
    store = FileObjectStore(tmp_path, version_bytes=100)
    assert await kept("many") == [b"%d" % number for number in range(19, 8, -1)]
    await put(store, "large", b"x" * 60)
    await put(store, "large", b"y")
    assert await kept("large") == [b"y"]


class FilesMachine(RuleBasedStateMachine):
    """The file store against a dict of every content a name had, newest first; reopened at any time."""

    NAMES = st.sampled_from(["a", "a/b", "ä", "z"])
    DATA = st.binary(max_size=4)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.model: dict[str, list[bytes]] = {}
        self.reopen()

    @rule()
    def reopen(self) -> None:
        self.store = FileObjectStore(Path(self.folder.name))
        self.runner.run(self.store.open())

    @rule(name=NAMES, data=DATA)
    def put(self, name: str, data: bytes) -> None:
        self.runner.run(put(self.store, name, data))
        self._note(name, data)

    @rule(name=NAMES, data=DATA)
    def put_in_parts(self, name: str, data: bytes) -> None:
        async def work() -> None:
            begun = await self.store.begin_parts(RUN, name, INFO)
            await self.store.complete_parts(begun, [await put_part(self.store, begun, 4, data)])

        self.runner.run(work())
        self._note(name, data)

    @rule(name=NAMES, to=NAMES)
    def copy(self, name: str, to: str) -> None:
        if name in self.model:
            self.runner.run(self.store.copy(RUN, name, RUN, to))
            self._note(to, self.model[name][0])

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        self.runner.run(self.store.delete(RUN, name))
        self.model.pop(name, None)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        async def held() -> dict[str, list[bytes]]:
            infos = [await self.store.stat(RUN, item.name) for item in (await self.store.list(RUN))[0]]
            return {
                info.name: [
                    await read(self.store, info.name, version=one.version)
                    for one in await self.store.versions(RUN, info)
                ]
                for info in infos
                if info
            }

        assert self.runner.run(held()) == self.model
        contents = sum(len(versions) for versions in self.model.values())
        files = [path for path in Path(self.folder.name).rglob("*") if path.is_file()]
        assert len(files) == contents + len(self.model)

    def _note(self, name: str, data: bytes) -> None:
        earlier = [old for old in self.model.get(name, []) if old != data]
        self.model[name] = [data, *earlier[:MAX_EARLIER]]

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()


FilesMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFiles = FilesMachine.TestCase
