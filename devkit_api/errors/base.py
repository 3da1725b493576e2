"""The error catalogue: one class per code.

Services raise these; `middleware/errors.py` turns them into the one error body. A class states its HTTP status, a
message template, a hint (what to do) and an example where one helps; `docs/errors.md` is made from them.
Message fields are chosen by us, never the text of an unexpected exception, so nothing internal leaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

CATALOGUE: dict[str, type[DevkitError]] = {}


class DevkitError(Exception):
    """Base of every error a client may see. Subclasses enter the catalogue by being defined."""

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500
    template: ClassVar[str] = ""
    hint: ClassVar[str] = ""
    example: ClassVar[str] = ""

    def __init__(
        self,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        hint: str | None = None,
        **fields: Any,
    ) -> None:
        self.message = self.template.format(**fields)
        self.details = dict(details or {})
        self.headers = dict(headers or {})
        self.advice = self.hint.format(**fields) if hint is None else hint
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.code in CATALOGUE:
            raise TypeError(f"error code {cls.code} is taken")
        CATALOGUE[cls.code] = cls

    @property
    def docs(self) -> str:
        """Where to read on, relative to the devkit's address."""
        return f"/docs/errors/{self.code}"
