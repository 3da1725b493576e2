"""The security chain in process: who passes, what every answer carries."""

from __future__ import annotations

import re
import time
from pathlib import Path
from string import Formatter
from typing import Any

import jwt
import pytest

from devkit_api.app import create_app
from devkit_api.errors import CATALOGUE, DevkitError
from devkit_api.modules.service import ModuleRegistry
from devkit_api.routing import ENDPOINTS, MACHINE_PLANE
from devkit_api.security.headers import SECURITY_HEADERS
from devkit_api.security.policy import POLICIES
from devkit_api.security.principals import Kind, Role
from devkit_api.settings import load_settings
from tests.support.modules import manifest
from tests.support.process import TEST_KEY

SECRET = "0123456789abcdef-fake-secret-for-tests"
ORIGIN = "http://localhost:5173"


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"iss": "hla-compass-devkit", "aud": "hla-compass-devkit", "sub": "someone", "iat": now, "nbf": now}
    return {k: v for k, v in {**base, "exp": now + 3600, "role": "developer", **changes}.items() if v is not None}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def sign(**changes: Any) -> str:
    return jwt.encode(claims(**changes), SECRET, algorithm="HS256")


async def test_every_route_has_a_policy_and_lives_on_both_planes(tmp_path: Path) -> None:
    app = create_app(load_settings({"DEVKIT_STATE_DIR": str(tmp_path / "s"), "DEVKIT_API_KEY": TEST_KEY}))
    policies = {route: known.policy for route, known in app[ENDPOINTS].items()}
    routes = [route for route in app.router.routes() if route.method != "HEAD"]
    assert len(routes) > 25
    assert {policies.get(id(route)) for route in routes} <= POLICIES.keys()
    paths = {route.resource.canonical for route in routes if route.resource is not None}
    for path in paths:
        if path.startswith("/v1/") and not path.startswith(MACHINE_PLANE):
            assert MACHINE_PLANE + path.removeprefix("/v1") in paths


async def test_a_body_may_be_as_large_as_its_route_says_on_both_planes(make_client: Any) -> None:
    client = await make_client(max_body_bytes=1024)
    for plane in ("/v1", MACHINE_PLANE):
        answer = await client.post(f"{plane}/devkit/inputs/a.csv", data=b"a" * 4096)
        assert answer.status == 201, await answer.text()
        for path in ("/module-runs", "/devkit/inputs", "/nowhere"):
            answer = await client.post(plane + path, data=b"a" * 4096)
            assert (answer.status, (await answer.json())["error"]["code"]) == (413, "BODY_TOO_LARGE"), path
        # A form is larger than JSON only where a module's source is taken.
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        assert (await client.post(plane + "/module-runs", data=b"a" * 4096, headers=form)).status == 413
        assert (await client.post(plane + "/devkit/modules", data=b"a" * 4096, headers=form)).status == 400


OPEN = {"system:read", "objects:signed", "cluster:attach", "session:begin"}


async def test_no_credential_opens_nothing_but_the_public_routes(make_client: Any) -> None:
    client = await make_client()
    app = client.app
    checked = 0
    for route in app.router.routes():
        policy = app[ENDPOINTS][id(route)].policy
        path = re.sub(r"\{[^}]+\}", "x", route.resource.canonical)
        async with client.anonymous.request(route.method, client.make_url(path)) as answer:
            if policy not in OPEN:
                assert answer.status == 401, (route.method, path)
        wrong = {"X-API-Key": "wrong-key-wrong"}
        async with client.anonymous.request(route.method, client.make_url(path), headers=wrong) as answer:
            assert answer.status in {401, 429}, (route.method, path)
        checked += 1
    assert checked > 25


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (lambda: jwt.encode(claims(), "", algorithm="none"), "unsigned"),
        (lambda: sign(exp=int(time.time()) - 3600), "expired"),
        (lambda: sign(nbf=int(time.time()) + 3600), "not yet valid"),
        (lambda: sign(iss="someone-else"), "wrong issuer"),
        (lambda: sign(aud="someone-else"), "wrong audience"),
        (lambda: sign(exp=None), "never expires"),
        (lambda: sign(sub=None), "names nobody"),
        (lambda: sign(role="emperor"), "unknown role"),
        (lambda: sign(sub="a\r\nb"), "a user id that is none"),
        (lambda: jwt.encode(claims(), SECRET * 2, algorithm="HS384"), "another algorithm"),
        (lambda: jwt.encode(claims(), SECRET + "x", algorithm="HS256"), "another secret"),
        (lambda: jwt.encode(claims(), SECRET, algorithm="HS256", headers={"kid": "../../etc/passwd"})[:-2], "altered"),
        (lambda: "x" * 5000, "too long"),
        (lambda: "", "empty"),
    ],
)
async def test_a_bearer_that_is_not_right_is_refused(make_client: Any, token: Any, reason: str) -> None:
    client = await make_client(jwt_secret=SECRET)
    good = await client.anonymous.get(client.make_url("/v1/modules"), headers=bearer(sign()))
    assert good.status == 200
    bad = await client.anonymous.get(client.make_url("/v1/modules"), headers=bearer(token()))
    assert bad.status == 401, reason
    assert "Bearer" in bad.headers["WWW-Authenticate"]
    assert (await bad.json())["error"]["code"] == "UNAUTHORIZED"


async def test_roles_bound_what_a_session_may_do(make_client: Any) -> None:
    client = await make_client(jwt_secret=SECRET)

    async def status(method: str, path: str, role: Role, **options: Any) -> int:
        headers = bearer(sign(role=role.value))
        async with client.anonymous.request(method, client.make_url(path), headers=headers, **options) as answer:
            return answer.status

    body = {"manifest": manifest("mine")}
    assert await status("POST", "/v1/devkit/modules", Role.USER, json=body) == 403
    assert await status("POST", "/v1/devkit/modules", Role.DEVELOPER, json=body) == 201
    assert await status("POST", "/v1/devkit/reset", Role.ORG_ADMIN) == 403
    assert await status("POST", "/v1/devkit/reset", Role.PLATFORM_ADMIN) == 200


async def test_required_roles_of_the_manifest_are_honoured(make_client: Any) -> None:
    client = await make_client(jwt_secret=SECRET)
    restricted = manifest("restricted", permissions={"requiredRoles": ["org_admin"]})
    assert (await client.post("/v1/devkit/modules", json={"manifest": restricted})).status == 201
    start = {"moduleId": "restricted", "parameters": {}, "mode": "async"}
    for role, expected in ((Role.DEVELOPER, 403), (Role.ORG_ADMIN, 202)):
        url = client.make_url("/v1/module-runs")
        async with client.anonymous.post(url, json=start, headers=bearer(sign(role=role.value))) as answer:
            assert answer.status == expected


async def test_a_run_is_seen_by_its_owner_and_admins_alone(make_client: Any) -> None:
    client = await make_client(jwt_secret=SECRET)
    await client.post("/v1/devkit/modules", json={"manifest": manifest("shared")})
    start = {"moduleId": "shared", "parameters": {}, "mode": "async"}

    async def call(method: str, path: str, user: str, role: str = "user", org: str = "org-1", **options: Any) -> Any:
        headers = bearer(sign(sub=user, role=role, org=org))
        async with client.anonymous.request(method, client.make_url(path), headers=headers, **options) as answer:
            return answer.status, await answer.json()

    _, run = await call("POST", "/v1/module-runs", "anna", json=start)
    path = f"/v1/module-runs/{run['runId']}"
    for suffix, method in (("", "GET"), ("/result", "GET"), ("/logs", "GET"), ("/cancel", "POST")):
        assert (await call(method, path + suffix, "boris"))[0] == 404
        assert (await call(method, path + suffix, "olga", "org_admin", "org-2"))[0] == 404
    assert (await call("GET", "/v1/module-runs", "boris"))[1]["runs"] == []
    for user, role in (("anna", "user"), ("olga", "org_admin"), ("petra", "platform_admin")):
        assert (await call("GET", path, user, role))[0] == 200
        assert len((await call("GET", "/v1/module-runs", user, role))[1]["runs"]) == 1


async def test_rate_limit_triggers_after_its_threshold_and_says_when_to_come_back(make_client: Any) -> None:
    client = await make_client(rate_limit_read="1/hour:3")
    statuses = []
    for _ in range(5):
        answer = await client.get("/v1/modules")
        statuses.append(answer.status)
    assert statuses == [200, 200, 200, 429, 429]
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["RateLimit-Policy"] == '"read";q=1;w=3600'
    assert (await answer.json())["error"]["code"] == "RATE_LIMITED"
    assert (await client.post("/v1/devkit/reset")).status == 200


async def test_cors_lets_listed_origins_read_every_kind_of_answer(make_client: Any) -> None:
    client = await make_client(cors_origins=ORIGIN, max_body_bytes=1024)
    requests = [
        ("GET", "/v1/modules", {}, 200),
        ("GET", "/nowhere", {}, 404),
        ("PATCH", "/v1/modules", {}, 405),
        ("POST", "/v1/module-runs", {"data": b"x" * 5000}, 413),
        ("POST", "/v1/module-runs", {"data": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/v1/module-runs", {"json": {}}, 422),
    ]
    for method, path, options, status in requests:
        for origin, expected in ((ORIGIN, ORIGIN), ("http://evil.example", None)):
            headers = {"Origin": origin, **options.get("headers", {})}
            answer = await client.request(method, path, **{**options, "headers": headers})
            assert answer.status == status
            assert answer.headers.get("Access-Control-Allow-Origin") == expected, (method, path)


async def test_a_preflight_needs_no_key_and_refuses_other_origins(make_client: Any) -> None:
    client = await make_client(cors_origins=ORIGIN)
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,content-type"}
    url = client.make_url("/v1/module-runs")
    async with client.anonymous.options(url, headers={"Origin": ORIGIN, **asked}) as good:
        assert good.status == 200
        assert good.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in good.headers["Access-Control-Allow-Methods"]
    async with client.anonymous.options(url, headers={"Origin": "http://evil.example", **asked}) as bad:
        assert bad.status == 403
        assert "Access-Control-Allow-Origin" not in bad.headers


async def test_every_answer_carries_the_security_headers(make_client: Any) -> None:
    client = await make_client()
    for method, path in (("GET", "/"), ("GET", "/nowhere"), ("PUT", "/v1/modules"), ("POST", "/v1/module-runs")):
        answer = await client.request(method, path, headers={"X-Correlation-ID": "given-1"})
        for name, value in SECURITY_HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["X-Correlation-ID"] == "given-1"
    forged = await client.get("/", headers={"X-Correlation-ID": 'x" forged="1'})
    assert "forged" not in forged.headers["X-Correlation-ID"]


def test_kinds_in_the_policy_table_are_known() -> None:
    assert {kind for policy in POLICIES.values() for kind in policy.kinds} <= set(Kind)


async def test_every_error_code_is_explained_where_the_error_says(make_client: Any) -> None:
    client = await make_client()
    refused = await (await client.get("/v1/module-runs/none")).json()
    explained = await client.get(refused["error"]["docs"])
    assert explained.status == 200
    assert (await explained.json())["code"] == refused["error"]["code"] == "RUN_NOT_FOUND"
    codes = await (await client.get("/docs/errors")).json()
    for code in [*codes["errors"], *codes["runErrors"]]:
        assert (await (await client.get(f"/docs/errors/{code}")).json())["meaning"]
    assert (await client.get("/docs/errors/NOPE")).status == 404


def made(error: type[DevkitError]) -> DevkitError:
    """The error with something in every field of its texts."""
    texts = f"{error.template} {error.hint}"
    return error(**{name: 1 for _, name, _, _ in Formatter().parse(texts) if name})


async def test_every_error_there_is_carries_headers_envelope_correlation_and_cors(
    make_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await make_client(cors_origins=ORIGIN, rate_limit_read="off")
    errors: list[tuple[int, str, Exception]] = [(e.status, e.code, made(e)) for e in CATALOGUE.values()]
    errors.append((500, "INTERNAL_ERROR", RuntimeError("a fake secret of the server")))
    assert {400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503} <= {status for status, _, _ in errors}
    for status, code, error in errors:

        def fail(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(ModuleRegistry, "page", fail)
        for origin in (ORIGIN, "http://evil.example"):
            answer = await client.get("/v1/modules", headers={"Origin": origin, "X-Correlation-ID": "mine-2"})
            assert answer.status == status, code
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value, code
            assert "Server" not in answer.headers
            assert answer.headers["X-Correlation-ID"] == "mine-2"
            assert answer.headers.get("Access-Control-Allow-Origin") == (origin if origin == ORIGIN else None)
            body = await answer.json()
            assert (body["success"], body["correlation_id"], body["error"]["code"]) == (False, "mine-2", code)
            assert body["error"].keys() == {"code", "message", "details", "hint", "docs"}
            assert "fake secret" not in str(body)
