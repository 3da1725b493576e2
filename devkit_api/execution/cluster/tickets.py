"""Tickets: which runs wait for a worker, and the one use each ticket has."""

from __future__ import annotations

import hashlib
import secrets
from typing import Protocol

import attrs

from devkit_api.errors import TicketInvalid
from devkit_api.execution.cluster.frames import Channel

_LONGEST = 100


class Holder(Protocol):
    """A run that waits for whoever comes with its ticket."""

    def claim(self) -> None:
        """A worker has the run from now on."""

    async def converse(self, channel: Channel) -> None:
        """Talk to that worker until the run is over; the connection is closed then."""

    def leave(self) -> None:
        """The worker is gone. A run that is over by then is not touched."""


@attrs.define
class Tickets:
    """In memory alone: a devkit that starts anew knows no ticket of before, so no worker begins a run of before."""

    _open: dict[bytes, Holder] = attrs.Factory(dict)

    def issue(self, holder: Holder) -> str:
        """A new ticket."""
        ticket = secrets.token_urlsafe(32)
        self._open[_key(ticket)] = holder
        return ticket

    def withdraw(self, ticket: str) -> None:
        """Nobody may come with it any more."""
        self._open.pop(_key(ticket), None)

    def claim(self, ticket: str) -> Holder:
        """The run, once. Raises `TicketInvalid`."""
        # Looked up by its hash: how long that takes says nothing of tickets there are.
        holder = self._open.pop(_key(ticket[:_LONGEST]), None)
        if holder is None:
            raise TicketInvalid
        holder.claim()
        return holder


def _key(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode("utf-8", "replace")).digest()
