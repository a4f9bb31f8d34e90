"""Who may use the admin address: those who have named it themselves.

A page of somebody else's site can make a browser send requests anywhere. By DNS rebinding it can even read the answers:
its own name is made to point here. So a request has to name this address in ``Host``, and one that changes something
must come from a page of this address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Never
from urllib.parse import urlsplit

from ..context import CtxView
from ..decision import Continue, Decision, Fail
from ..error import ErrorKind
from ..step import step

__all__ = ["allowed_host", "guard"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def allowed_host(authority: str, names: Iterable[str] = ()) -> bool:
    """Whether a ``Host`` header means this address: ``localhost``, a loopback address, or one of ``names`` (hosts in
    lower case, without a port). Where one of these stands for all addresses (``0.0.0.0``, ``::``), so does each."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host in names:
        return True
    address = _address(host)
    # Nobody can have an address point elsewhere, as a name can.
    return address is not None and (address.is_loopback or any(_is_any(name) for name in names))


def guard(names: Iterable[str] = ()) -> Callable[[CtxView[Never, Never]], Decision]:
    """A step that refuses requests (403) whose ``Host`` is not :func:`allowed_host`; and those that change something
    and come from a page of another address (``Origin``)."""
    hosts = frozenset(names)

    @step
    def admin_guard(ctx: CtxView[Never, Never]) -> Decision:
        if not allowed_host(ctx.header("host", default=""), hosts):
            return Fail(
                ErrorKind.FORBIDDEN, "the admin address does not answer to this name; use its address, or localhost"
            )
        origin = ctx.header("origin", default="")
        if ctx.method not in _SAFE and origin and not _is_own(origin, ctx.header("host", default="")):
            return Fail(ErrorKind.FORBIDDEN, "this is not for pages of other addresses")
        return Continue()

    return admin_guard


def _is_own(origin: str, host: str) -> bool:
    return origin.partition("://")[2].lower() == host.lower()


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_any(name: str) -> bool:
    address = _address(name)
    return address is not None and address.is_unspecified
