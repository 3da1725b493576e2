"""The policy table: every route names one row, and a row says which kinds of caller may pass.

A route without a row does not start (`check_routes`), so nothing is open by omission.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from devkit_api.errors import Forbidden, Unauthorized
from devkit_api.security.principals import Kind, Principal

_ANYONE = frozenset(Kind)
_KEY = frozenset({Kind.API_KEY})
_CREDENTIAL = frozenset({Kind.API_KEY, Kind.RUN_TOKEN})
_TOKEN = frozenset({Kind.RUN_TOKEN})


@attrs.frozen
class Policy:
    """Which kinds of caller pass; `own_run` binds a run token to the run named in the path."""

    kinds: frozenset[Kind]
    own_run: bool = False


POLICIES: dict[str, Policy] = {
    "system:read": Policy(_ANYONE),
    "system:reset": Policy(_KEY),
    "identity:read": Policy(_CREDENTIAL),
    "modules:read": Policy(_KEY),
    "modules:write": Policy(_KEY),
    "modules:delete": Policy(_KEY),
    "runs:start": Policy(_KEY),
    "runs:list": Policy(_KEY),
    "runs:read": Policy(_CREDENTIAL, own_run=True),
    "runs:cancel": Policy(_KEY),
    "runs:callback": Policy(_TOKEN, own_run=True),
    "data:read": Policy(_CREDENTIAL),
    # The signature in the address is the credential; the handler checks it.
    "objects:signed": Policy(_ANYONE),
}


def authorise(policy_name: str, principal: Principal, run_id: str | None) -> None:
    """Let `principal` pass or raise `Unauthorized` (no credential) or `Forbidden` (not this one)."""
    policy = POLICIES[policy_name]
    if principal.kind not in policy.kinds:
        if principal.kind is Kind.ANONYMOUS:
            raise Unauthorized(reason="none was sent", headers=CHALLENGE)
        raise Forbidden(reason=_refusal(policy, principal))
    if policy.own_run and principal.run_id is not None and principal.run_id != run_id:
        raise Forbidden(reason="a run token acts for its own run only")


def check_routes(policy_names: Iterable[str]) -> None:
    """Refuse to start with a route whose policy is not in the table."""
    missing = sorted(set(policy_names) - POLICIES.keys())
    if missing:
        raise LookupError(f"routes name unknown policies: {', '.join(missing)}")


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hla-compass-devkit"'}


def _refusal(policy: Policy, principal: Principal) -> str:
    if policy.kinds == _TOKEN:
        return "it takes the run token of the run, which only the module's own process holds"
    return f"a credential of kind {principal.kind.value} is not enough"
