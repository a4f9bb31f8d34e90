"""The app: routes, before-steps, flows, mounts and effectors, collected at import and frozen at start."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar, overload

import msgspec

from zerver_runtime.actor import Actor
from zerver_runtime.ref import check_name, class_path

from .compiled_step import CompiledStep
from .config import Config, load_config
from .decision import Step
from .effect import Effect
from .error import AppError, DefinitionError
from .path_template import parse_template
from .pipeline import Findings, Pipeline, check_pipeline
from .routing import RouteError, Router
from .site import AsgiApp, HostedActor, Mount, OnError, Site
from .step import compile_step

if TYPE_CHECKING:
    from .effectors.base import Effector
    from .server.asgi import AsgiServer

__all__ = ["App", "Lifespan", "Registrar", "Report"]

F = TypeVar("F", bound=Step)
P = ParamSpec("P")

Lifespan: TypeAlias = Callable[["App"], AbstractAsyncContextManager[Any]]

_SLUG = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
_METHOD = re.compile(r"[A-Z]+")
_DAY = 86_400  # seconds; as limits.deadline in the configuration


class Report(msgspec.Struct, frozen=True):
    """What is wrong with an app. Each message names the route, the step, the slot, and the fix."""

    errors: tuple[str, ...]
    """The app cannot start."""
    warnings: tuple[str, ...]


class App:
    """A web application. It is itself an ASGI 3 app.

    ``lifespan``: called with the app, gives an async context manager that is entered once per scheduler before it is
    ready, and left after it has drained. ``on_error``: makes the response of an :class:`Error`, instead of
    ``application/problem+json``.

    :raises DefinitionError: ``lifespan`` gives no context manager, or ``on_error`` is no plain function; and out of the
        methods below, for what is declared wrongly, also when something is added after the app has started.
    """

    def __init__(self, *, lifespan: Lifespan | None = None, on_error: OnError | None = None) -> None:
        if inspect.isasyncgenfunction(lifespan) or inspect.iscoroutinefunction(lifespan):
            raise DefinitionError(f"App(lifespan={lifespan!r}): put @contextlib.asynccontextmanager on it")
        if on_error is not None and (not callable(on_error) or inspect.iscoroutinefunction(on_error)):
            raise DefinitionError(f"App(on_error={on_error!r}): give a plain function of an Error and a Request")
        self.lifespan = lifespan
        self.on_error = on_error
        self.config: Config | None = None
        """Set by a server before the start; otherwise read from ``config.json`` and the environment at the start."""
        self.effectors: dict[str, Effector] = {}
        self._before: list[CompiledStep] = []
        self._routes: list[_Route] = []
        self._mounts: list[Mount] = []
        self._actors: dict[str, HostedActor] = {}
        self._site: Site | None = None
        self._servers: list[AsgiServer] = []
        self.get = Registrar(self, "GET")
        self.post = Registrar(self, "POST")
        self.put = Registrar(self, "PUT")
        self.patch = Registrar(self, "PATCH")
        self.delete = Registrar(self, "DELETE")
        self.head = Registrar(self, "HEAD")
        self.options = Registrar(self, "OPTIONS")

    # Declaring

    def route(self, method: str) -> Registrar:
        """The registrar of any method: ``app.route("PURGE")("/cache", purge)``."""
        if not _METHOD.fullmatch(method):
            raise DefinitionError(f"method {method!r}: upper-case letters only, such as 'PURGE'")
        return Registrar(self, method)

    def use(self, *steps: Step) -> None:
        """Run these steps before those of every route of this app, also of routes declared earlier. Not for 404, 405
        and mounts."""
        self._open("use()")
        names = sys._getframe(1).f_locals
        self._before += [compile_step(step, names) for step in steps]

    def flow(self, slug: str, *steps: Step, before: Sequence[Step] = (), deadline: float | None = None) -> None:
        """Serve the steps as ``POST /flow/v1/<slug>``. A slug is lower-case words joined with ``-`` or ``_``."""
        if not _SLUG.fullmatch(slug):
            raise DefinitionError(
                f"flow {slug!r}: lower-case letters and digits joined with - or _, such as 'checkout'"
            )
        if not steps:
            raise DefinitionError(f"flow {slug!r}: give at least one step")
        self._add("POST", f"/flow/v1/{slug}", steps, before, deadline, sys._getframe(1))

    def mount(self, path: str, app: AsgiApp) -> None:
        """Serve an ASGI app below ``path``. Its routes come after those of this app."""
        self._open("mount()")
        if not path.startswith("/") or "{" in path:
            raise DefinitionError(f"mount {path!r}: a mount's path starts with / and has no parameters")
        if app is self:
            raise DefinitionError(f"mount {path!r}: an app cannot be mounted in itself")
        if not callable(app):
            raise DefinitionError(f"mount {path!r}: {app!r} is no ASGI app, which is a callable")
        path = path.rstrip("/")
        if any(mount.path == path for mount in self._mounts):
            raise DefinitionError(f"mount {path or '/'}: there is one already; give each app a path of its own")
        self._mounts.append(Mount(path, app))

    def effector(self, kind: str, driver: Effector) -> None:
        """Perform effects of family ``kind`` with this driver; also replaces a built-in one."""
        self._open("effector()")
        if not callable(getattr(driver, "start", None)):
            raise DefinitionError(
                f"effector {kind!r}: {type(driver).__name__} has no start(effect, done); for "
                "'async def perform(effect)' wrap it: app.effector(kind, AsyncEffector(driver.perform))"
            )
        self.effectors[kind] = driver

    def actor(self, name: str, kind: Callable[P, Actor], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Keep one actor of this name running, made by ``kind(*args, **kwargs)``: in the whole of ``zerver serve`` with
        the reactor engine, else in each process. Steps send to it with ``actor.ask`` and ``actor.tell``.

        ``kind`` is an actor class at the top level of a module; the arguments are plain data, for it may be made in
        another process.
        """
        self._open("actor()")
        try:
            check_name(name)
        except ValueError as problem:
            raise DefinitionError(f"actor(): {problem}") from None
        if name in self._actors or name.startswith("zerver."):
            why = "there is one already" if name in self._actors else "such names are Zerver's own"
            raise DefinitionError(f"actor {name!r}: {why}; give it another name")
        if not (isinstance(kind, type) and issubclass(kind, Actor)):
            raise DefinitionError(f"actor {name!r}: {kind!r} is no actor class; derive one from zerver_runtime.Actor")
        path = class_path(kind)
        found: Any = sys.modules.get(kind.__module__)
        for part in kind.__qualname__.split("."):
            found = getattr(found, part, None)
        if found is not kind:
            raise DefinitionError(
                f"actor {name!r}: other processes cannot find its class as {path}; move it to the top level of a module"
            )
        try:
            inspect.signature(kind).bind(*args, **kwargs)
            msgspec.msgpack.encode((args, kwargs))
        except (TypeError, ValueError, OverflowError, RecursionError) as problem:
            raise DefinitionError(f"actor {name!r}: {path} cannot be made with these arguments: {problem}") from None
        self._actors[name] = HostedActor(kind, args, dict(kwargs))

    def _add(
        self,
        method: str,
        path: str,
        steps: tuple[Step, ...],
        before: Sequence[Step],
        deadline: float | None,
        frame: FrameType,
    ) -> None:
        if not isinstance(path, str):
            raise DefinitionError(f"route {method} {path!r}: give its path first: @app.get('/todos')")
        self._open(f"route {method} {path}")
        if deadline is not None and not (isinstance(deadline, (int, float)) and 0 < deadline <= _DAY):
            raise DefinitionError(f"route {method} {path}: deadline={deadline!r}; give seconds above 0, at most a day")
        if callable(before):
            name = getattr(before, "__name__", "step")
            raise DefinitionError(f"route {method} {path}: before= is a list of steps; write before=[{name}]")
        compiled = tuple(compile_step(step, frame.f_locals) for step in (*before, *steps))
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        deadline_ns = None if deadline is None else max(1, round(deadline * 1e9))
        self._routes.append(_Route(method, path, compiled, deadline_ns, where))

    def _open(self, what: str) -> None:
        if self._site is not None:
            raise DefinitionError(f"{what}: the app has started; declare everything before that, at import")

    # Starting

    def check(self) -> Report:
        """What is wrong with the app as it stands: errors that keep it from starting, and warnings."""
        errors: list[str] = []
        warnings: list[str] = []
        unread_everywhere: Counter[tuple[CompiledStep, Any]] = Counter()
        router: Router[Pipeline] = Router()
        for pipeline, route in self._pipelines():
            findings = check_pipeline(pipeline)
            try:
                router.add(route.method, route.path, pipeline, route.where)
                warnings += _unknown_params(pipeline, route.path, findings, self._before)
            except RouteError as problem:
                errors.append(str(problem))
            errors += findings.errors
            for step, slot in findings.unread:
                if step in self._before:
                    unread_everywhere[step, slot] += 1  # what one route does not read, another may
                else:
                    warnings.append(f"route {pipeline.label}: {_unread(step, slot)}")
        warnings += [
            f"app.use: {_unread(step, slot)}"
            for (step, slot), routes in unread_everywhere.items()
            if routes == len(self._routes)
        ]
        return Report(tuple(dict.fromkeys(errors)), tuple(dict.fromkeys(warnings)))

    def site(self) -> Site:
        """Freeze the app. From here on nothing can be added.

        :raises AppError: :meth:`check` found errors.
        """
        if self._site is None:
            report = self.check()
            if report.errors:
                listed = "\n".join(f"  - {error}" for error in report.errors)
                raise AppError(f"the app cannot start:\n{listed}")
            router: Router[Pipeline] = Router()
            for pipeline, route in self._pipelines():
                router.add(route.method, route.path, pipeline)
            mounts = tuple(sorted(self._mounts, key=lambda mount: len(mount.path), reverse=True))
            lifespan = None if self.lifespan is None else functools.partial(self.lifespan, self)
            self._site = Site(router, mounts, self.effectors, lifespan, self.on_error, report.warnings, self._actors)
        return self._site

    def _pipelines(self) -> list[tuple[Pipeline, _Route]]:
        before = tuple(self._before)
        return [
            (Pipeline(f"{route.method} {route.path}", before + route.steps, route.deadline_ns), route)
            for route in self._routes
        ]

    # Serving

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI 3."""
        await self._server()(scope, receive, send)

    def _server(self) -> AsgiServer:
        if not self._servers:
            from .server.asgi import AsgiServer  # at the first use: declaring an app needs no server

            self._servers.append(AsgiServer(self.site, lambda: self.config or load_config()))
        # The first, always: loops of two threads may have made one each.
        return self._servers[0]

    async def perform(self, effect: Effect[Any]) -> Any:
        """Perform one effect outside of any request, with its policies: to create tables in ``lifespan``, say. The
        value is decoded as in a request.

        :raises EffectFailed: it failed.
        :raises AppError: the app is not running.
        """
        if not self._servers:
            raise AppError("App.perform: the app is not running; call it inside of the app's lifespan")
        return await self._servers[0].perform(effect)


def _unknown_params(pipeline: Pipeline, path: str, findings: Findings, shared: Container[CompiledStep]) -> list[str]:
    """Steps that ask for path parameters which their route has not. No errors: it may not come to that. And nothing of
    a step that all routes share, nor of what it goes on with: they have to look first."""
    known = [parameter.name for parameter in parse_template(path).parameters]
    there = ", ".join(f"{{{name}}}" for name in known) or "none"
    return [
        f"route {pipeline.label}: step {step.name} asks for path parameter {name!r} (line {line}), which the route "
        f"does not have (it has {there}): correct the name, or add {{{name}}} to the path"
        for first, step, name, line in findings.params
        if name not in known and first not in shared
    ]


def _unread(step: CompiledStep, slot: type) -> str:
    return f"step {step.name} writes slot {slot.__name__}, which no step reads; take it out of its writes, or read it"


class _Route(msgspec.Struct, frozen=True):
    method: str
    path: str
    steps: tuple[CompiledStep, ...]
    deadline_ns: int | None
    where: str
    """``file:line`` of the declaration."""


class Registrar:
    """Declares routes of one method: ``app.get(path, *steps)``, or as a decorator of a single step."""

    __slots__ = ("_app", "_method")

    def __init__(self, app: App, method: str) -> None:
        self._app = app
        self._method = method

    @overload
    def __call__(
        self, path: str, first: Step, /, *steps: Step, before: Sequence[Step] = (), deadline: float | None = None
    ) -> None: ...
    @overload
    def __call__(
        self, path: str, /, *, before: Sequence[Step] = (), deadline: float | None = None
    ) -> Callable[[F], F]: ...
    def __call__(
        self, path: str, /, *steps: Step, before: Sequence[Step] = (), deadline: float | None = None
    ) -> Callable[[F], F] | None:
        """Declare a route. ``before``: steps that run before ``steps``, after those of ``app.use``. ``deadline``:
        seconds for the whole request, instead of ``limits.deadline``."""
        frame = sys._getframe(1)
        if steps:
            self._app._add(self._method, path, steps, before, deadline, frame)
            return None

        def declare(fn: F) -> F:
            self._app._add(self._method, path, (fn,), before, deadline, frame)
            return fn

        return declare
