"""Settings: what requests may take, and what is logged of them."""

from __future__ import annotations

from pathlib import Path

import attrs

from devkit_api.settings.declare import setting
from devkit_api.settings.values import (
    RateLimit,
    choice,
    networks,
    path,
    positive_seconds,
    rate_limit,
    strict_rate_limit,
    url,
    whole_number,
)


@attrs.frozen(kw_only=True, slots=False)
class RequestSettings:
    """Sizes, patience, rates and connections; the proxies in front; the log."""

    max_body_bytes: int = setting(
        "MAX_BODY_BYTES",
        8 * 1024 * 1024,
        whole_number(1024, 1024**3),
        "Largest accepted JSON body.",
        example="8388608",
    )
    max_source_bytes: int = setting(
        "MAX_SOURCE_BYTES",
        64 * 1024 * 1024,
        whole_number(1024, 8 * 1024**3),
        "Largest module source: the uploaded zip, and all its files unpacked.",
        example="67108864",
    )
    max_object_bytes: int = setting(
        "MAX_OBJECT_BYTES",
        5 * 1024**3,
        whole_number(1024, 5 * 1024**4),
        "Largest single file a run may save.",
        example="5368709120",
    )
    client_timeout: float = setting(
        "CLIENT_TIMEOUT",
        20.0,
        positive_seconds(600),
        "Patience with a client: to send its first request, and to send less than 1 KiB/s of a body.",
        example="20",
    )
    keepalive_timeout: float = setting(
        "KEEPALIVE_TIMEOUT",
        75.0,
        positive_seconds(3600),
        "How long an idle connection is kept for a next request; longer than a proxy in front keeps it.",
        example="75",
    )
    max_connections: int = setting(
        "MAX_CONNECTIONS",
        2000,
        whole_number(64, 100_000),
        "Connections at once, at most half as many as files may be open; then the oldest that asked nothing is cut.",
        example="2000",
    )
    http_connections: int = setting(
        "HTTP_CONNECTIONS",
        32,
        whole_number(1, 1000),
        "Connections to other servers at once; a quarter of them to any one.",
        example="32",
    )
    compress_above: int = setting(
        "COMPRESS_ABOVE",
        8192,
        whole_number(0, 1024**3),
        "Answers of more bytes are sent as gzip to clients that take it; 0: none. Streams and secrets never are.",
        example="8192",
    )
    answer_timeout: float = setting(
        "ANSWER_TIMEOUT",
        60.0,
        positive_seconds(3600),
        "Longest time until a request is answered; streams, transfers, SQL and interactive starts have their own.",
        example="60",
    )
    trusted_proxies: tuple[str, ...] = setting(
        "TRUSTED_PROXIES",
        (),
        networks,
        "Proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed; none by default.",
        example="127.0.0.1,10.0.0.0/8",
    )
    otlp_endpoint: str | None = setting(
        "OTLP_ENDPOINT",
        None,
        url,
        "Collector that gets traces of requests and runs, as OTLP over HTTP; needs the extra otel. Unset: no traces.",
        example="http://127.0.0.1:4318",
    )
    audit_file: Path | None = setting(
        "AUDIT_FILE",
        None,
        path,
        "File of the audit stream, JSON lines, mode 600, ten of 10 MiB kept. Unset, it goes to the log.",
        example=".devkit/audit.jsonl",
    )
    max_run_bytes: int = setting(
        "MAX_RUN_BYTES",
        50 * 1024**3,
        whole_number(1024, 5 * 1024**4),
        "Most bytes all files of one run may have.",
        example="53687091200",
    )
    max_version_bytes: int = setting(
        "MAX_VERSION_BYTES",
        1024**3,
        whole_number(0, 5 * 1024**4),
        "Most bytes the earlier versions of a run's files may take; 0 keeps none. A bucket keeps what it is set to.",
        example="1073741824",
    )
    max_run_files: int = setting(
        "MAX_RUN_FILES", 100_000, whole_number(1, 10_000_000), "Most files one run may save.", example="100000"
    )
    rate_limit_read: RateLimit | None = setting(
        "RATE_LIMIT_READ", RateLimit(6000, 1, 12000), rate_limit, "Reads per caller.", example="6000/second:12000"
    )
    rate_limit_write: RateLimit | None = setting(
        "RATE_LIMIT_WRITE", RateLimit(3000, 1, 6000), rate_limit, "Writes per caller.", example="3000/second:6000"
    )
    rate_limit_run: RateLimit | None = setting(
        "RATE_LIMIT_RUN", RateLimit(3000, 1, 6000), rate_limit, "Run starts per caller.", example="3000/second:6000"
    )
    # Guessing a key must be slow; a misconfigured client may still try a few times a second.
    rate_limit_refused: RateLimit = setting(
        "RATE_LIMIT_REFUSED", RateLimit(20, 1, 60), strict_rate_limit, "Wrong credentials per address.",
        example="20/second:60",
    )  # fmt: skip
    log_level: str = setting(
        "LOG_LEVEL", "INFO", choice("DEBUG", "INFO", "WARNING", "ERROR"), "Least severe level logged.", example="INFO"
    )
    log_format: str = setting(
        "LOG_FORMAT", "console", choice("console", "json"), "Log lines for people or for machines.", example="json"
    )
