"""The protocol between server, nursery and zygotes, by itself."""

from __future__ import annotations

import itertools
import os
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devkit_api.execution.zygote import wire

BODIES = st.dictionaries(st.text(max_size=10), st.one_of(st.none(), st.integers(), st.text(max_size=50)), max_size=5)


def cut(data: bytes, points: list[int]) -> list[bytes]:
    bounds = [0, *sorted(point % (len(data) + 1) for point in points), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


@given(st.lists(BODIES, max_size=6), st.lists(st.integers(0, 10_000), max_size=8))
def test_messages_survive_any_cut(bodies: list[dict[str, Any]], points: list[int]) -> None:
    decoder = wire.Decoder()
    data = b"".join(wire.encode(body) for body in bodies)
    received = [message.body for piece in cut(data, points) for message in decoder.feed(piece)]
    assert received == bodies


@given(st.binary(min_size=wire.HEADER.size, max_size=200))
def test_noise_is_refused_and_never_taken_for_a_message(data: bytes) -> None:
    if data.startswith(wire.MAGIC):
        return
    with pytest.raises(wire.ProtocolError):
        list(wire.Decoder().feed(data))


@pytest.mark.parametrize(
    "frame",
    [
        wire.HEADER.pack(wire.MAGIC, wire.VERSION + 1, 0, 2) + b"{}",
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, 0, wire.MAX_BODY + 1),
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, wire.MAX_FDS + 1, 2) + b"{}",
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, 0, 2) + b"[]",
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, 0, 3) + b"{,}",
        wire.HEADER.pack(wire.MAGIC, wire.VERSION, 1, 2) + b"{}",
    ],
    ids=["other version", "too long", "too many descriptors", "no object", "no json", "descriptor missing"],
)
def test_frames_that_break_the_rules_are_refused(frame: bytes) -> None:
    with pytest.raises(wire.ProtocolError):
        list(wire.Decoder().feed(frame))


def test_body_over_the_limit_is_not_sent() -> None:
    with pytest.raises(wire.ProtocolError):
        wire.encode({"text": "x" * wire.MAX_BODY})


def test_descriptors_arrive_with_their_message() -> None:
    left, right = socket.socketpair()
    read_end, write_end = os.pipe()
    sender, receiver = wire.Connection(left), wire.Connection(right)
    sender.send({"n": 1})
    sender.send({"n": 2}, [write_end])
    sender.send({"n": 3})
    os.close(write_end)
    received = [receiver.receive() for _ in range(3)]
    assert [message.body["n"] for message in received if message] == [1, 2, 3]
    assert [len(message.fds) for message in received if message] == [0, 1, 0]
    (passed,) = received[1].fds  # type: ignore[union-attr]
    os.write(passed, b"through")
    os.close(passed)
    assert os.read(read_end, 100) == b"through"
    assert os.read(read_end, 100) == b""
    os.close(read_end)
    sender.close()
    assert receiver.receive() is None
    receiver.close()


def test_descriptors_nobody_took_are_closed_with_the_connection() -> None:
    left, right = socket.socketpair()
    read_end, write_end = os.pipe()
    frame = wire.encode({"n": 1}, 1)
    socket.send_fds(left, [frame[:5]], [write_end])
    os.close(write_end)
    left.close()
    receiver = wire.Connection(right)
    assert receiver.receive() is None  # a message that is cut short never arrives
    assert os.read(read_end, 1) == b""  # no writer is left
    os.close(read_end)
    receiver.close()


def test_message_that_was_taken_counts_as_sent_though_the_peer_is_gone_by_then(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = socket.socketpair()
    nothing = os.open(os.devnull, os.O_RDONLY)
    send_fds = socket.send_fds

    def send_and_lose_the_peer(*args: Any) -> int:
        sent = send_fds(*args)
        right.close()
        return sent

    monkeypatch.setattr(socket, "send_fds", send_and_lose_the_peer)
    sender = wire.Connection(left)
    sender.send({"op": "run"}, [nothing])
    sender.close()
    os.close(nothing)


def test_a_peer_that_was_killed_with_something_unread_is_gone() -> None:
    """The kernel answers with a reset instead of an end, and a zygote would print a traceback into the devkit's log."""
    here, there = socket.socketpair()
    connection = wire.Connection(here)
    connection.send({"unread": 1})
    there.close()
    assert connection.receive() is None
    connection.close()
