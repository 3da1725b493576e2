"""Settings: state documents, catalogs, the database and the object store."""

from __future__ import annotations

import attrs

from devkit_api.settings.declare import setting
from devkit_api.settings.values import (
    account,
    boolean,
    choice,
    host_name,
    identifier,
    positive_seconds,
    secret,
    text,
    url,
    whole_number,
)


@attrs.frozen(kw_only=True, slots=False)
class StorageSettings:
    """Where documents, catalogs and files are kept, and how much of them is answered."""

    state_backend: str = setting(
        "STATE_BACKEND", "json", choice("json", "postgres"), "Where module and run documents live.", example="json"
    )
    standby: bool = setting(
        "STANDBY",
        False,
        boolean,
        "When another devkit owns the state in PostgreSQL, wait and take over when it ends, instead of giving up.",
        example="on",
    )
    max_stored_runs: int = setting(
        "MAX_STORED_RUNS",
        1000,
        whole_number(1, 10_000_000),
        "Finished runs kept; the oldest finished go first, unfinished ones never.",
        example="1000",
    )
    catalogs: bool = setting(
        "CATALOGS",
        True,
        boolean,
        "Data catalogs; off starts no PostgreSQL for them, and their addresses answer 503.",
        example="on",
    )
    sql_timeout: float = setting(
        "SQL_TIMEOUT", 30.0, positive_seconds(3600), "Longest time one SQL query of a user may take.", example="30"
    )
    sql_max_rows: int = setting(
        "SQL_MAX_ROWS", 100_000, whole_number(1, 10_000_000), "Most rows one SQL query may answer.", example="100000"
    )
    sql_max_bytes: int = setting(
        "SQL_MAX_BYTES",
        64 * 1024 * 1024,
        whole_number(1024, 1024**3),
        "Most bytes of JSON one SQL query may answer.",
        example="67108864",
    )
    db_pool_size: int = setting(
        "DB_POOL_SIZE", 10, whole_number(1, 50), "Most database connections for the devkit itself.", example="10"
    )
    db_host: str | None = setting(
        "DB_HOST", None, host_name, "PostgreSQL host; unset starts the embedded server.", example="db.lab.example"
    )
    db_port: int = setting("DB_PORT", 5432, whole_number(1, 65535), "PostgreSQL port.", example="5432")
    db_name: str = setting("DB_NAME", "hla_compass", identifier, "PostgreSQL database.", example="hla_compass")
    db_user: str = setting("DB_USER", "hla_compass", account, "PostgreSQL user.", example="hla_compass")
    db_password: str | None = setting(
        "DB_PASSWORD", None, secret, "PostgreSQL password.", example="$(openssl rand -hex 24)"
    )
    s3_endpoint: str | None = setting(
        "S3_ENDPOINT", None, url, "S3 endpoint; unset keeps objects as files.", example="http://127.0.0.1:9000"
    )
    s3_access_key: str | None = setting("S3_ACCESS_KEY", None, account, "S3 access key.", example="devkit-objects-user")
    s3_secret_key: str | None = setting(
        "S3_SECRET_KEY", None, secret, "S3 secret key.", example="$(openssl rand -hex 24)"
    )
    s3_region: str = setting("S3_REGION", "us-east-1", text(64), "S3 region.", example="us-east-1")
    s3_bucket: str = setting(
        "S3_BUCKET", "hla-compass-devkit", text(63), "Bucket name, also in the s3:// URIs of results.", example="devkit"
    )
