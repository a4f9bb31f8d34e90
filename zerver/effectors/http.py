"""Performs ``http`` effects with aiohttp, over kept-alive connections."""

from __future__ import annotations

import importlib
import logging
import ssl
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerver_runtime.outcome import Failure

from ..effect import Effect
from ..effects.http import HttpRequest, HttpResult
from ..error import Error, ErrorKind
from .base import AsyncEffector, Done

if TYPE_CHECKING:
    import aiohttp

__all__ = ["HttpEffector"]

_log = logging.getLogger("zerver.effects")

# Headers that aiohttp would make up.
_NOT_OURS = ("Content-Type", "User-Agent")


class HttpEffector:
    """The session comes with the first effect. Redirects are not followed, cookies are
    not kept, proxies of the environment are not used.

    :param max_body_bytes: the largest body of an answer that is accepted, after decompression.
    :param tls: how certificates are verified; default: against those that the system trusts.
    """

    def __init__(self, *, max_body_bytes: int = 8 * 1024 * 1024, tls: ssl.SSLContext | None = None) -> None:
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._attempts = AsyncEffector(self._perform, close=self._close)

    async def open(self) -> None:
        """Begin to import aiohttp, on a thread: it takes longer than a boot should, or a first effect may."""
        if "aiohttp" not in sys.modules:
            threading.Thread(
                target=importlib.import_module, args=("aiohttp",), name="zerver-import", daemon=True
            ).start()

    def start(self, effect: Effect[Any], done: Done, /) -> Callable[[], object] | None:
        return self._attempts.start(effect, done)

    async def close(self) -> None:
        """Cancel what is in flight and close all connections."""
        await self._attempts.close()

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _perform(self, effect: Effect[Any]) -> HttpResult | Failure:
        import aiohttp
        import yarl

        session = self._session
        if session is None:
            session = self._session = _session(self._tls)
        request: HttpRequest = effect.args
        try:
            async with session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
            ) as answer:
                body = await self._body(answer)
                if body is None:
                    return _unavailable(
                        effect, f"the answer is larger than {self._max_body_bytes} bytes", retryable=False
                    )
                return HttpResult(answer.status, _headers(answer), body)
        except aiohttp.ClientConnectorCertificateError as problem:
            return _unavailable(effect, "its certificate cannot be verified", problem, retryable=False)
        except aiohttp.ClientSSLError as problem:
            return _unavailable(effect, "no TLS connection", problem)
        except aiohttp.ClientConnectorError as problem:
            return _unavailable(effect, "no connection", problem)
        except aiohttp.ClientConnectionError as problem:
            return _unavailable(effect, "the connection broke", problem)
        except UnicodeError as problem:  # of the resolver: an empty or overlong label
            return _unavailable(effect, "there can be no such host", problem, retryable=False)
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as problem:
            return _unavailable(effect, "the answer is not valid HTTP", problem)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes | None:
        """The body, or ``None`` when it is too large."""
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > self._max_body_bytes:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    def __repr__(self) -> str:
        return f"<HttpEffector: {self._attempts!r}>"


def _session(tls: ssl.SSLContext | None) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=True if tls is None else tls),  # bulkheads limit
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),  # from above
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_OURS,
        headers={"User-Agent": "zerver"},
        trust_env=False,
    )


def _headers(answer: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    return tuple([(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in answer.raw_headers])


def _unavailable(
    effect: Effect[Any], what: str, problem: BaseException | None = None, retryable: bool = True
) -> Failure:
    """The client learns what went wrong; where, and what the exception said, is for the log."""
    _log.info("%s (%s): %s: %r", effect.label, effect.target, what, problem)
    return Failure(Error(ErrorKind.UPSTREAM_UNAVAILABLE, f"{effect.label}: {what}"), retryable=retryable)
