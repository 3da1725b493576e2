"""Stands in for `in_process` where pytest-asyncio is not."""

from __future__ import annotations

from typing import NoReturn

import pytest


@pytest.fixture
def devkit() -> NoReturn:
    """Says what is missing."""
    pytest.fail("the fixture `devkit` is asynchronous and needs pytest-asyncio: pip install pytest-aiohttp", False)
