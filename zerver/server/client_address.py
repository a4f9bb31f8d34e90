"""Who the client is: the peer of the connection, unless that is a proxy whose word is trusted."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

__all__ = ["ClientAddress"]

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class ClientAddress:
    """``trusted``: addresses and networks (``10.0.0.0/8``) of proxies; ``unix`` trusts whoever connects to a Unix
    socket. Without any, headers are never looked at.

    :raises ValueError: one is neither.
    """

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        names = list(trusted)
        self._unix = "unix" in names
        self._networks = [ipaddress.ip_network(one) for one in names if one != "unix"]
        self.any = bool(names)
        """Whether there are any."""

    def of(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The client's address. ``peer`` is that of the connection, empty for a Unix socket.

        Of ``X-Forwarded-For`` the last address that no trusted proxy has: what is before it anybody may have written.
        """
        if not self.trusts(peer):
            return peer
        hops = [hop.strip() for name, value in headers if name == b"x-forwarded-for" for hop in value.split(b",")]
        client = peer
        for hop in reversed(hops):
            address = _address(hop.decode("latin-1"))
            if address is None:
                break
            client = str(address)
            if not self.trusts(client):
                break
        return client

    def scheme(self, peer: str, headers: Sequence[tuple[bytes, bytes]], own: str) -> str:
        """``http`` or ``https``: what the last ``X-Forwarded-Proto`` says, or ``own``, that of the connection."""
        if self.any and self.trusts(peer):
            for name, value in reversed(headers):
                if name == b"x-forwarded-proto":
                    last = value.rpartition(b",")[2].strip().lower()
                    return last.decode("ascii") if last in (b"http", b"https") else own
        return own

    def trusts(self, peer: str) -> bool:
        """Whether an address is one of them; an empty one is that of a Unix socket."""
        if not peer:
            return self._unix
        address = _address(peer)
        return address is not None and any(address in network for network in self._networks)


def _address(text: str) -> _Address | None:
    if text.startswith("["):  # [v6]:port
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # v4:port
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # a zone is of that machine alone, and may be any text
    except ValueError:
        return None
    # A socket for both versions sees v4 peers as ::ffff:10.0.0.1.
    return address if address.version == 4 else address.ipv4_mapped or address
