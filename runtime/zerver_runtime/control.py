"""The words between the Node and its processes: a closed set of frozen values, and their bytes.

Every word is one CONTROL frame. Actor ids travel as `ids` packs them (10 bytes), because msgpack's integers end at 64
bits; arguments of a spawn travel as bytes that only their scheduler decodes, so that the Node never needs the
application. A word that carries a file descriptor (`Peer`, `Worker`) has it sent by SCM_RIGHTS with the same write.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from zerver_runtime.packet import Kind, encode

__all__ = [
    "Beat",
    "BootFailed",
    "Claim",
    "Close",
    "Drain",
    "DrainFailed",
    "FromNode",
    "Halt",
    "Home",
    "Keep",
    "Kept",
    "Misplaced",
    "Moved",
    "Named",
    "Peer",
    "PeerLost",
    "Placed",
    "Ready",
    "Relink",
    "Replace",
    "Serve",
    "Spawn",
    "Spawned",
    "ToNode",
    "Unclaim",
    "Wanted",
    "Worker",
    "WorkerLost",
    "Yield",
    "frame",
    "from_node",
    "to_node",
]


class _Word(msgspec.Struct, frozen=True, array_like=True, tag=True, gc=False):
    pass


# --- To the Node


class Ready(_Word, frozen=True, tag="ready"):
    """The boot is over; this process takes messages, and connections when it is told to."""


class BootFailed(_Word, frozen=True, tag="boot-failed"):
    """The boot raised; the process exits next. The same `why` again and again is a deterministic failure. told: the
    application says so itself, for whoever runs it; so that is all that there is to say."""

    why: str
    told: bool = False


class DrainFailed(_Word, frozen=True, tag="drain-failed"):
    """The application says that it could not end as it should."""

    why: str


class Beat(_Word, frozen=True, tag="beat"):
    """This scheduler still yields. load: messages and tasks that wait in it; handled: messages since its start."""

    load: int = 0
    handled: int = 0
    dead_letters: int = 0


class Wanted(_Word, frozen=True, tag="wanted"):
    """Spawn an actor on the least busy scheduler of a class; the answer is a `Placed` with this correlation."""

    correlation: int
    path: str
    arguments: bytes
    affinity: str = "none"
    name: str | None = None


class Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A top-level actor that an application declares."""

    name: str
    path: str
    arguments: bytes
    affinity: str = "none"


class Keep(_Word, frozen=True, tag="keep"):
    """The top-level actors of the application, all of them: one instance of each is to be kept in the Node. Every
    scheduler says it in its boot; what is kept already stays as it is."""

    actors: tuple[Kept, ...]


class Spawned(_Word, frozen=True, tag="spawned"):
    """A `Spawn` was done, or it failed and `why` says how."""

    request: int
    actor: bytes = b""
    why: str = ""


class Claim(_Word, frozen=True, tag="claim"):
    """An actor of this process wants to be found under a name in the whole Node."""

    name: str
    actor: bytes
    path: str


class Unclaim(_Word, frozen=True, tag="unclaim"):
    """A named actor of this process is no more."""

    name: str
    actor: bytes
    why: str = ""


class Misplaced(_Word, frozen=True, tag="misplaced"):
    """So many actors here prefer another class of process, and can be moved to it. The answer, when a process of that
    class takes actors, is a `Home`."""

    affinity: str
    count: int


class Moved(_Word, frozen=True, tag="moved"):
    """A named actor of a sibling's has been restored here, and takes over when a `Named` says so. One that gives the
    name to anybody else says no."""

    name: str
    was: bytes
    actor: bytes
    path: str


class Relink(_Word, frozen=True, tag="relink"):
    """The link to this sibling is broken, and it may live: both get a fresh one then."""

    slot: int
    incarnation: int


class Replace(_Word, frozen=True, tag="replace"):
    """Kill this compute worker: the task that it runs for this scheduler has to end. That is no crash of its own."""

    slot: int
    incarnation: int


ToNode: TypeAlias = (
    Ready
    | BootFailed
    | DrainFailed
    | Beat
    | Wanted
    | Keep
    | Spawned
    | Claim
    | Unclaim
    | Misplaced
    | Moved
    | Relink
    | Replace
)


# --- From the Node


class Peer(_Word, frozen=True, tag="peer"):
    """A fresh link to a sibling; its end comes with the word as a file descriptor."""

    slot: int
    incarnation: int


class PeerLost(_Word, frozen=True, tag="peer-lost"):
    slot: int
    incarnation: int
    why: str = ""


class Worker(_Word, frozen=True, tag="worker"):
    """A compute worker that this scheduler may give tasks to; the link to it comes with the word. The worker gets a
    `Peer`."""

    slot: int
    incarnation: int


class WorkerLost(_Word, frozen=True, tag="worker-lost"):
    slot: int
    incarnation: int
    why: str = ""


class Serve(_Word, frozen=True, tag="serve"):
    """Accept from this listener: it is yours, or its owner is not ready."""

    listener: int


class Yield(_Word, frozen=True, tag="yield"):
    """Accept no more from this listener, and keep it: its owner is back."""

    listener: int


class Close(_Word, frozen=True, tag="close"):
    """Accept all that waits in this listener, then close it for good."""

    listener: int


class Spawn(_Word, frozen=True, tag="spawn"):
    request: int
    path: str
    arguments: bytes
    name: str | None = None
    affinity: str = "none"


class Home(_Word, frozen=True, tag="home"):
    """Where actors that prefer this class may move now."""

    affinity: str
    slot: int
    incarnation: int


class Placed(_Word, frozen=True, tag="placed"):
    """The answer to a `Wanted`: the id of the new actor, or why there is none."""

    correlation: int
    actor: bytes = b""
    why: str = ""


class Named(_Word, frozen=True, tag="named"):
    """Who is found under a name from now on; empty `actor`: nobody. was: the same actor before it moved."""

    name: str
    actor: bytes = b""
    path: str = ""
    was: bytes = b""


class Drain(_Word, frozen=True, tag="drain"):
    """Accept what waits, close the listeners, finish what was begun, exit 0."""


class Halt(_Word, frozen=True, tag="halt"):
    """Exit 0 now."""


FromNode: TypeAlias = (
    Peer | PeerLost | Worker | WorkerLost | Serve | Yield | Close | Spawn | Home | Placed | Named | Drain | Halt
)

_ENCODER = msgspec.msgpack.Encoder()
_TO_NODE: msgspec.msgpack.Decoder[ToNode] = msgspec.msgpack.Decoder(ToNode)
_FROM_NODE: msgspec.msgpack.Decoder[FromNode] = msgspec.msgpack.Decoder(FromNode)


def frame(word: ToNode | FromNode) -> bytes:
    """The word as one frame."""
    return encode(Kind.CONTROL, _ENCODER.encode(word))


def to_node(payload: bytes) -> ToNode:
    """msgspec.DecodeError: no such word."""
    return _TO_NODE.decode(payload)


def from_node(payload: bytes) -> FromNode:
    """msgspec.DecodeError: no such word."""
    return _FROM_NODE.decode(payload)
