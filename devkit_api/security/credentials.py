"""The devkit's own credentials: generated once per state directory, readable by the owner alone."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
from pathlib import Path

import attrs

from devkit_api.atomic import fsync_folder, make_folder_durable, write_atomic
from devkit_api.settings import PREFIX, Problem, Settings, SettingsError
from devkit_api.settings.values import secret

FILE_NAME = "credentials.env"


@attrs.frozen
class Credentials:
    """The API key clients send, and the secret everything else is signed with."""

    api_key: str = attrs.field(repr=False)
    signing_secret: str = attrs.field(repr=False)


def load_credentials(settings: Settings, *, create: bool = True) -> Credentials | None:
    """Credentials from the settings, completed from `<state>/credentials.env`.

    What is missing is generated and stored with mode 600 when `create` is true; otherwise None is returned if the
    file does not exist yet. Raises `SettingsError` when the file can be read by others or holds no usable value.
    """
    path = settings.state_dir / FILE_NAME
    stored = _read(path) if path.exists() else {}
    for name, value in stored.items():
        _check(path, name, value)
    api_key = settings.api_key or stored.get(PREFIX + "API_KEY")
    signing_secret = settings.jwt_secret or stored.get(PREFIX + "JWT_SECRET")
    if api_key and signing_secret:
        return Credentials(api_key, signing_secret)
    if not create:
        return None
    generated = Credentials(
        api_key or f"hla_devkit_{secrets.token_urlsafe(32)}", signing_secret or secrets.token_hex(32)
    )
    try:
        _write(path, stored, settings, generated)
    except OSError as exc:
        reason = f"{settings.state_dir} cannot hold the credentials ({os.strerror(exc.errno or 0)})"
        raise SettingsError([Problem(PREFIX + "STATE_DIR", reason, f"export {PREFIX}STATE_DIR=.devkit")]) from exc
    return generated


def _check(path: Path, name: str, value: str) -> None:
    try:
        secret(value)
    except ValueError as exc:
        fix = f"rm {shlex.quote(str(path))}, and new ones are made at the next start"
        raise SettingsError([Problem(f"{path}: {name[:40]}", str(exc), fix)]) from None


def _write(path: Path, stored: dict[str, str], settings: Settings, credentials: Credentials) -> None:
    values = dict(stored)
    if settings.api_key is None:
        values[PREFIX + "API_KEY"] = credentials.api_key
    if settings.jwt_secret is None:
        values[PREFIX + "JWT_SECRET"] = credentials.signing_secret
    lines = ["# Made by the devkit. Keep it private; delete it to get new credentials at the next start."]
    lines += [f"{name}={value}" for name, value in values.items()]
    make_folder_durable(path.parent)
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    fsync_folder(path.parent)


def _read(path: Path) -> dict[str, str]:
    mode = path.stat()
    if mode.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        reason = "other users of this machine can read it"
        raise SettingsError([Problem(str(path), reason, f"chmod 600 {shlex.quote(str(path))}")])
    if mode.st_uid not in {os.getuid(), 0}:
        raise SettingsError([Problem(str(path), "it belongs to another user", f"rm {shlex.quote(str(path))}")])
    values = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            values[name.strip()] = value.strip()
    return values
