"""Documents that survive: the store protocol and its adapters."""

from devkit_api.state.store import Document, DocumentStore, StateError, StoreLocked

__all__ = ["Document", "DocumentStore", "StateError", "StoreLocked"]
