"""``zerver trace``: the kept traces, in the terminal."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import date
from typing import Annotated

import msgspec
import typer

from ..config import load_config, sqlite_path
from ..error import AppError
from ..trace.asking import trace_query
from ..trace.record import TraceRecord
from ..trace.store import StoreError, TraceQuery, TraceReader
from .serve import readable_errors
from .trace_view import Paint, list_head, list_line, trace_page

__all__ = ["Store", "store_path", "trace"]

trace = typer.Typer(
    help="Show the traces of requests that were kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_POLL = 0.5  # seconds between two looks of `tail`
_BATCH = 500

Route = Annotated[str | None, typer.Option(help="Text in the route or the path.", show_default=False)]
Status = Annotated[str | None, typer.Option(help="A status, or a class such as 5xx.", show_default=False)]
Slower = Annotated[
    float | None, typer.Option("--slower", metavar="MS", help="Took at least so many milliseconds.", show_default=False)
]
Reason = Annotated[str | None, typer.Option("--why", help="Kept as error, slow, asked or sampled.", show_default=False)]
Limit = Annotated[int, typer.Option(min=1, help="The newest so many.")]
Store = Annotated[
    str | None, typer.Option(metavar="FILE", help="The trace store, instead of trace.store.", show_default=False)
]
ConfigPath = Annotated[
    str | None, typer.Option("--config", help="Configuration file, instead of config.json.", show_default=False)
]
Id = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or its end; 'last' is the newest.")]


@trace.command("list")
def list_(
    route: Route = None,
    status: Status = None,
    slower: Slower = None,
    why: Reason = None,
    limit: Limit = 20,
    store: Store = None,
    config: ConfigPath = None,
) -> None:
    """List kept traces, the newest first."""
    with readable_errors(), _reader(store, config) as reader:
        found = reader.summaries(_query(route, status, slower, why), limit=limit)
        if not found:
            typer.echo("no traces")
            return
        typer.echo(list_head(_width()))
        day = date.today()
        for one in found:
            if day != (day := date.fromtimestamp(one.started_ns / 1e9)):
                typer.echo(f"{day}:")  # the times below are of that day
            typer.echo(list_line(one, _paint(), _width()))


@trace.command()
def show(id: Id, store: Store = None, config: ConfigPath = None) -> None:
    """Show the timeline of one, and where the time went."""
    with readable_errors(), _reader(store, config) as reader:
        for line in trace_page(_record(reader, id), _paint(), _width()):
            typer.echo(line)


@trace.command()
def tail(
    route: Route = None,
    status: Status = None,
    slower: Slower = None,
    why: Reason = None,
    store: Store = None,
    config: ConfigPath = None,
) -> None:
    """Show traces as they are kept, until Ctrl-C."""
    with readable_errors():
        query = _query(route, status, slower, why)
        reader, seen = _wait(store, config)
        with reader:
            typer.echo(list_head(_width()))
            try:
                while True:
                    query = msgspec.structs.replace(query, after_seq=seen)
                    for one in reader.summaries(query, limit=_BATCH, oldest=True):
                        typer.echo(list_line(one, _paint(), _width()))
                        seen = one.seq
                    time.sleep(_POLL)
            except KeyboardInterrupt:
                return


@trace.command()
def export(
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One trace; without, all that match.")] = None,
    route: Route = None,
    status: Status = None,
    slower: Slower = None,
    why: Reason = None,
    store: Store = None,
    config: ConfigPath = None,
) -> None:
    """Write traces as JSON, a line for each.

    The oldest first; bytes are in base64.
    """
    with readable_errors(), _reader(store, config) as reader:
        if id is not None:
            _write(_record(reader, id))
            return
        query, last = _query(route, status, slower, why), reader.last_seq()
        seen = 0
        while seen < last:
            query = msgspec.structs.replace(query, after_seq=seen, before_seq=last + 1)
            summaries = reader.summaries(query, limit=_BATCH, oldest=True)
            for record in reader.records(query, limit=_BATCH, oldest=True):
                _write(record)
            if not summaries:
                return
            seen = summaries[-1].seq


def _write(record: TraceRecord) -> None:
    sys.stdout.write(msgspec.json.encode(record).decode() + "\n")


def _record(reader: TraceReader, id: str) -> TraceRecord:
    if id == "last":
        newest = reader.summaries(limit=1)
        id = newest[0].id if newest else id
    found = reader.get(id)
    if found is None:
        raise AppError(f"no trace of request {id} was kept; see 'zerver trace list'")
    return found


def store_path(store: str | None, config: str | None) -> str:
    """The file of the trace store that these options name."""
    return sqlite_path(load_config(config).trace.store) if store is None else store


def _reader(store: str | None, config: str | None) -> TraceReader:
    return TraceReader(store_path(store, config))


def _wait(store: str | None, config: str | None) -> tuple[TraceReader, int]:
    """The store, once there is one, and where to go on."""
    path, waited = store_path(store, config), False
    while True:
        try:
            reader = TraceReader(path)
        except StoreError:
            if not waited:
                typer.echo(f"waiting for {path}", err=True)
            waited = True
            time.sleep(_POLL)
            continue
        return reader, 0 if waited else reader.last_seq()


def _query(route: str | None, status: str | None, slower: float | None, why: str | None) -> TraceQuery:
    return trace_query(route=route, status=status, slower=slower, why=why, prefix="--")


def _paint() -> Paint:
    if sys.stdout.isatty():
        return lambda text, colour: typer.style(text, fg=colour)
    return lambda text, _: text


def _width() -> int:
    return shutil.get_terminal_size().columns
