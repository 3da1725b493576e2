"""Who is at the other end when a proxy stands between: what a listed proxy says, and nobody else.

Read from the right, as each proxy adds to the end: the first address that is no listed proxy is the caller. A caller
can send either header itself; when both are there and name different callers, neither is believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

_MAX_HOPS = 20
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Proxies:
    """The proxies that are trusted; most devkits have none."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: tuple[Network, ...] = tuple(map(ip_network, networks))

    def address(self, request: web.BaseRequest) -> str:
        """The caller's address."""
        direct = str(request.remote)
        if not self._networks or not self._is_listed(direct):
            return direct
        said = {self._caller(hops) for hops in (_x_forwarded_for(request), _forwarded(request)) if hops}
        found = said.pop() if len(said) == 1 else None
        return found or direct

    def is_https(self, request: web.BaseRequest) -> bool:
        """Whether a listed proxy says that the caller came over https."""
        if not self._networks or not self._is_listed(str(request.remote)):
            return False
        return request.headers.get("X-Forwarded-Proto", "").strip().lower() == "https"

    def _caller(self, hops: list[str]) -> str | None:
        for hop in reversed(hops[-_MAX_HOPS:]):
            if _parsed(hop) is None:
                return None
            if not self._is_listed(hop):
                return str(_parsed(hop))
        return None

    def _is_listed(self, text: str) -> bool:
        address = _parsed(text)
        return address is not None and any(address in network for network in self._networks)


PROXIES: web.AppKey[Proxies] = web.AppKey("proxies", Proxies)


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _x_forwarded_for(request: web.BaseRequest) -> list[str]:
    values = ",".join(request.headers.getall("X-Forwarded-For", []))
    return [part.strip() for part in values.split(",") if part.strip()]


def _forwarded(request: web.BaseRequest) -> list[str]:
    """The `for` of each hop (RFC 7239), without port and brackets."""
    return [_without_port(hop.get("for", "")) for hop in request.forwarded]


def _without_port(node: str) -> str:
    if node.startswith("["):
        return node[1:].partition("]")[0]
    return node.partition(":")[0] if node.count(":") == 1 else node
