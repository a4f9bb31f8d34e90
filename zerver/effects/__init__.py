"""The constructors of effects, one module for each family: ``http.get(...)``, ``sql.query(...)``, ``kv.put(...)``.

A constructor only describes: it returns an :class:`~zerver.effect.Effect` and does nothing. All of them take,
by keyword:

- ``into``: the slot that the value is written to, and whose type it is decoded to;
- ``as_``: the type to decode to where there is no slot;
- ``required`` (default true): whether its failure fails the Need;
- ``timeout``: seconds for each attempt; ``retry``, ``priority``, ``idem``: see :class:`~zerver.effect.Effect`.

Each gives an ``Effect[T]`` with the exact type of its value, which is ``T | None`` under ``required=False``: ``await
need(...)`` gives ``None`` where an optional effect failed.
"""

from __future__ import annotations

from . import actor, cache, call, compute, file, http, kv, sql, timer

__all__ = ["actor", "cache", "call", "compute", "file", "http", "kv", "sql", "timer"]
