"""Performs ``http`` effects: with the lean client, and with aiohttp what that does not do."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from zerver_runtime.outcome import Outcome, Success

from ..effect import Effect
from ..effects.http import HttpRequest, HttpResult
from .base import Done
from .folder import Folder
from .http_aiohttp import AiohttpEffector
from .http_client import LeanHttpEffector
from .http_client.request import fits
from .http_failure import unavailable
from .http_redirect import NoRedirect, redirected

__all__ = ["HttpEffector", "Propagate"]

Propagate: TypeAlias = Callable[[], str]
"""Gives the header lines of W3C Trace Context that the attempt which is being started is to carry, each with its end.
Called within ``start``; an effect that brings a ``traceparent`` of its own gets none."""


class HttpEffector:
    """aiohttp is imported when the first effect comes that needs it.

    :param max_body_bytes: the largest body of an answer that is accepted, before and after decompression.
    :param tls: how certificates are verified; default: against those that the system trusts.
    :param proxies: use the proxies that the environment names (``HTTP_PROXY`` and so on). All goes to aiohttp then.
    :param files: where bodies are saved.
    """

    def __init__(
        self,
        *,
        max_body_bytes: int = 8 * 1024 * 1024,
        tls: ssl.SSLContext | None = None,
        proxies: bool = False,
        propagate: Propagate | None = None,
        files: Folder | None = None,
    ) -> None:
        self._lean = LeanHttpEffector(max_body_bytes=max_body_bytes, tls=tls)
        self._full = AiohttpEffector(max_body_bytes=max_body_bytes, tls=tls, proxies=proxies, files=files)
        self._proxies = proxies
        self._propagate = propagate

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        request: HttpRequest = effect.args
        propagate = self._propagate
        more = "" if propagate is None else propagate()
        if more and request.headers and any(name == "traceparent" for name, _ in request.headers):
            more = ""
        if request.redirects:
            following = _Following(self._start, _carrying(effect, more), done)
            following.go()
            return following.cancel
        return self._start(effect, done, more)

    async def close(self) -> None:
        """Cancel what is in flight and close all connections."""
        try:
            await self._lean.close()
        finally:
            await self._full.close()

    def _start(self, effect: Effect[Any], done: Done, more: str = "") -> Callable[[], object] | None:
        """One request; those that redirects lead to have all header lines already."""
        if self._proxies or not fits(effect.args):
            return self._full.start(_carrying(effect, more), done)
        return self._lean.start(effect, done, more)

    def __repr__(self) -> str:
        return f"<HttpEffector: {self._lean!r}, {self._full!r}>"


def _carrying(effect: Effect[Any], more: str) -> Effect[Any]:
    request: HttpRequest = effect.args
    if not more:
        return effect
    fields = [(name, value) for name, _, value in [line.partition(": ") for line in more.splitlines()]]
    return msgspec.structs.replace(effect, args=msgspec.structs.replace(request, headers=(*request.headers, *fields)))


class _Following:
    """One attempt at an effect whose redirects are followed: one request after another."""

    __slots__ = ("_cancel", "_cancelled", "_done", "_effect", "_left", "_start")

    def __init__(
        self, start: Callable[[Effect[Any], Done], Callable[[], object] | None], effect: Effect[Any], done: Done
    ) -> None:
        self._start = start
        self._effect = effect
        self._done = done
        self._left = effect.args.redirects
        self._cancelled = False
        self._cancel: Callable[[], object] | None = None

    def go(self) -> None:
        left, self._cancel = self._left, None
        cancel = self._start(self._effect, self._settled)
        if left == self._left:  # else it has been answered already, and the next is under way
            self._cancel = cancel

    def cancel(self) -> None:
        self._cancelled = True
        if self._cancel is not None:
            self._cancel()

    def _settled(self, outcome: Outcome) -> None:
        answer = outcome.value if isinstance(outcome, Success) else None
        if self._cancelled or not isinstance(answer, HttpResult):
            self._done(outcome)
            return
        following = redirected(self._effect.args, answer)
        if following is None:
            self._done(outcome)
        elif isinstance(following, NoRedirect):
            self._done(unavailable(self._effect, following.why, retryable=False))
        elif not self._left:
            self._done(unavailable(self._effect, "too many redirects", retryable=False))
        else:
            self._left -= 1
            self._effect = msgspec.structs.replace(self._effect, args=following)
            self.go()
