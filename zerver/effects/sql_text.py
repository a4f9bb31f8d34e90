"""What can be told from the text of an SQL statement without running it: its parameters, and whether it only reads."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from ..error import DefinitionError

__all__ = ["Statement", "read_statement"]


class Statement(msgspec.Struct, frozen=True):
    """``names`` of its ``:name`` parameters. ``reads``: it certainly changes nothing. ``inserts``: it adds
    rows, and updates none instead.
    """

    names: frozenset[str]
    reads: bool
    inserts: bool


# Texts, quoted names and comments first, so that nothing inside of them counts. ``::`` is PostgreSQL's cast.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | `[^`]*` | \[[^\]]*\]   # quoted
    | --[^\n]* | /\*.*?\*/                                       # comments
    | ::
    | :(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<foreign>\?[0-9]* | [@$:][A-Za-z0-9_]+)
    | (?P<word>[^\W\d]\w*)
    | [0-9][0-9A-Za-z_.]*
    | (?P<end>;)
    | (?P<open>['"`\[]|/\*)
    | (?P<other>[^\s])""",
    re.VERBOSE | re.DOTALL,
)
_READING = frozenset({"SELECT", "VALUES", "EXPLAIN", "WITH"})
_WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "INTO"})
_TRANSACTION = frozenset({"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH"})


@lru_cache(maxsize=1024)
def read_statement(sql: str) -> Statement:
    """Look into a statement.

    :raises DefinitionError: no statement, or several; a parameter that is not written ``:name``; a quote or
        comment that does not end; NUL or a lone surrogate; a statement that manages transactions or databases,
        which belong to the engine.
    """
    if "\0" in sql or not _encodable(sql):
        raise DefinitionError(f"sql {_shown(sql)}: it holds NUL or lone surrogates; pass values as :name parameters")
    names: set[str] = set()
    words: list[str] = []
    empty, ended = True, False
    for token in _TOKEN.finditer(sql):
        kind, text = token.lastgroup, token[0]
        if text.startswith(("--", "/*")) and kind is None:
            continue
        if kind == "end":
            ended = True
            continue
        if ended and not empty and not (words[:1] == ["CREATE"] and "TRIGGER" in words[:4]):
            raise DefinitionError(
                f"sql {_shown(sql)}: an effect is one statement; use sql.transaction([...]) for several"
            )
        empty = False
        if kind == "name":
            names.add(token["name"])
        elif kind == "word":
            words.append(text.upper())
        elif kind == "foreign":
            raise DefinitionError(
                f"sql {_shown(sql)}: parameter {text} is not known; write :name and give {{'name': ...}}"
            )
        elif kind == "open":
            raise DefinitionError(f"sql {_shown(sql)}: {text} is opened and never closed")
    if empty:
        raise DefinitionError(f"sql {_shown(sql)}: there is no statement")
    first = words[0] if words else ""
    if first in _TRANSACTION:
        raise DefinitionError(f"sql {_shown(sql)}: {first} is the engine's; use sql.transaction([...]), or another db=")
    # A SELECT may call replace(); what it may not do is SELECT ... INTO a new table.
    writing = {"INTO"} if first == "SELECT" else _WRITING
    reads = first in _READING and writing.isdisjoint(words)
    inserts = not reads and not {"INSERT", "REPLACE"}.isdisjoint(words) and "CONFLICT" not in words
    return Statement(frozenset(names), reads, inserts)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(sql: str) -> str:
    text = " ".join(sql.split())
    return repr(text if len(text) <= 80 else text[:80] + "…")
