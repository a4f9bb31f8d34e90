"""What a todo is, what clients may send, and the statements that store it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = ["CREATE", "DELETE", "LIST", "LOAD", "SCHEMA", "UPDATE", "Change", "Draft", "Id", "Limit", "Todo"]

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Limit = Annotated[int, Meta(ge=1, le=100)]


class Todo(msgspec.Struct):
    """One todo, as stored and as answered."""

    id: int
    title: str
    done: bool
    version: int
    """Counts the changes, from 1."""
    created: datetime


class Draft(msgspec.Struct, forbid_unknown_fields=True):
    """What ``POST /todos`` takes."""

    title: Title


class Change(msgspec.Struct, forbid_unknown_fields=True):
    """What ``PATCH /todos/{id}`` takes. With ``version``, only that version is changed."""

    title: Title | UnsetType = UNSET
    done: bool | UnsetType = UNSET
    version: int | UnsetType = UNSET


SCHEMA = """
create table if not exists todo (
    id integer primary key autoincrement,
    title text not null,
    done integer not null default 0,
    version integer not null default 1,
    created text not null,
    creation_key text not null unique
)
"""

# Creating again with the same key gives the first row back, so a client or the engine may safely try again.
CREATE = """
insert into todo (title, created, creation_key) values (:title, :created, :key)
on conflict (creation_key) do update set creation_key = excluded.creation_key
returning id, title, done, version, created
"""

LIST = """
select id, title, done, version, created from todo
where id > :after and (:done is null or done = :done) order by id limit :limit
"""

LOAD = "select id, title, done, version, created from todo where id = :id"

UPDATE = """
update todo set title = coalesce(:title, title), done = coalesce(:done, done), version = version + 1
where id = :id and (:version is null or version = :version)
returning id, title, done, version, created
"""

DELETE = "delete from todo where id = :id returning id, title, done, version, created"
