"""The policy table: every route names one row, and a row says which callers may pass.

A route without a row does not start (`check_routes`), so nothing is open by omission. Which documents a caller sees
is decided where they are read (`Principal.may_see`).
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from devkit_api.errors import Forbidden, Unauthorized
from devkit_api.security.principals import Kind, Principal, Role

_ANYONE = frozenset(Kind)
_PEOPLE = frozenset({Kind.API_KEY, Kind.SESSION})
_CREDENTIAL = _PEOPLE | {Kind.RUN_TOKEN}
_TOKEN = frozenset({Kind.RUN_TOKEN})
_SESSION = frozenset({Kind.SESSION})

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hla-compass-devkit"'}


@attrs.frozen
class Policy:
    """Kinds of caller that pass, the least role and the scope they need; `own_run` binds a run token to its run."""

    kinds: frozenset[Kind]
    role: Role = Role.USER
    scope: str | None = None
    own_run: bool = False


POLICIES: dict[str, Policy] = {
    "system:read": Policy(_ANYONE),
    "system:metrics": Policy(_PEOPLE, scope="read"),
    "system:reset": Policy(_PEOPLE, Role.PLATFORM_ADMIN, "delete"),
    "identity:read": Policy(_CREDENTIAL),
    "session:begin": Policy(_ANYONE),
    "session:end": Policy(_PEOPLE),
    "modules:read": Policy(_PEOPLE, scope="read"),
    "modules:write": Policy(_PEOPLE, Role.DEVELOPER, "modules:write"),
    "modules:delete": Policy(_PEOPLE, Role.DEVELOPER, "modules:delete"),
    "modules:publish": Policy(_PEOPLE, Role.DEVELOPER, "publish"),
    # As on the platform: by a person who signed in, not by a key.
    "modules:deploy": Policy(frozenset({Kind.SESSION}), Role.DEVELOPER, "publish"),
    "runs:start": Policy(_PEOPLE, scope="write"),
    "runs:list": Policy(_PEOPLE, scope="read"),
    "runs:read": Policy(_CREDENTIAL, scope="read", own_run=True),
    "runs:cancel": Policy(_PEOPLE, scope="write"),
    "runs:callback": Policy(_TOKEN, own_run=True),
    "reports:write": Policy(_PEOPLE, scope="write"),
    "data:read": Policy(_CREDENTIAL, scope="read"),
    # As on the platform: what publishes data takes a login, not a key that lives in scripts and modules.
    "data:write": Policy(_SESSION, scope="write"),
    "catalogs:read": Policy(_SESSION, scope="read"),
    "catalogs:admin": Policy(_SESSION, Role.ORG_ADMIN, "write"),
    # Files of the person, not of a run: module code has no business there.
    "local-data:read": Policy(_PEOPLE, scope="read"),
    "inputs:read": Policy(_PEOPLE, scope="read"),
    "inputs:write": Policy(_PEOPLE, scope="write"),
    # The signature in the address is the credential; the handler checks it.
    "objects:signed": Policy(_ANYONE),
    # The ticket is the credential, good once; the handler checks it.
    "cluster:attach": Policy(_ANYONE),
}


def authorise(policy_name: str, principal: Principal, run_id: str | None) -> None:
    """Let `principal` pass or raise `Unauthorized` (no credential) or `Forbidden` (not this one)."""
    policy = POLICIES[policy_name]
    if principal.kind not in policy.kinds:
        if principal.kind is Kind.ANONYMOUS:
            raise Unauthorized(reason="none was sent", headers=CHALLENGE)
        raise Forbidden(reason=_refusal(policy, principal))
    if principal.role.rank < policy.role.rank and Kind.ANONYMOUS not in policy.kinds:
        raise Forbidden(reason=f"the role {policy.role.value} is needed, this is {principal.role.value}")
    if policy.scope is not None and policy.scope not in principal.scopes:
        raise Forbidden(reason=f"the scope {policy.scope} is needed")
    if policy.own_run and principal.run_id is not None and principal.run_id != run_id:
        raise Forbidden(reason="a run token acts for its own run only")


def check_routes(policy_names: Iterable[str]) -> None:
    """Refuse to start with a route whose policy is not in the table."""
    missing = sorted(set(policy_names) - POLICIES.keys())
    if missing:
        raise LookupError(f"routes name unknown policies: {', '.join(missing)}")


def _refusal(policy: Policy, principal: Principal) -> str:
    if policy.kinds == _TOKEN:
        return "it takes the run token of the run, which only the module's own process holds"
    if policy.kinds == _SESSION:
        return "it takes a bearer token (`hla-compass auth login`); API keys and run tokens are not accepted"
    return f"a credential of kind {principal.kind.value} is not enough"
