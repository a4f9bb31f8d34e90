"""What can be told from the text of an SQL statement without running it: its parameters, and whether it only reads."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import msgspec

from ..error import DefinitionError

__all__ = ["Dialect", "Numbered", "Statement", "numbered", "read_statement"]


class Statement(msgspec.Struct, frozen=True):
    """``names`` of its ``:name`` parameters. ``reads``: it certainly changes nothing. ``inserts``: it adds
    rows, and updates none instead.
    """

    names: frozenset[str]
    reads: bool
    inserts: bool


class Numbered(msgspec.Struct, frozen=True):
    """A statement whose parameters are ``$1``, ``$2``, ... for the values of ``names``, in this order.
    ``changes_session``: it may leave settings, locks or the like behind on its connection.
    """

    sql: str
    names: tuple[str, ...]
    changes_session: bool


Dialect: TypeAlias = Literal["sqlite", "postgres"]

# Texts, quoted names and comments first, so that nothing inside of them counts. ``::`` is PostgreSQL's cast.
_SQLITE = re.compile(
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
# PostgreSQL, "Lexical Structure". Its brackets hold expressions, its comments nest, and operators begin with ?.
_POSTGRES = re.compile(
    r"""[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
    | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
    | --[^\n]* | (?P<comment>/\*)
    | ::
    | :(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<bound>:[0-9]+)
    | (?P<open>['"`]|\$(?:[^\W\d]\w*)?\$)
    | (?P<foreign>[$][A-Za-z0-9_]+ | @[A-Za-z0-9_]+ | \?[0-9]+)
    | (?P<operator>(?:(?!--|/\*)[-+*/<>=~!@\#%^&|?])+)
    | (?P<word>[^\W\d][\w$]*)
    | [0-9][0-9A-Za-z_.]*
    | (?P<end>;)
    | (?P<bracket>[\[\]])
    | (?P<other>[^\s])""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_ASKING: Final = frozenset({"?|", "?&", "@?", "?#", "?-", "?-|", "?||"})
_ORDINARY = frozenset({"SELECT", "VALUES", "EXPLAIN", "WITH", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE"})
_READING = frozenset({"SELECT", "VALUES", "EXPLAIN", "WITH"})
_WRITING = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "INTO"})
_TRANSACTION = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "ATTACH", "DETACH", "ABORT"}
)


@lru_cache(maxsize=1024)
def read_statement(sql: str) -> Statement:
    """Look into a statement of either dialect: an effect does not know what its database is. What they read differently
    counts where both agree.

    :raises DefinitionError: no statement, or several; a parameter that is not written ``:name``; a quote or
        comment that does not end; NUL or a lone surrogate; a statement that manages transactions or databases,
        which belong to the engine.
    """
    try:
        sqlite = _judged(sql, "sqlite")
    except DefinitionError:
        try:
            return _judged(sql, "postgres")
        except DefinitionError:
            pass
        raise
    try:
        postgres = _judged(sql, "postgres")
    except DefinitionError:
        return sqlite
    return Statement(sqlite.names & postgres.names, sqlite.reads and postgres.reads, sqlite.inserts)


@lru_cache(maxsize=1024)
def numbered(sql: str) -> Numbered:
    """A statement of PostgreSQL with its parameters as the server takes them.

    :raises DefinitionError: see :func:`read_statement`.
    """
    words, places = _tokens(sql, "postgres")
    names: dict[str, int] = {}
    parts, last = [], 0
    for start, end in places:
        number = names.setdefault(sql[start + 1 : end], len(names) + 1)
        before = sql[last:start]
        # With a word in front of it, $1 would be the rest of that.
        parts += [before, " " if before[-1:].isalnum() or before[-1:] in ("_", "$") else "", f"${number}"]
        last = end
    parts.append(sql[last:])
    changes = words[:1] == [] or words[0] not in _ORDINARY
    changes |= any(word == "SET_CONFIG" or word.startswith("PG_ADVISORY") for word in words)
    return Numbered("".join(parts), tuple(names), changes)


def _judged(sql: str, dialect: Dialect) -> Statement:
    words, places = _tokens(sql, dialect)
    first = words[0] if words else ""
    if first in _TRANSACTION:
        raise DefinitionError(f"sql {_shown(sql)}: {first} is the engine's; use sql.transaction([...]), or another db=")
    # A SELECT may call replace(); what it may not do is SELECT ... INTO a new table.
    writing = {"INTO"} if first == "SELECT" else _WRITING
    reads = first in _READING and writing.isdisjoint(words)
    inserts = not reads and not {"INSERT", "REPLACE"}.isdisjoint(words) and "CONFLICT" not in words
    return Statement(frozenset(sql[start + 1 : end] for start, end in places), reads, inserts)


def _tokens(sql: str, dialect: Dialect) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of one statement in capitals, and where its ``:name`` parameters begin and end."""
    if "\0" in sql or not _encodable(sql):
        raise DefinitionError(f"sql {_shown(sql)}: it holds NUL or lone surrogates; pass values as :name parameters")
    places: list[tuple[int, int]] = []
    words: list[str] = []
    empty, ended = True, False
    depth, at = 0, 0
    pattern = _SQLITE if dialect == "sqlite" else _POSTGRES
    while token := pattern.search(sql, at):
        at = token.end()
        kind, text = token.lastgroup, token[0]
        if kind == "comment":
            at = _comment_end(sql, token.start())
            continue
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
            places.append((token.start(), at))
        elif kind == "word":
            words.append(text.upper())
        elif kind == "bracket":
            depth += 1 if text == "[" else -1
        elif kind == "foreign" or (kind == "bound" and depth <= 0) or (kind == "operator" and _asks(sql, token)):
            raise DefinitionError(
                f"sql {_shown(sql)}: parameter {text} is not known; write :name and give {{'name': ...}}"
            )
        elif kind == "open":
            raise _unclosed(sql, text)
    if depth > 0:
        raise _unclosed(sql, "[")
    if empty:
        raise DefinitionError(f"sql {_shown(sql)}: there is no statement")
    return words, places


def _asks(sql: str, token: re.Match[str]) -> bool:
    """Whether what looks like an operator of PostgreSQL is the placeholder of another driver: nothing that it could be
    applied to follows.
    """
    text = token[0]
    if "?" not in text or text in _ASKING:
        return False
    return text != "?" or sql[token.end() :].lstrip()[:1] not in ("'", ":", "(", "$")


def _comment_end(sql: str, start: int) -> int:
    depth = 0
    for mark in _COMMENT.finditer(sql, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise _unclosed(sql, "/*")


def _unclosed(sql: str, text: str) -> DefinitionError:
    return DefinitionError(f"sql {_shown(sql)}: {text} is opened and never closed")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(sql: str) -> str:
    text = " ".join(sql.split())
    return repr(text if len(text) <= 80 else text[:80] + "…")
