"""Commands that decide who may call: `keys` and `users`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from devkit_api.cli.show import err, out, print_json
from devkit_api.security.api_keys import ApiKey, ApiKeyBook
from devkit_api.security.principals import ALL_SCOPES, Role
from devkit_api.security.private_files import PrivateFile
from devkit_api.security.users import UserBook
from devkit_api.settings import load_settings

_ROLES = click.Choice([role.value for role in Role])


@click.group()
def keys() -> None:
    """API keys with a role, scopes and an end. A running devkit takes changes within a second."""


@keys.command("create")
@click.argument("name")
@click.option("--role", type=_ROLES, default=Role.DEVELOPER.value, show_default=True)
@click.option("--scope", "scopes", multiple=True, type=click.Choice(sorted(ALL_SCOPES)), help="Default: all scopes.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires; default: never.")
@click.option("--user", "user_id", help="User id it acts as; default: the local user.")
def create_key(name: str, role: str, scopes: tuple[str, ...], days: int | None, user_id: str | None) -> None:
    """Create a key; it is shown once, alone on the last line."""
    settings = load_settings(os.environ)
    chosen = frozenset(scopes) or ALL_SCOPES
    _, text = _book().create(name, user_id=user_id or settings.user_id, role=Role(role), scopes=chosen, days=days)
    err.print("Keep this key now; it is not stored and not shown again:")
    click.echo(text)


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON alone.")
def list_keys(as_json: bool) -> None:
    """Show the keys, never their secrets."""
    known = _book().every()
    if as_json:
        print_json([_public(key) for key in known])
        return
    table = Table("Id", "Name", "Role", "Scopes", "Expires")
    for key in known:
        ends = f"{key.expires_at or 'never'}{' (expired)' if key.is_expired else ''}"
        table.add_row(key.key_id, escape(key.name), key.role, " ".join(key.scopes), ends)
    out.print(table)


def _public(key: ApiKey) -> dict[str, Any]:
    kept = {name: getattr(key, name) for name in ("name", "role", "scopes", "created_at", "expires_at")}
    return {"id": key.key_id, **kept, "expired": key.is_expired}


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Revoke a key by its id."""
    if not _book().revoke(key_id):
        raise click.ClickException(f"there is no key {key_id}; `devkit keys list` shows them")
    out.print(f"[green]Revoked[/green] {key_id}")


@click.group()
def users() -> None:
    """Local users, for `hla-compass auth login`."""


@users.command("add")
@click.argument("email")
@click.option("--role", type=_ROLES, default=Role.DEVELOPER.value, show_default=True)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def add_user(email: str, role: str, password_stdin: bool) -> None:
    """Add a user, or give one a new password and role."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    try:
        user = _users().add(email, password, Role(role))
    except ValueError as exc:
        raise click.ClickException(str(exc)) from None
    out.print(f"[green]Added[/green] {escape(user.email)} as {user.role}")


@users.command("list")
def list_users() -> None:
    """Show the users."""
    table = Table("Address", "Role", "Id")
    for user in _users().users():
        table.add_row(escape(user.email), user.role, user.user_id)
    out.print(table)


@users.command("remove")
@click.argument("email")
def remove_user(email: str) -> None:
    """Remove a user; its tokens end within the hour."""
    if not _users().remove(email):
        raise click.ClickException(f"there is no user {email}")
    out.print(f"[green]Removed[/green] {escape(email)}")


def _book() -> ApiKeyBook:
    settings = load_settings(os.environ)
    return ApiKeyBook(PrivateFile(settings.api_keys_path), settings.org_id)


def _users() -> UserBook:
    return UserBook(PrivateFile(load_settings(os.environ).users_path))
