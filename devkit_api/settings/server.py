"""Settings: the address of the server, and the folders it works with."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from devkit_api.settings.declare import setting
from devkit_api.settings.values import DataRoot, data_roots, host_name, path, url, whole_number


@attrs.frozen(kw_only=True, slots=False)
class ServerSettings:
    """Where the devkit listens, what it keeps where, and which folders of the machine it may read."""

    host: str = setting("HOST", "127.0.0.1", host_name, "Address to listen on.", example="127.0.0.1")
    port: int = setting("PORT", 4100, whole_number(0, 65535), "Port to listen on; 0 takes a free one.", example="4100")
    public_url: str | None = setting(
        "PUBLIC_URL",
        None,
        url,
        "Address under which clients reach the devkit, when it is not http://HOST:PORT: that of a proxy, say.",
        example="https://devkit.lab.example",
    )
    tls_cert: Path | None = setting(
        "TLS_CERT", None, path, "Certificate chain (PEM) to serve https with.", example="devkit-tls/cert.pem"
    )
    tls_key: Path | None = setting(
        "TLS_KEY", None, path, "Private key (PEM) of the certificate.", example="devkit-tls/key.pem"
    )
    state_dir: Path = setting(
        "STATE_DIR", Path(".devkit"), path, "Directory that holds everything the devkit keeps.", example=".devkit"
    )
    modules_dir: Path | None = setting(
        "MODULES_DIR",
        None,
        path,
        "Directory to watch: each subfolder with a manifest.json is a module.",
        example="./modules",
    )
    source_roots: tuple[Path, ...] = setting(
        "SOURCE_ROOTS",
        (),
        lambda value: tuple(path(part) for part in value.split(os.pathsep) if part),
        f"Directories from which `source.path` may register modules, joined by '{os.pathsep}'; MODULES_DIR is one.",
        example="/home/me/modules",
    )
    data_roots: tuple[DataRoot, ...] = setting(
        "DATA_ROOTS",
        (),
        data_roots,
        "Folders whose files the pages of modules may browse and read, never write.",
        example="study=/home/me/study",
    )
