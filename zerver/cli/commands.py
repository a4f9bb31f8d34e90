"""The commands and their options: what each of them takes, and what goes to the terminal."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..config import load_config
from ..error import AppError, ZerverError
from ..server.log import printable
from ..server.processors import performance_schedulers
from .deployment import deployment
from .serve import configured, flags, load, readable_errors
from .serve import serve as serve_app
from .trace_commands import Store, store_path, trace

__all__ = ["cli"]

cli = typer.Typer(
    name="zerver",
    help="Zerver, a web request engine. MODULE:ATTR names an app as in 'shop.main:app'; ATTR is 'app' by default.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

cli.add_typer(trace, name="trace")

Target = Annotated[str, typer.Argument(metavar="MODULE:ATTR", help="The app.", show_default=False)]
Host = Annotated[str | None, typer.Option(help="Address to listen on (server.host).", show_default=False)]
Port = Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one (server.port).", show_default=False)]
Schedulers = Annotated[
    int | None,
    typer.Option(help="Processes that serve, in the reactor engine (schedulers.performance).", show_default=False),
]
Uds = Annotated[
    str | None, typer.Option(help="Unix socket, instead of host and port (server.uds).", show_default=False)
]
Engine = Annotated[
    str | None, typer.Option(help="The engine: reactor or blocking. Wins over ZERVER_ENGINE.", show_default=False)
]
ConfigPath = Annotated[
    str | None, typer.Option("--config", help="Configuration file, instead of config.json.", show_default=False)
]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"zerver {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@cli.command()
def serve(
    target: Target,
    host: Host = None,
    port: Port = None,
    uds: Uds = None,
    schedulers: Schedulers = None,
    engine: Engine = None,
    config: ConfigPath = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    admin_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve an app until SIGTERM or SIGINT. SIGHUP reloads it."""
    serve_app(target, host, port, uds, schedulers, engine, config, fd, admin_fd)


@cli.command()
def dev(
    target: Target,
    host: Host = None,
    port: Port = None,
    uds: Uds = None,
    schedulers: Schedulers = None,
    engine: Engine = None,
    config: ConfigPath = None,
) -> None:
    """Serve an app, and reload it when a file changes.

    Watches the .py files and config.json below the current folder. Turns ZERVER_DEBUG on unless it is set, so that
    answers show what went wrong; keeps the trace of each request, unless trace.sample says of how many; and serves the
    admin address, on port 9180 or another that is free, unless observability.admin says where, or off. The console
    there is opened in a browser, where there is one.
    """
    from .browse import open_when_up
    from .reload import admin_for_development, snapshot, supervise

    os.environ.setdefault("ZERVER_DEBUG", "1")
    named = config or os.environ.get("ZERVER_CONFIG")
    given = {
        "--host": host, "--port": port, "--uds": uds, "--schedulers": schedulers, "--engine": engine,
        "--config": config,
    }  # fmt: skip
    command = [sys.executable, "-m", "zerver", "serve", target]
    for name, value in given.items():
        command += [name, str(value)] if value is not None else []
    with readable_errors():
        overrides = flags(host, port, uds, schedulers, engine)
        settings = configured(config, overrides)
        if settings.trace.sample == 0:
            os.environ["ZERVER_TRACE__SAMPLE"] = "1"
        admin = None
        if settings.observability.admin is None:
            admin = admin_for_development()
            os.environ["ZERVER_OBSERVABILITY__ADMIN"] = admin.address.removeprefix("http://")
            settings = configured(config, overrides)
        open_when_up(settings.observability.admin)
        supervise(
            command,
            settings,
            look=lambda: snapshot(os.getcwd(), [named] if named else []),
            configured=lambda: load_config(config, overrides=overrides),
            admin=admin,
        )


@cli.command()
def routes(target: Target) -> None:
    """List an app's routes with their steps, and mounts."""
    from .route_table import route_table

    with readable_errors():
        _show(route_table(load(target).site(), _width()))


@cli.command()
def check(target: Target, config: ConfigPath = None) -> None:
    """Look for mistakes in an app and its settings.

    Exits with 1 where the app could not start.
    """
    with readable_errors():
        app = load(target)
        report, settings = app.check(), load_config(config)
        _show([f"error: {text}" for text in report.errors] + [f"warning: {text}" for text in report.warnings])
        if not report.errors:
            _show([f"note: {text}" for text in deployment(app.site(), settings, performance_schedulers(settings))])
        typer.echo(f"{target}: {len(report.errors)} error(s), {len(report.warnings)} warning(s)")
        if report.errors:
            raise typer.Exit(1)


@cli.command()
def graph(
    target: Target,
    route: Annotated[
        str | None,
        typer.Argument(metavar="ROUTE", help="One route: 'GET /todos', or '/todos' for all its methods."),
    ] = None,
) -> None:
    """Show each route's steps, slots and continuations."""
    from .pipeline_graph import pipeline_graph

    with readable_errors():
        found = load(target).site().router.routes()
        wanted = [one for one in found if route in (None, one[1], f"{one[0]} {one[1]}")]
        if route is not None and not wanted:
            known = "".join(f"\n  {method} {path}" for method, path, _ in found)
            raise AppError(f"{target} has no route {route!r}; it has:{known}")
        for position, (_, _, pipeline) in enumerate(wanted):
            _show([""] * (position > 0) + pipeline_graph(pipeline, _width()))


@cli.command()
def replay(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The request's id, or its end; 'last' is the newest. Or a recording's file."),
    ],
    path: Annotated[
        Path | None,
        typer.Argument(metavar="PATH", help="With --save-test: the test's file, or its folder.", show_default=False),
    ] = None,
    app: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:ATTR", help="The app; found by the request's steps where it can be.", show_default=False
        ),
    ] = None,
    save_test: Annotated[
        bool, typer.Option("--save-test", help="Write a pytest test of it, at PATH.", show_default=False)
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.", show_default=False)] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what was the same, too.")] = False,
    store: Store = None,
    config: ConfigPath = None,
) -> None:
    """Run a kept request again, offline, against its recording.

    Says the first divergence: in which step and effect, what was recorded, what there is now, and where it is declared.
    Exits with 0 where the run is identical, 1 where it diverges, and 2 where it cannot be replayed, or not to its end.
    """
    from . import replay_command as command

    try:
        if path is not None and not save_test:
            raise AppError(f"PATH {path}: it is for --save-test")
        record = command.find_record(store_path(store, config), id)
        target = command.find_app(record) if app is None else app
        report = command.run(target, record)
        if verbose:
            _show(printable(f"  {move.step}: {move.text}") for move in report.moves)
        _show(map(printable, report.lines))
        if save_test and report.outcome == "diverged":
            typer.echo("zerver: no test is written of a request that diverges already: it would fail", err=True)
        elif save_test:
            _show(f"made {file}" for file in command.save_test(target, record, report, path, force=force))
    except ZerverError as problem:  # 1 would say that it diverges
        typer.echo(f"zerver: {problem}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(command.EXITS[report.outcome])


@cli.command()
def new(name: Annotated[str, typer.Argument(metavar="NAME", help="The folder to make.")]) -> None:
    """Make a small project that runs, with a test."""
    from .project import new_project

    with readable_errors():
        for path in new_project(name, Path()):
            typer.echo(f"made {path}")
    python = shlex.quote(sys.executable)
    zerver, pip = f"{python} -m zerver", f"{python} -m pip"
    if os.path.dirname(shutil.which("zerver") or "") == os.path.dirname(sys.executable):  # their environment is active
        zerver, pip, python = "zerver", "pip", "python"
    _show([
        "",
        "run it:   " f"cd {name} && {zerver} dev app:app",
        "test it:  " f"cd {name} && {pip} install pytest httpx2 && {python} -m pytest",
    ])  # fmt: skip


@cli.command()
def version() -> None:
    """Show the version."""
    _version(True)


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        typer.echo(line)


def _width() -> int:
    return shutil.get_terminal_size().columns
