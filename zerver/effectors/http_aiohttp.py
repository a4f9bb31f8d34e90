"""Performs ``http`` effects with aiohttp, over kept-alive connections."""

from __future__ import annotations

import asyncio
import importlib
import re
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerver_runtime.outcome import Failure

from ..effect import Effect
from ..effects.http import HttpRequest, HttpResult
from .base import AsyncEffector, Done, internal
from .file import file_failure
from .folder import Folder, FolderProblem
from .http_client.response import NO_HTTP, SWITCHED, too_large
from .http_download import NotSaved, TooLarge, save
from .http_failure import BAD_CERTIFICATE, BROKEN, NO_CONNECTION, NO_SUCH_HOST, NO_TLS, unavailable

if TYPE_CHECKING:
    import aiohttp

__all__ = ["AiohttpEffector"]

# Headers that aiohttp would make up.
_NOT_OURS = ("Content-Type", "User-Agent")
# Constructors refuse them; this is for whatever else makes a request. yarl drops some, and keeps others as they are.
_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


class AiohttpEffector:
    """aiohttp and the session come with the first effect. Redirects are not followed, cookies are not kept.

    :param max_body_bytes: the largest body of an answer that is accepted, after decompression.
    :param tls: how certificates are verified; default: against those that the system trusts.
    :param proxies: use those that the environment names.
    :param files: where bodies are saved.
    """

    def __init__(
        self,
        *,
        max_body_bytes: int = 8 * 1024 * 1024,
        tls: ssl.SSLContext | None = None,
        proxies: bool = False,
        files: Folder | None = None,
    ) -> None:
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._proxies = proxies
        self._files = files
        self._importing: asyncio.Future[object] | None = None
        self._session: aiohttp.ClientSession | None = None
        self._attempts = AsyncEffector(self._perform, close=self._close)

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
        if self._session is None:
            if self._importing is None:  # it takes longer than a loop may stand still
                loop = asyncio.get_running_loop()
                self._importing = loop.run_in_executor(None, importlib.import_module, "aiohttp")
            await asyncio.wait([self._importing])
        import aiohttp
        import yarl

        session = self._session
        if session is None:
            session = self._session = _session(self._tls, self._proxies)
        request: HttpRequest = effect.args
        if _UNSAFE.search(request.url):
            return internal(
                effect, "its URL holds spaces, CR, LF or NUL; make requests with http.get(...) and the like"
            )
        files = self._files
        if request.save is not None:
            if files is None:
                return internal(effect, "no folder is configured that it could save to")
            try:
                files.check(request.save)
            except FolderProblem as problem:
                return file_failure(effect, request.save, problem)
        try:
            async with session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
            ) as answer:
                if answer.status < 100:
                    return unavailable(effect, NO_HTTP)
                if answer.status == 101:
                    return unavailable(effect, SWITCHED, retryable=False)
                if request.save is not None and files is not None and answer.status in request.expect:
                    body = await save(files, request.save, answer.content.iter_any())
                else:
                    body = await self._body(answer)
                return HttpResult(answer.status, _headers(answer), body)
        except TooLarge as problem:
            return unavailable(effect, too_large(problem.most), retryable=False)
        except NotSaved as problem:
            return file_failure(effect, str(request.save), problem.problem)
        except aiohttp.ClientConnectorCertificateError as problem:
            return unavailable(effect, BAD_CERTIFICATE, problem, retryable=False)
        except aiohttp.ClientSSLError as problem:
            return unavailable(effect, NO_TLS, problem)
        except aiohttp.ClientConnectorError as problem:
            return unavailable(effect, NO_CONNECTION, problem)
        except aiohttp.ClientConnectionError as problem:
            return unavailable(effect, BROKEN, problem)
        except UnicodeError as problem:  # of the resolver: an empty or overlong label
            return unavailable(effect, NO_SUCH_HOST, problem, retryable=False)
        except aiohttp.ClientResponseError as problem:  # it shows the request, with all of its headers
            return unavailable(effect, NO_HTTP, aiohttp.ClientError(problem.message))
        except aiohttp.ClientPayloadError as problem:
            return unavailable(effect, NO_HTTP, problem)

    async def _body(self, answer: aiohttp.ClientResponse) -> bytes:
        if answer.method != "HEAD" and (answer.content_length or 0) > self._max_body_bytes:
            raise TooLarge(self._max_body_bytes)
        chunks: list[bytes] = []
        size = 0
        async for chunk in answer.content.iter_any():
            size += len(chunk)
            if size > self._max_body_bytes:
                raise TooLarge(self._max_body_bytes)
            chunks.append(chunk)
        return b"".join(chunks)

    def __repr__(self) -> str:
        return f"<AiohttpEffector: {self._attempts!r}>"


def _session(tls: ssl.SSLContext | None, proxies: bool) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=True if tls is None else tls),  # bulkheads limit
        timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),  # from above
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_NOT_OURS,
        headers={"User-Agent": "zerver"},
        trust_env=proxies,
    )


def _headers(answer: aiohttp.ClientResponse) -> tuple[tuple[str, str], ...]:
    return tuple([(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in answer.raw_headers])
