"""The log of a server that runs by itself: one plain line for each record, on standard error.

Only the command line sets this up. A program that calls ``Server.listen()`` has a logging set-up of its own, or none.
"""

from __future__ import annotations

import logging
import sys

__all__ = ["LineFormatter", "Lines", "announce", "configure_logging", "printable"]


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


def configure_logging(level: str) -> None:
    """Log every record from ``level`` on (a name such as ``info``), in place of what was set up before.

    uvicorn's reports of its own progress are left out, except at ``debug``: the server says itself where it listens.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
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
