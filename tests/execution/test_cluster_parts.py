"""The parts of runs on a cluster, one by one: what the processes of `test_cluster.py` do not show."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import WSMessage, WSMsgType, test_utils, web

from devkit_api import __version__, jsonio
from devkit_api.errors import SourceInvalid, TicketInvalid
from devkit_api.execution.cluster.attended import attended
from devkit_api.execution.cluster.codec import (
    EngineSettings,
    decode_outcome,
    decode_spec,
    encode_outcome,
    encode_spec,
)
from devkit_api.execution.cluster.conversation import Conversation, Unfit
from devkit_api.execution.cluster.execution import ClusterExecution, summons_for
from devkit_api.execution.cluster.frames import Broken, Channel, listen, say
from devkit_api.execution.cluster.scheduler import Scheduler
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.execution.cluster.worker.outbox import Outbox
from devkit_api.execution.cluster.worker.relay import open_relay
from devkit_api.execution.cluster.worker.session import receive_source
from devkit_api.execution.cluster.worker.sources import FetchedSources
from devkit_api.execution.output import OutputPipe
from devkit_api.execution.protocol import Gone, Limits, Metrics, Outcome, RunSpec, StopReason
from devkit_api.execution.sources import SourceChanged
from devkit_api.modules.bundles import BundleStore
from devkit_api.settings import SettingsError, load_settings
from devkit_api.supported import refuse_unsupported
from tests.execution.conftest import Listener
from tests.support.modules import write_module
from tests.support.process import REPO, TEST_KEY
from tests.support.waiting import PATIENCE, until_async

SPEC = RunSpec(
    run_id="devkit-run-1", module_id="probe", module_version="1.0.0", source_digest="d",
    entrypoint="backend.main:Probe", mode="async", payload={"n": [1, None, "é"]},
    context={"module_run_api_key": "token"}, environment={"A": "b"}, network=False, traceparent="00-a-b-01",
    limits=Limits(runtime_seconds=60.5, output_bytes=1000, memory_mb=512),
)  # fmt: skip
ENGINE = EngineSettings("http://127.0.0.1:4100", 1.0, 1, 1.0, "auto", True, 1, 1000, 4000)


class Pipe:
    """One end of a connection, in memory. `full`: nothing more is taken until it is cleared."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[WSMessage] = asyncio.Queue()
        self.other: Pipe = self
        self.room = asyncio.Event()
        self.room.set()

    async def send_str(self, data: str) -> None:
        await self.room.wait()
        self.other.inbox.put_nowait(WSMessage(WSMsgType.TEXT, data, None))

    async def send_bytes(self, data: bytes) -> None:
        await self.room.wait()
        self.other.inbox.put_nowait(WSMessage(WSMsgType.BINARY, data, None))

    async def receive(self) -> WSMessage:
        return await self.inbox.get()

    async def close(self) -> None:
        self.other.inbox.put_nowait(WSMessage(WSMsgType.CLOSED, None, None))


def connection() -> tuple[Pipe, Pipe]:
    one, other = Pipe(), Pipe()
    one.other, other.other = other, one
    return one, other


def test_orders_and_outcomes_arrive_as_they_were() -> None:
    assert decode_spec(jsonio.loads_trusted(jsonio.dumps(encode_spec(SPEC)))) == SPEC
    outcome = Outcome(
        exit_code=0, signal=9, output_too_large=True, stopped=StopReason.DISK, problem="p", no_environment=True,
        killed_for_memory=True, excess="much", output=b"12345",
        metrics=Metrics(0.5, 1.0, 2.0, 3.0, True, 4.0, 5.0, 6),
    )  # fmt: skip
    decoded, size = decode_outcome(jsonio.loads_trusted(jsonio.dumps(encode_outcome(outcome))))
    assert (attrs.evolve(decoded, output=outcome.output), size) == (outcome, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("exit_code", "0"), ("signal", -1), ("exit_code", True), ("stopped", "boredom"), ("problem", 5), ("metrics", None),
     ("output_too_large", "no"), ("output_bytes", 1.5), ("metrics", {"warm": 1}), ("metrics", {"cpu_seconds": -1.0}),
     ("metrics", {"peak_memory_bytes": 2**70})],
)  # fmt: skip
def test_an_outcome_no_worker_of_ours_can_have_told_is_refused(name: str, value: Any) -> None:
    with pytest.raises(Broken, match="outcome"):
        decode_outcome({**encode_outcome(Outcome()), name: value})


def test_a_ticket_is_good_once() -> None:
    claims: list[str] = []

    class Waiting:
        def claim(self) -> None:
            claims.append("claimed")

        async def converse(self, channel: Channel) -> None: ...

        def leave(self) -> None: ...

    tickets, holder = Tickets(), Waiting()
    first, second = tickets.issue(holder), tickets.issue(holder)
    assert first != second
    assert tickets.claim(first) is holder
    tickets.withdraw(second)
    for used in (first, second, "", "made-up", first + "x"):
        with pytest.raises(TicketInvalid):
            tickets.claim(used)
    assert claims == ["claimed"]


async def held(worker: Callable[[Pipe], Awaitable[None]], bundle: Path = Path()) -> tuple[Outcome, Listener]:
    """What the devkit makes of what this worker says after its order."""
    ours, theirs = connection()
    listener = Listener()
    conversation = Conversation(SPEC, listener, ENGINE, lambda _: bundle)
    talking = asyncio.create_task(conversation.hold(ours))
    await say(theirs, "hello", version=__version__, worker="tcp://worker")
    order = await listen(theirs)
    assert isinstance(order, dict)
    assert decode_spec(order["spec"]) == SPEC
    await worker(theirs)
    async with asyncio.timeout(PATIENCE):
        return await talking, listener


async def test_what_a_worker_tells_is_handed_on_in_order() -> None:
    async def worker(channel: Pipe) -> None:
        await say(channel, "begun")
        await channel.send_bytes(b"bbuilding\n")
        for number in range(1000):
            await channel.send_bytes(b"o" + b"%d\n" % number)
        await say(channel, "outcome", **encode_outcome(Outcome(exit_code=0, output=b"x" * 1000)))
        for piece in (b"x" * 400, b"x" * 600):
            await channel.send_bytes(b"f" + piece)

    outcome, listener = await held(worker)
    assert (outcome.exit_code, outcome.output) == (0, b"x" * 1000)
    assert listener.data.decode().split() == ["building", *map(str, range(1000))]


@pytest.mark.parametrize(
    "messages",
    [
        [b"zunknown kind"],
        ['{"op": "surprise"}'],
        ["not json"],
        ["[]"],
        [jsonio.dumps({"op": "outcome", **encode_outcome(Outcome()), "output_bytes": 1001}).decode()],
        [jsonio.dumps({"op": "outcome", **encode_outcome(Outcome(output=b"1234"))}).decode(), b"f12345"],
        [jsonio.dumps({"op": "outcome", **encode_outcome(Outcome(output=b"1234"))}).decode(), b"o1234"],
        [jsonio.dumps({"op": "outcome", **encode_outcome(Outcome(output=b"1234"))}).decode(), b"f"],
        ['{"op": "want-source"}', '{"op": "want-source"}'],
        ['{"op": "begun"}', '{"op": "want-source"}'],
        ['{"op": "begun"}', '{"op": "begun"}'],
    ],
)
async def test_a_worker_that_makes_no_sense_loses_the_run(messages: list[str | bytes]) -> None:
    async def worker(channel: Pipe) -> None:
        for message in messages:
            await (channel.send_str(message) if isinstance(message, str) else channel.send_bytes(message))

    with pytest.raises(Broken):
        await held(worker)


@pytest.mark.parametrize("told", [StopReason.CANCEL, StopReason.SHUTDOWN])
async def test_a_worker_that_stops_a_run_nobody_stopped_has_lost_it(told: StopReason) -> None:
    """Else one that talks nonsense makes runs `cancelled` that nobody cancelled."""
    conversation, scheduler = (
        Conversation(SPEC, Listener(), ENGINE, lambda _: Path()),
        Scheduler("tcp://127.0.0.1:1", None),
    )
    execution = ClusterExecution(conversation, scheduler, Tickets(), summons_for("run-1", "http://127.0.0.1:1", None))
    execution.claim()
    ours, theirs = connection()
    await say(theirs, "hello", version=__version__, worker="tcp://worker")
    await say(theirs, "outcome", **encode_outcome(Outcome(stopped=told)))
    await execution.converse(ours)
    outcome = await execution._outcome()
    assert (outcome.stopped, outcome.gone) == (None, Gone.SCHEDULER)  # there is none here


async def test_a_worker_of_another_version_gets_no_order() -> None:
    ours, theirs = connection()
    await say(theirs, "hello", version="0.0.1", worker="tcp://worker")
    with pytest.raises(Unfit, match=r"tcp://worker has hla-compass-devkit 0\.0\.1"):
        await Conversation(SPEC, Listener(), ENGINE, lambda _: Path()).hold(ours)
    assert theirs.inbox.empty()


async def test_a_process_waits_when_the_devkit_does_not_read() -> None:
    ours, theirs = connection()
    ours.room.clear()
    outbox = Outbox(ours)
    pipe = OutputPipe(outbox.on_output, None)
    writing = asyncio.create_task(asyncio.to_thread(write_lines, os.dup(pipe.write_end)))
    pipe.close_write_end()
    await until_async(lambda: pipe.is_held_up)
    # Nobody reads it now: it stands still with what fits into the box and into the kernel's pipe.
    assert not writing.done()
    assert outbox.size < 2 * 1024**2
    ours.room.set()
    async with asyncio.timeout(PATIENCE):
        await writing
        await pipe.drain(PATIENCE)
        await outbox.close()
    pipe.close()
    pieces = [theirs.inbox.get_nowait().data for _ in range(theirs.inbox.qsize())]
    assert all(piece[:1] == b"o" and len(piece) <= 2 * 64 * 1024 + 1 for piece in pieces)
    assert b"".join(piece[1:] for piece in pieces) == LINES


LINES = b"".join(b"%d\n" % number for number in range(600_000))


def write_lines(fd: int) -> None:
    with os.fdopen(fd, "wb") as file:
        file.write(LINES)


async def test_a_side_that_does_something_else_is_heard_all_the_same() -> None:
    """It answers pings: one that did not would be taken for gone."""
    answered = asyncio.Event()

    async def serve(request: web.Request) -> web.StreamResponse:
        channel = web.WebSocketResponse(autoping=False)
        await channel.prepare(request)
        await channel.ping(b"there?")
        assert (await channel.receive()).type is WSMsgType.PONG
        answered.set()
        await channel.send_str("1")
        await channel.close()
        return channel

    app = web.Application()
    app.router.add_get("/", serve)
    async with (
        test_utils.TestServer(app) as server,
        aiohttp.ClientSession() as http,
        http.ws_connect(server.make_url("/")) as channel,
        attended(channel) as side,
    ):
        await asyncio.wait_for(answered.wait(), PATIENCE)  # meanwhile this side asks for no message
        assert (await side.receive()).data == "1"
        assert [(await side.receive()).type for _ in range(2)] == [WSMsgType.CLOSE] * 2


async def test_a_side_reads_only_so_far_ahead_and_loses_nothing() -> None:
    ours, theirs = connection()
    async with attended(ours) as side:
        for number in range(100):
            await theirs.send_str(f"{number}")
        for _ in range(200):
            await asyncio.sleep(0)
        assert ours.inbox.qsize() > 90
        assert [int((await side.receive()).data) for _ in range(100)] == list(range(100))
        await side.close()
        with pytest.raises(Broken):
            await listen(side)


async def test_a_box_nobody_empties_any_more_lets_the_process_go_on() -> None:
    ours, _ = connection()
    ours.room.clear()
    outbox = Outbox(ours)
    room = [outbox.on_output(b"x" * 64 * 1024) for _ in range(20)][-1]
    assert room is not None
    outbox.drop()
    assert outbox.on_output(b"x" * 2 * 1024**2) is None, "nobody would ever say that there is room again"
    await asyncio.wait_for(room, PATIENCE)


@pytest.fixture
async def shelf(tmp_path: Path) -> tuple[Path, BundleStore]:
    """Modules to fetch, each with its bundle at the devkit."""
    store = BundleStore(tmp_path / "devkit", 10_000)
    await store.open()
    return tmp_path, store


async def add(shelf: tuple[Path, BundleStore], name: str) -> Path:
    """The stored bundle of a module; its name is the digest."""
    folder, store = shelf
    bundle, _ = await store.add_folder(write_module(folder / "modules" / name), jsonio.loads_trusted)
    return store.path(bundle.digest)


async def fetching(shelf: tuple[Path, BundleStore], cache_bytes: int) -> FetchedSources:
    folder, _ = shelf
    sources = FetchedSources(folder / "incoming", BundleStore(folder / "worker", 10_000), cache_bytes)
    await sources.open()
    return sources


def over_the_wire(bundle: Path, count: list[str] | None = None) -> Callable[[Path], Awaitable[None]]:
    """Fetches what the devkit sends of this bundle, over a connection."""

    async def fetch(folder: Path) -> None:
        if count is not None:
            count.append(bundle.name)
        ours, theirs = connection()
        conversation = Conversation(SPEC, Listener(), ENGINE, lambda _: bundle)
        sending = asyncio.create_task(conversation.send_source(ours))
        await receive_source(theirs, folder, 10_000)
        await sending

    return fetch


async def test_a_source_is_fetched_once_however_many_runs_begin(shelf: tuple[Path, BundleStore]) -> None:
    bundle, sources, count = await add(shelf, "one"), await fetching(shelf, 10_000), list[str]()

    async def use() -> bytes:
        async with sources.held(bundle.name, over_the_wire(bundle, count)):
            return (sources.bundles.path(bundle.name) / "backend" / "main.py").read_bytes()

    assert set(await asyncio.gather(*(use() for _ in range(5)))) == {(bundle / "backend" / "main.py").read_bytes()}
    assert count == [bundle.name]
    # Dask can remove it with the folder of its worker, as an ordinary user as well.
    at = sources.bundles.path(bundle.name)
    assert all(path.stat().st_mode & 0o200 for path in (at, *at.rglob("*")) if path.is_dir())
    assert not list((shelf[0] / "incoming").iterdir())


async def test_what_is_not_what_was_registered_is_neither_used_nor_kept(shelf: tuple[Path, BundleStore]) -> None:
    right, other, sources = await add(shelf, "right"), await add(shelf, "other"), await fetching(shelf, 10_000)
    with pytest.raises(SourceChanged):
        async with sources.held(right.name, over_the_wire(other)):
            raise AssertionError("it was used")
    assert not sources.bundles.path(right.name).exists()
    assert not sources.bundles.path(other.name).exists()


async def test_sources_that_nobody_needs_make_room(shelf: tuple[Path, BundleStore]) -> None:
    one, two, three = [await add(shelf, name) for name in ("one", "two", "three")]
    size = sum(path.stat().st_size for path in one.rglob("*") if path.is_file())
    sources = await fetching(shelf, 2 * size + size // 2)
    at = sources.bundles.path
    async with sources.held(one.name, over_the_wire(one)):
        for bundle in (two, three):
            async with sources.held(bundle.name, over_the_wire(bundle)):
                pass
        assert [at(bundle.name).exists() for bundle in (one, two, three)] == [True, False, True]
    async with sources.held(two.name, over_the_wire(two)):
        pass
    assert [at(bundle.name).exists() for bundle in (one, two, three)] == [False, True, True]


async def test_sources_that_go_while_others_come(shelf: tuple[Path, BundleStore]) -> None:
    """Two runs make room at once, and a third needs what is going: it is fetched again, and stays."""
    one, two, new = [await add(shelf, name) for name in ("one", "two", "new")]
    sources, steps = await fetching(shelf, 10_000), list[str]()
    removing, go_on, remove = asyncio.Event(), asyncio.Event(), sources.bundles.remove

    async def remove_slowly(digest: str) -> None:
        removing.set()
        await go_on.wait()
        await remove(digest)
        steps.append(f"removed {digest}")

    async def use(bundle: Path) -> bytes:
        async def fetch(folder: Path) -> None:
            steps.append(f"fetched {bundle.name}")
            await over_the_wire(bundle)(folder)

        async with sources.held(bundle.name, fetch):
            return (sources.bundles.path(bundle.name) / "backend" / "main.py").read_bytes()

    await use(one)
    await use(two)
    steps.clear()
    sources.bundles.remove, sources.cache_bytes = remove_slowly, 1  # type: ignore[method-assign]
    users = [asyncio.create_task(use(new))]
    await asyncio.wait_for(removing.wait(), PATIENCE)
    users += [asyncio.create_task(use(bundle)) for bundle in (new, one)]
    await asyncio.sleep(0)  # in which each goes as far as it can
    go_on.set()
    found = await asyncio.gather(*users)
    assert found == [(bundle / "backend" / "main.py").read_bytes() for bundle in (new, new, one)]
    assert steps.index(f"removed {one.name}") < steps.index(f"fetched {one.name}")


@pytest.mark.parametrize(
    ("name", "size", "error"),
    [("../outside", 1, SourceInvalid), ("/tmp/outside", 1, SourceInvalid), ("large", 10_001, Broken)],
)
async def test_a_source_stays_in_its_folder_and_its_bounds(
    tmp_path: Path, name: str, size: int, error: type[Exception]
) -> None:
    ours, theirs = connection()
    await say(theirs, "file", name=name, size=size)
    with pytest.raises(error):
        await receive_source(ours, tmp_path / "inside", 10_000)
    assert not (tmp_path / "outside").exists()


async def test_the_way_of_modules_without_network_leads_to_the_devkit() -> None:
    async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    door = socket.create_server(("127.0.0.1", 0))
    async with await asyncio.start_server(shout, "127.0.0.1", 0) as devkit:
        close = await open_relay(door, *devkit.sockets[0].getsockname())
        reader, writer = await asyncio.open_connection(*door.getsockname())
        writer.write(b"hello")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b"HELLO"
        writer.close()
        await close()


def test_without_network_the_address_of_another_machine_is_the_devkits_door(tmp_path: Path) -> None:
    code = """
import socket
from devkit_api.execution.zygote import sandbox
try:
    door = sandbox.cut_network("10.11.12.13", 4100)
except PermissionError:
    raise SystemExit(77)
socket.create_connection(("10.11.12.13", 4100)).close()
print(door.accept()[1][0])
"""
    environment = {"PYTHONPATH": str(REPO), "PATH": ""}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if ran.returncode == 77:
        pytest.skip("this user may not have a network of its own")
    assert ran.stdout.strip() == "10.11.12.13", ran.stderr


BASE = {"DEVKIT_EXECUTOR": "dask", "DEVKIT_DASK_SCHEDULER": "tcp://10.0.0.5:8786", "DEVKIT_API_KEY": TEST_KEY}
S3_KEYS = {"DEVKIT_S3_ACCESS_KEY": "devkit-objects-user", "DEVKIT_S3_SECRET_KEY": "not-a-real-secret-0123456789"}


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, "DEVKIT_PUBLIC_URL"),  # workers elsewhere cannot call 127.0.0.1
        ({"DEVKIT_HOST": "0.0.0.0"}, "DEVKIT_PUBLIC_URL"),
        ({"DEVKIT_PUBLIC_URL": "http://localhost:4100"}, "DEVKIT_PUBLIC_URL"),
        ({"DEVKIT_HOST": "10.0.0.4"}, None),
        ({"DEVKIT_PUBLIC_URL": "https://devkit.lab.example"}, None),
        ({"DEVKIT_DASK_SCHEDULER": "tls://127.0.0.1:8786"}, None),
        ({"DEVKIT_DASK_SCHEDULER": "10.0.0.5:8786"}, "DEVKIT_DASK_SCHEDULER"),
        ({"DEVKIT_DASK_SCHEDULER": "tcp://10.0.0.5"}, "DEVKIT_DASK_SCHEDULER"),
        ({"DEVKIT_DASK_SCHEDULER": ""}, "DEVKIT_DASK_SCHEDULER"),
        ({"DEVKIT_HOST": "10.0.0.4", "DEVKIT_S3_ENDPOINT": "http://127.0.0.1:9000", **S3_KEYS}, "DEVKIT_S3_ENDPOINT"),
        ({"DEVKIT_HOST": "10.0.0.4", "DEVKIT_S3_ENDPOINT": "http://10.0.0.6:9000", **S3_KEYS}, None),
        ({"DEVKIT_HOST": "10.0.0.4", "DEVKIT_PREWARM": "on"}, "DEVKIT_PREWARM"),
        ({"DEVKIT_HOST": "10.0.0.4", "DEVKIT_KEEP_WORKDIRS": "on"}, "DEVKIT_KEEP_WORKDIRS"),
    ],
)
def test_settings_that_cannot_work_with_a_cluster_are_refused(
    tmp_path: Path, changes: dict[str, str], refused: str | None
) -> None:
    environ = {**BASE, "DEVKIT_STATE_DIR": str(tmp_path), **changes}
    if refused is None:
        refuse_unsupported(load_settings(environ))
        return
    with pytest.raises(SettingsError) as raised:
        load_settings(environ)
    assert [problem.variable for problem in raised.value.problems] == [refused]


def test_without_dask_the_setting_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    settings = load_settings({**BASE, "DEVKIT_STATE_DIR": str(tmp_path), "DEVKIT_HOST": "10.0.0.4"})
    with pytest.raises(SettingsError, match=r"hla-compass-devkit\[dask\]"):
        refuse_unsupported(settings)


def test_dask_is_imported_only_where_it_is_wanted() -> None:
    code = "import sys, devkit_api.server; print([name for name in sys.modules if name in ('distributed', 'dask')])"
    ran = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(REPO), "PATH": ""}, capture_output=True, text=True,
        check=True, timeout=PATIENCE,
    )  # fmt: skip
    assert ran.stdout.strip() == "[]"
