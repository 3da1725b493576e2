"""The devkit's own trouble."""

from __future__ import annotations

from devkit_api.errors.base import DevkitError


class InternalError(DevkitError):
    """Something broke inside the devkit."""

    code = "INTERNAL_ERROR"
    status = 500
    template = "Something went wrong inside the devkit."
    hint = "Look for the correlation id in the devkit's log."


class Unavailable(DevkitError):
    """A part of the devkit cannot answer now."""

    code = "UNAVAILABLE"
    status = 503
    template = "{what} is not available now."
    hint = "Try again shortly; GET /v1/system/ready says what is missing."


class StandingBy(DevkitError):
    """This devkit stands by while another one owns the state."""

    code = "STANDING_BY"
    status = 503
    template = "This devkit stands by; another one answers."
    hint = "Ask the other devkit, or the proxy before both. This one takes over when the other ends (DEVKIT_STANDBY)."


class DeadlineExceeded(DevkitError):
    """The answer took too long to make."""

    code = "DEADLINE_EXCEEDED"
    status = 503
    template = "There was no answer within {seconds:g} s; {outcome}."
    hint = "GET /v1/system/health says what is busy; DEVKIT_ANSWER_TIMEOUT sets the deadline."


class StateWriteFailed(DevkitError):
    """A document could not be made durable, so nothing was acknowledged."""

    code = "STATE_WRITE_FAILED"
    status = 503
    template = "The change could not be stored, and was not made."
    hint = "Check the free space and the permissions of the state directory, then try again."
