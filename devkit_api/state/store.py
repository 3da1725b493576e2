"""The document store protocol: what the domains need of durable state, and nothing more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

Document = dict[str, Any]


class StateError(Exception):
    """A document could not be read or made durable."""


class StoreLocked(StateError):
    """Another process owns the state; `advice` says what to do."""

    def __init__(self, reason: str, advice: str) -> None:
        self.advice = advice
        super().__init__(reason)


class WriteRefused(StateError):
    """A change was not stored. Who refused it has said so in the log."""


class OwnershipLost(StateError):
    """Another process has taken over the state this one had: it may write no more."""


class DocumentStore(Protocol):
    """Collections of JSON documents by id.

    `put` and `delete` return when the change is durable: it survives `kill -9` and power loss. Writes to one document
    take effect in the order of the calls. A failed write raises `StateError` and leaves the earlier document whole.
    Reads may raise `Unavailable` while a store elsewhere does not answer.
    """

    async def open(self) -> None:
        """Take ownership. Raises `StoreLocked` when another process has it."""

    async def close(self) -> None:
        """Finish writes in progress and give up ownership."""

    def scan(self, collection: str) -> AsyncIterator[tuple[str, Document]]:
        """Every document of a collection, in no particular order. Unreadable ones are set aside and logged."""

    async def get(self, collection: str, key: str) -> Document | None:
        """One document, or None."""

    async def put(self, collection: str, key: str, document: Document) -> None:
        """Create or replace one document, durably."""

    async def delete(self, collection: str, key: str) -> None:
        """Remove one document; a missing one is fine."""

    async def clear(self, collection: str) -> None:
        """Remove every document of a collection."""
