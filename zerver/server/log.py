"""The log of a server that runs by itself: a line for each record, plain or JSON, on standard error.

Only the command line sets this up. A program that calls ``Server.listen()`` has a logging set-up of its own, or none.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonFormatter", "LineFormatter", "Lines", "announce", "configure_logging", "printable"]


def printable(text: str) -> str:
    """``text`` with everything that does not print as ``\\x1b``: controls, line ends, direction marks, surrogates."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1]  #
        for character in text
    )


class Lines(list[str]):
    """A message of several lines, printable ones: as many records in one."""

    def __str__(self) -> str:
        return "\n".join(self)


class LineFormatter(logging.Formatter):
    """``2026-01-31 12:00:00 INFO zerver: message``.

    Nothing in a message or a traceback can end the line, forge another or steer the terminal, wherever the text came
    from. The lines of a traceback follow, indented, so that none of them looks like a record.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The text of one record, without the line end."""
        record.asctime = self.formatTime(record, self.datefmt)
        if isinstance(record.msg, Lines):
            record.message = ""
            start = self.formatMessage(record)
            return "\n".join([start + line for line in record.msg])
        record.message = record.getMessage().rstrip()
        lines = [printable(self.formatMessage(record))]
        if record.exc_info:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(self.formatStack(record.stack_info))
        return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"    {printable(line)}" for line in text.split("\n")]


class JsonFormatter(logging.Formatter):
    """A JSON object on a line for each record: ``time`` (RFC 3339), ``level``, ``logger``, ``message``, and where there
    is one, ``request_id`` and ``exception``. A line of the access log has its parts instead of a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of one record, without the line end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        start = {"time": at, "level": record.levelname, "logger": record.name}
        if isinstance(record.msg, Lines):
            return "\n".join([_json(start | _parts(line)) for line in record.msg])
        found = {**start, "message": record.getMessage().rstrip()}
        if isinstance(record.msg, str) and record.msg.startswith(_OF_REQUEST) and isinstance(record.args, tuple):
            found["request_id"] = str(record.args[0])
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = record.stack_info
        return _json(found)


_OF_REQUEST = "request %s: "  # how every record begins that is about one
_WORDS = ("client", "method", "target", "id")  # the other parts of a line of the access log are numbers


def _parts(line: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in line.split(" "):
        name, equals, value = part.partition("=")
        if not equals:
            return {"message": line}
        found["request_id" if name == "id" else name] = (
            value if name in _WORDS else int(value) if value.isdecimal() else float(value)
        )
    return found


def _json(found: dict[str, Any]) -> str:
    return json.dumps(found, ensure_ascii=True, separators=(",", ":"))


def configure_logging(level: str, form: str = "line") -> None:
    """Log every record from ``level`` on (a name such as ``info``), in place of what was set up before; as ``line`` or
    as ``json``.

    uvicorn's reports of its own progress are left out, except at ``debug``: the server says itself where it listens.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.error").setLevel(logging.NOTSET if level == "debug" else logging.WARNING)


def announce(address: str, what: str = "listening on") -> None:
    """Say where it is listened; on standard error where no logging is set up."""
    log = logging.getLogger("zerver")
    if log.hasHandlers():
        log.info("%s %s", what, address)
    else:
        sys.stderr.write(f"zerver: {what} {address}\n")
        sys.stderr.flush()
