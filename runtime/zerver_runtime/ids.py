"""Where an actor lives, and which one it is, in one number: it routes a message without asking anybody.

    node (8 bits) | scheduler slot (12) | incarnation (20) | serial (40)

An *incarnation* counts the processes that a slot has had, from 1; serials count the actors that one such process has
made, from 1. So no id is ever given twice, a message to an actor of a process that is gone is told apart from one to
its successor, and a supervisor's restart makes a new id: the old one is dead for good, as in Erlang. What survives a
restart is a name.
"""

from __future__ import annotations

from typing import NamedTuple, NewType

__all__ = ["PACKED", "ActorId", "Place", "actor_id", "pack", "place", "show", "unpack"]

ActorId = NewType("ActorId", int)

PACKED = 10
"""Bytes of a packed id."""

_NODE, _SCHEDULER, _INCARNATION, _SERIAL = 8, 12, 20, 40


class Place(NamedTuple):
    """One process of one Node, in one of its lives."""

    node: int
    scheduler: int
    incarnation: int


def actor_id(node: int, scheduler: int, incarnation: int, serial: int) -> ActorId:
    """ValueError: a part is negative or does not fit its bits."""
    for name, value, bits in (
        ("node", node, _NODE),
        ("scheduler", scheduler, _SCHEDULER),
        ("incarnation", incarnation, _INCARNATION),
        ("serial", serial, _SERIAL),
    ):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name}={value} does not fit an actor id; it has to be 0 .. {(1 << bits) - 1}")
    return ActorId(((node << _SCHEDULER | scheduler) << _INCARNATION | incarnation) << _SERIAL | serial)


def place(id: int, /) -> Place:
    """The process that made the actor: the only one where it can be."""
    above = id >> _SERIAL
    return Place(
        above >> (_INCARNATION + _SCHEDULER),
        above >> _INCARNATION & (1 << _SCHEDULER) - 1,
        above & (1 << _INCARNATION) - 1,
    )


def pack(id: int, /) -> bytes:
    """Ten bytes, the highest first. OverflowError: not an actor id."""
    return id.to_bytes(PACKED, "big")


def unpack(data: bytes, /) -> ActorId:
    """ValueError: not ten bytes."""
    if len(data) != PACKED:
        raise ValueError(f"a packed actor id has {PACKED} bytes, not {len(data)}")
    return ActorId(int.from_bytes(data, "big"))


def show(id: int, /) -> str:
    """For people: `0.2.1.57`, node.scheduler.incarnation.serial."""
    return f"{'.'.join(map(str, place(id)))}.{id & (1 << _SERIAL) - 1}"
