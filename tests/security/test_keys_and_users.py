"""Named keys, local users, and the sign-in family."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devkit_api.security import private_files
from devkit_api.security.api_keys import ApiKeyBook
from devkit_api.security.principals import ALL_SCOPES, Role
from devkit_api.security.private_files import PrivateFile
from devkit_api.security.rate_limit import TokenBuckets
from devkit_api.security.users import UserBook
from devkit_api.settings import RateLimit, SettingsError
from tests.support.process import DevkitProcess
from tests.support.waiting import PATIENCE

PASSWORD = "a fake pass phrase"


def devkit_cli(devkit: DevkitProcess, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "devkit_api", *arguments],
        env=devkit.environment(), cwd=devkit.root, input=stdin, capture_output=True, text=True, check=False,
        timeout=PATIENCE,
    )  # fmt: skip


def book(path: Path) -> ApiKeyBook:
    return ApiKeyBook(PrivateFile(path), "org")


def test_a_key_is_known_until_it_is_revoked_and_is_not_in_the_file(tmp_path: Path) -> None:
    keys = book(tmp_path / "keys.json")
    _, old = keys.create("old", user_id="u", role=Role.USER, scopes=ALL_SCOPES, days=None)
    key, new = keys.create("new", user_id="u", role=Role.DEVELOPER, scopes=frozenset({"read"}), days=30)
    reread = book(tmp_path / "keys.json")
    assert reread.principal(old) is not None  # two at once: a rotation
    principal = reread.principal(new)
    assert principal is not None
    assert (principal.role, principal.scopes) == (Role.DEVELOPER, frozenset({"read"}))
    text = (tmp_path / "keys.json").read_text()
    assert new.rsplit("_", 1)[1] not in text
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert reread.principal(new[:-1] + ("a" if new[-1] != "a" else "b")) is None
    assert keys.revoke(key.key_id)
    assert not keys.revoke(key.key_id)
    assert keys.principal(new) is None


def test_an_expired_key_is_refused(tmp_path: Path) -> None:
    file = PrivateFile(tmp_path / "keys.json")
    keys = ApiKeyBook(file, "org")
    _, text = keys.create("short", user_id="u", role=Role.USER, scopes=ALL_SCOPES, days=1)
    assert keys.principal(text) is not None
    stored = file.read()["keys"][0]
    file.write({"keys": [{**stored, "expires_at": "2020-01-01T00:00:00+00:00"}]})
    assert keys.principal(text) is None


def test_a_file_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    book(path).create("k", user_id="u", role=Role.USER, scopes=ALL_SCOPES, days=None)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        PrivateFile(path).check()
    assert PrivateFile(path).read() == {}


async def test_scopes_narrow_a_key(make_client: Any, tmp_path: Path) -> None:
    keys = book(tmp_path / "keys.json")
    _, reader = keys.create("reader", user_id="u", role=Role.PLATFORM_ADMIN, scopes=frozenset({"read"}), days=None)
    client = await make_client(api_keys_file=tmp_path / "keys.json")
    headers = {"X-API-Key": reader}
    assert (await client.get("/v1/modules", headers=headers)).status == 200
    refused = await client.post("/v1/devkit/modules", json={}, headers=headers)
    assert refused.status == 403
    assert "modules:write" in (await refused.json())["error"]["message"]


async def test_refresh_tokens_rotate_and_reuse_ends_the_family(make_client: Any, tmp_path: Path) -> None:
    client = await make_client()
    UserBook(PrivateFile(tmp_path / "state" / "users.json")).add("anna@lab.example", PASSWORD, Role.DEVELOPER)

    async def post(path: str, body: dict[str, Any], token: str | None = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with client.anonymous.post(client.make_url(path), json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    wrong = await post("/v1/auth/login", {"email": "anna@lab.example", "password": "wrong"})
    unknown = await post("/v1/auth/login", {"email": "nobody@lab.example", "password": "wrong"})
    assert wrong[0] == unknown[0] == 401
    assert wrong[1]["error"] == unknown[1]["error"]
    status, first = await post("/v1/auth/login", {"email": "Anna@lab.example", "password": PASSWORD})
    assert status == 200
    status, second = await post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    assert status == 200
    assert (await post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]}))[0] == 401
    assert (await post("/v1/auth/refresh", {"refresh_token": second["refresh_token"]}))[0] == 401
    _, again = await post("/v1/auth/login", {"email": "anna@lab.example", "password": PASSWORD})
    status, answer = await post(
        "/v1/auth/logout", {"refresh_token": again["refresh_token"]}, token=again["access_token"]
    )
    assert (status, answer) == (200, {"refreshSessionsRevoked": True})
    assert (await post("/v1/auth/refresh", {"refresh_token": again["refresh_token"]}))[0] == 401


async def test_who_was_added_or_removed_a_moment_ago_is_so_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_files, "_RECHECK_SECONDS", PATIENCE)
    server, command_line = (UserBook(PrivateFile(tmp_path / "users.json")) for _ in range(2))
    anna = ("anna@lab.example", PASSWORD)
    assert await server.check(*anna) is None
    added = command_line.add(*anna, Role.DEVELOPER)
    assert await server.check(*anna) == added
    command_line.remove(anna[0])
    assert await server.check(*anna) is None


@pytest.mark.process
def test_the_official_cli_signs_in_and_out(make_devkit: Callable[..., DevkitProcess]) -> None:
    with make_devkit() as devkit:
        added = devkit_cli(devkit, "users", "add", "anna@lab.example", "--password-stdin", stdin=PASSWORD + "\n")
        assert added.returncode == 0, added.stderr
        environment = devkit.sdk_environment()
        for name in ("HLA_API_KEY", "PYTHON_KEYRING_BACKEND"):
            environment.pop(name)

        def sdk(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
            command = [str(Path(sys.executable).with_name("hla-compass")), *arguments]
            return subprocess.run(
                command, env=environment, input=stdin, capture_output=True, text=True, timeout=PATIENCE,
                cwd=devkit.root, check=False,
            )  # fmt: skip

        signed_in = sdk(
            "auth", "login", "--email", "anna@lab.example", "--password-stdin", "--env", "dev", stdin=PASSWORD
        )
        assert signed_in.returncode == 0, signed_in.stdout + signed_in.stderr
        checked = sdk("auth", "status", "--check")
        assert "Credential verified" in checked.stdout, checked.stdout + checked.stderr
        assert sdk("modules", "list").returncode == 0
        assert sdk("auth", "logout").returncode == 0
        token = devkit_cli(devkit, "token").stdout.splitlines()[-1]
        environment["HLA_ACCESS_TOKEN"] = token
        assert sdk("modules", "list").returncode == 0


@pytest.mark.process
def test_keys_are_made_listed_and_revoked_on_the_command_line(make_devkit: Callable[..., DevkitProcess]) -> None:
    with make_devkit() as devkit:
        made = devkit_cli(devkit, "keys", "create", "ci", "--role", "user", "--scope", "read", "--days", "1")
        key = made.stdout.splitlines()[-1]
        identity = devkit.request("GET", "/v1/auth/me", key=key)
        assert identity.status_code == 200, made.stderr + identity.text
        assert identity.json()["data"]["role"] == "user", identity.text
        listed = devkit_cli(devkit, "keys", "list", "--json").stdout
        assert key not in listed
        assert '"ci"' in listed


def test_a_bucket_refills_with_time_and_forgets_old_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    buckets = TokenBuckets(RateLimit(2, 1, 4), clock=lambda: now[0])
    assert [buckets.take("a").allowed for _ in range(5)] == [True, True, True, True, False]
    assert buckets.take("a").retry_after == 1
    now[0] += 1.0
    assert [buckets.take("a").allowed for _ in range(3)] == [True, True, False]
    monkeypatch.setattr("devkit_api.security.rate_limit.MAX_CALLERS", 10)
    for caller in range(100):
        buckets.take(str(caller))
    assert len(buckets._buckets) <= 11
