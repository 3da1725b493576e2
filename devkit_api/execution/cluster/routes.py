"""Where workers of the cluster come for the runs they were summoned for."""

from __future__ import annotations

from aiohttp import web

from devkit_api.describe import Parameter, describe
from devkit_api.errors import BadRequest, TicketInvalid
from devkit_api.execution.cluster.attended import attended
from devkit_api.execution.cluster.frames import CHUNK, HEARTBEAT_SECONDS, PATH, TICKET_HEADER
from devkit_api.execution.cluster.tickets import Tickets
from devkit_api.middleware import rate_limit
from devkit_api.routing import Route

TICKETS: web.AppKey[Tickets] = web.AppKey("tickets", Tickets)

# The longest messages of a worker are pieces of a run's output; a line of a build may be as long.
_LONGEST_MESSAGE = 2 * 1024**2 + CHUNK


@describe(
    headers=(Parameter(TICKET_HEADER, {"type": "string"}, "The ticket of the summons; good once.", where="header"),),
    status=101,
    errors=(TicketInvalid, BadRequest),
)
async def attach(request: web.Request) -> web.StreamResponse:
    """`GET /v1/cluster/attach`: a WebSocket over which a worker of the Dask cluster executes one run."""
    channel = web.WebSocketResponse(heartbeat=HEARTBEAT_SECONDS, max_msg_size=_LONGEST_MESSAGE, compress=False)
    if not channel.can_prepare(request).ok:
        raise BadRequest(reason="it takes a WebSocket handshake")
    try:
        holder = request.app[TICKETS].claim(request.headers.get(TICKET_HEADER, ""))
    except TicketInvalid:
        rate_limit.count_refusal(request)
        raise
    try:
        await channel.prepare(request)
        async with attended(channel) as heard:
            await holder.converse(heard)
    finally:
        holder.leave()  # also when it was gone before the handshake was answered
    return channel


ROUTES = [Route("GET", PATH, attach, "cluster:attach", stream=True)]
