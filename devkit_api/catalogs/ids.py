"""Ids that are the same on every machine, so that examples and tests can name them."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("6a0f6a5e-5d0b-5c1e-9a55-41006a0f6a5e")

# wire-contract F.1: the pair the SDK's documents name.
DEMO_PROVIDER = "alithea-bio"
DEMO_CATALOG = "immunopeptidomics"
# One higher whenever the shipped demo rows change: a version never changes, so new rows are a new version.
DEMO_LABEL = "demo-3"


def catalog_id(provider: str, catalog: str) -> uuid.UUID:
    """The id of the catalog with these keys."""
    return uuid.uuid5(_NAMESPACE, f"{provider}/{catalog}")


def version_id(catalog: uuid.UUID, label: str) -> uuid.UUID:
    """The id of the version of a catalog with this label."""
    return uuid.uuid5(catalog, label)
