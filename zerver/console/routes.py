"""The routes of the console: a page, its assets, and what it asks for as JSON.

Nothing here is for other origins. The page runs its own scripts and no others, and loads from its own origin alone; who
has it replay a request has to be that page.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec

from ..app import App
from ..context import CtxView
from ..decision import Continue, Decision, Done, Fail
from ..effects import call
from ..error import ErrorKind
from ..need import need
from ..trace.asking import AskError, trace_query
from .reading import read_graphs, read_page, read_routes, read_trace, run_replay
from .system import system_view

if TYPE_CHECKING:
    from ..admin.sources import AdminSources

__all__ = ["console_routes"]

_PATH = "/console"
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_GUARDS = (
    ("cache-control", "no-store"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
)
_PAGE = (
    *_GUARDS,
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'",
    ),
)
_MOST = 500  # traces in a page
_IMPORT = 25.0  # seconds that the app's import has, where it is not there yet
_REPLAY = 60.0  # seconds that a replay has


def console_routes(app: App, sources: AdminSources) -> None:
    """Declare the console's routes, below ``/console/``; ``/`` leads there."""
    store = sources.traces

    async def traces(ctx: CtxView) -> Decision:
        try:
            query = trace_query(
                route=ctx.query("route", default=None),
                status=ctx.query("status", default=None),
                slower=ctx.query("slower", float, None),
                why=ctx.query("why", default=None),
                text=ctx.query("text", default=None),
            )
        except AskError as problem:
            return Fail(ErrorKind.UNPROCESSABLE, str(problem))
        before, after = ctx.query("before", int, None), ctx.query("after", int, None)
        limit = max(1, min(_MOST, ctx.query("limit", int, 100)))
        query = msgspec.structs.replace(query, before_seq=before, after_seq=after)
        return _json(await need(call.run(read_page, store, query, limit)))

    async def trace(ctx: CtxView) -> Decision:
        id = ctx.param("id")
        found = await need(call.run(read_trace, store, id))
        if isinstance(found, str):
            return Fail(ErrorKind.UNPROCESSABLE, found, key=id)
        return _missing(id) if found is None else _json(found)

    async def routes(ctx: CtxView) -> Decision:
        return _json(await need(call.run(read_routes, store)))

    async def graphs(ctx: CtxView) -> Decision:
        return _json(await need(call.run(read_graphs, sources.app, timeout=_IMPORT)))

    async def system(ctx: CtxView) -> Decision:
        return _json(system_view(await need(call.run(sources.snapshots))))

    async def replay(ctx: CtxView) -> Decision:
        id = ctx.param("id")
        found = await need(call.run(run_replay, store, id, sources.app, timeout=_REPLAY))
        return _missing(id) if found is None else _json(found)

    app.get(f"{_PATH}/api/traces", traces)
    app.get(f"{_PATH}/api/traces/{{id}}", trace)
    app.get(f"{_PATH}/api/routes", routes)
    app.get(f"{_PATH}/api/graphs", graphs)
    app.get(f"{_PATH}/api/system", system)
    app.post(f"{_PATH}/api/traces/{{id}}/replay", replay, before=[same_origin], deadline=_REPLAY + 5)
    _assets(app)


def same_origin(ctx: CtxView) -> Decision:
    """Refuse what another site's page asks for. Browsers always say (Fetch Metadata: ``Sec-Fetch-Site``; RFC 6454:
    ``Origin``); who says neither is refused too."""
    site = ctx.header("sec-fetch-site", default="")
    if site:
        allowed = site == "same-origin"
    else:
        allowed = ctx.header("origin", default="").partition("://")[2] == ctx.header("host", default="-")
    return Continue() if allowed else Fail(ErrorKind.FORBIDDEN, "only the console's own page may ask for this")


def _missing(id: str) -> Fail:
    return Fail(ErrorKind.NOT_FOUND, "no such trace is kept, or no longer", key=id)


def _assets(app: App) -> None:
    def to_page(ctx: CtxView) -> Decision:
        return Done.redirect(f"{_PATH}/", status=308)

    app.get("/", to_page)
    app.get(_PATH, to_page)
    folder = resources.files("zerver.console") / "assets"
    for one in folder.iterdir():
        kind = _TYPES.get(one.name.rpartition(".")[2])
        if kind is not None:
            path = f"{_PATH}/" if one.name == "index.html" else f"{_PATH}/{one.name}"
            app.get(path, _asset(one.read_bytes(), kind))


def _asset(body: bytes, kind: str) -> Callable[[CtxView], Decision]:
    answer = Done.bytes(body, content_type=kind, headers=_PAGE)

    def asset(ctx: CtxView) -> Decision:
        return answer

    return asset


def _json(value: Any) -> Done:
    return Done.bytes(msgspec.json.encode(value), content_type="application/json", headers=_GUARDS)
