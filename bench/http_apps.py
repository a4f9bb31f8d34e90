"""The apps of the benchmark ``http``: the same answer from each."""

from __future__ import annotations

from typing import Any, Never

from zerver import App, Continue, CtxView, Decision, Done, Slot, step

__all__ = ["rsgi_app"]


class TodoId(Slot[str]):
    """The id in the path."""


class Todo(Slot[dict[str, object]]):
    """The answer."""


@step
def parse(ctx: CtxView[Never, TodoId]) -> Decision:
    ctx.put(TodoId, ctx.param("id"))
    return Continue()


@step
def load(ctx: CtxView[TodoId, Todo]) -> Decision:
    ctx.put(Todo, {"id": ctx.require(TodoId), "ok": True})
    return Continue()


@step
def show(ctx: CtxView[Todo]) -> Decision:
    return Done.json(ctx.require(Todo))


def __getattr__(name: str) -> Any:
    """Each app is made when it is asked for, so that no server imports another's framework."""
    if name == "zerver_app":
        zerver_app = App()
        zerver_app.get("/todos/{id}", parse, load, show)
        return zerver_app
    if name == "starlette_app":
        from starlette.applications import Starlette
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        async def todo(request: Request) -> JSONResponse:
            return JSONResponse({"id": request.path_params["id"], "ok": True})

        return Starlette(routes=[Route("/todos/{id}", todo)])
    if name == "fastapi_app":
        from fastapi import FastAPI

        fastapi_app = FastAPI()

        @fastapi_app.get("/todos/{id}")
        async def todo_of(id: str) -> dict[str, object]:
            return {"id": id, "ok": True}

        return fastapi_app
    raise AttributeError(name)


async def rsgi_app(scope: Any, protocol: Any) -> None:
    """RSGI by hand: no framework at all."""
    import orjson

    todo = scope.path.rpartition("/")[2]
    protocol.response_bytes(200, [("content-type", "application/json")], orjson.dumps({"id": todo, "ok": True}))
