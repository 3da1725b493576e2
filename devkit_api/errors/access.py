"""Who may not, or not now."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class Unauthorized(DevkitError):
    """No credential, or one that is not valid."""

    code = "UNAUTHORIZED"
    status = 401
    template = "This address needs a valid credential: {reason}."
    hint = 'Run `eval "$(python -m devkit_api env)"` in the shell of the client, or send the key as X-API-Key.'


class LoginRefused(DevkitError):
    """The sign-in or the refresh token is not right."""

    code = "LOGIN_REFUSED"
    status = 401
    template = "Sign-in refused: {reason}."
    hint = "`python -m devkit_api users add EMAIL` adds a local user or gives one a new password."


class Forbidden(DevkitError):
    """The credential is valid, and not enough for this."""

    code = "FORBIDDEN"
    status = 403
    template = "This credential may not do that: {reason}."
    hint = "Use a credential with the needed role or scope."


class TicketInvalid(DevkitError):
    """A worker of the cluster came with a ticket that is not good, or not any more."""

    code = "TICKET_INVALID"
    status = 401
    template = "This ticket is not good: it was used or withdrawn, or is not one of this devkit's."
    hint = "Nothing to do: a ticket is good once, and the run it was for has another worker, or has ended."


class SignatureInvalid(DevkitError):
    """A signed object URL was altered, is for another method or has expired."""

    code = "SIGNATURE_INVALID"
    status = 403
    template = "The signed address cannot be used: {reason}."
    hint = "Ask for a fresh address; signed addresses are short-lived and for one purpose."


class OriginRefused(DevkitError):
    """A web page of an origin that is not listed asks for access."""

    code = "ORIGIN_REFUSED"
    status = 403
    template = "Pages of this origin may not call the devkit."
    hint = "Name the origin in DEVKIT_CORS_ORIGINS, for example http://localhost:5173."


class RateLimited(DevkitError):
    """The caller sends faster than its bucket refills."""

    code = "RATE_LIMITED"
    status = 429
    template = "Too many {kind} requests."
    hint = "Try again after the seconds in Retry-After; DEVKIT_RATE_LIMIT_* sets all limits but that of signing in."
