"""Documents that survive: the store protocol and its adapters."""

from devkit_api.state.store import Document, DocumentStore, OwnershipLost, StateError, StoreLocked, WriteRefused

__all__ = ["Document", "DocumentStore", "OwnershipLost", "StateError", "StoreLocked", "WriteRefused"]
