"""Every route tried by every kind of caller. Who passes is written down here again, apart from the policy table."""

from __future__ import annotations

import re
from typing import Any

from devkit_api.routing import ENDPOINTS
from devkit_api.security.api_keys import ApiKeyBook
from devkit_api.security.principals import Role
from devkit_api.security.private_files import PrivateFile
from tests.security.test_chain import SECRET, bearer, sign
from tests.support.modules import manifest

# n nobody, k key that may only read, u signed-in user, d developer, o organisation's admin, a owner of the devkit
# (a key), r a run's own token, s the same token at another run.
PASSES = {
    "system:read": "nkudoars",
    "session:begin": "nkudoars",
    "objects:signed": "nkudoars",
    "cluster:attach": "nkudoars",
    "system:metrics": "kudoa",
    "system:reset": "a",
    "identity:read": "kudoars",
    "session:end": "kudoa",
    "modules:read": "kudoa",
    "modules:write": "doa",
    "modules:delete": "doa",
    "modules:publish": "doa",
    "modules:deploy": "do",
    "runs:start": "udoa",
    "runs:list": "kudoa",
    "runs:read": "kudoar",
    "runs:cancel": "udoa",
    "runs:callback": "r",
    "reports:write": "udoa",
    "data:read": "kudoars",
    "data:write": "udo",
    "catalogs:read": "udo",
    "catalogs:admin": "o",
    "local-data:read": "kudoa",
    "inputs:read": "kudoa",
    "inputs:write": "udoa",
}
REFUSALS = {"UNAUTHORIZED", "FORBIDDEN"}
OFF = dict.fromkeys(("rate_limit_read", "rate_limit_write", "rate_limit_run"), "off")


async def started_run(client: Any) -> tuple[str, str]:
    """A run's id and its token."""
    body = {"moduleId": "guarded", "parameters": {}, "mode": "async"}
    answer = await client.post("/v1/module-runs", json=body)
    assert answer.status == 202, await answer.text()
    run = await answer.json()
    return run["runId"], run["token"]


async def test_every_route_lets_pass_whom_it_should_and_nobody_else(make_client: Any) -> None:
    client = await make_client(jwt_secret=SECRET, **OFF)
    keys = ApiKeyBook(PrivateFile(client.app_state / "api-keys.json"), "org")
    _, narrow = keys.create("narrow", user_id="u", role=Role.DEVELOPER, scopes=frozenset({"read"}), days=1)
    people = {
        "n": {},
        "k": {"X-API-Key": narrow},
        "u": bearer(sign(role="user")),
        "d": bearer(sign(role="developer")),
        "o": bearer(sign(role="org_admin")),
        "a": {"X-API-Key": client.session.headers["X-API-Key"]},
    }
    await client.post("/v1/devkit/modules", json={"manifest": manifest("guarded")})
    known = client.app[ENDPOINTS]
    wrong = []

    async def is_refused(method: str, path: str, headers: dict[str, str]) -> bool:
        async with client.anonymous.request(method, client.make_url(path), headers=headers) as answer:
            if answer.status not in {401, 403}:
                return False
            # A HEAD has no body to read the code from; what it may is decided as for GET.
            return method == "HEAD" or (await answer.json())["error"]["code"] in REFUSALS

    tried = 0
    for route in client.app.router.routes():
        policy, place = known[id(route)].policy, route.resource.canonical
        if policy == "objects:signed" and route.method == "HEAD":
            continue
        for caller in "nkudoars":
            if (caller in "rs") != ("{run_id}" in place) and caller == "r":
                continue  # a run has its own token at its own routes
            if caller in "rs":
                run_id, token = await started_run(client)
                run_id = run_id if caller == "r" else (await started_run(client))[0]
                headers = {"X-API-Key": token}
            else:
                run_id, headers = "x", people[caller]
            if caller == "s" and policy in {"runs:read", "runs:callback"} and "{run_id}" not in place:
                continue  # it is told by the handler, not by the table
            path = re.sub(r"\{[^}]+\}", "x", place.replace("{run_id}", run_id))
            if policy == "system:reset" and caller in PASSES[policy]:
                continue  # it would empty the devkit under the test
            if await is_refused(route.method, path, headers) == (caller in PASSES[policy]):
                wrong.append((caller, policy, route.method, place))
            tried += 1
    assert not wrong, "\n".join(map(str, wrong))
    assert tried > 1000
    assert {known[id(route)].policy for route in client.app.router.routes()} <= PASSES.keys()
