"""An S3 server of its own, and a proxy that misbehaves on demand."""

from __future__ import annotations

from typing import Any

from devkit_api.settings import Settings, load_settings

ACCESS = {"s3_access_key": "test-access", "s3_secret_key": "test-secret-0123456789"}


def s3_settings(endpoint: str, bucket: str) -> dict[str, Any]:
    """Settings (without their prefix) that keep objects at this S3."""
    return {"s3_endpoint": endpoint, "s3_bucket": bucket, **ACCESS}


def load_s3(endpoint: str, bucket: str, state: Any) -> Settings:
    """The settings a store is made with."""
    names = {**s3_settings(endpoint, bucket), "api_key": "test-key-0123456789abcdef", "state_dir": str(state)}
    return load_settings({f"DEVKIT_{name.upper()}": str(value) for name, value in names.items()})
