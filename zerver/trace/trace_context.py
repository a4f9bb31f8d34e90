"""W3C Trace Context (level 1 and 2): what a client says of the trace that its request belongs to, and what effects say.

What is invalid is as good as not there: it never fails a request. The ids of a request that begins a trace, and those
of all its spans, follow from the request's own id: who sends one (an effect, as it is made) and who exports it (later,
in another process) need not tell each other, and a replay sees the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable

import msgspec

__all__ = [
    "SAMPLED", "TraceContext", "attempt_span_from", "attempt_span_id", "attempts_base", "context_of", "own_context",
    "parse_traceparent", "parse_tracestate", "span_id",
]  # fmt: skip

SAMPLED = 0x01
_KNOWN = 0x03  # sampled, and random (level 2); all others are sent as zero

# In version 00 nothing follows; in later ones, what follows begins with a dash ("Versioning of traceparent").
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16

# Keys as of level 2, which takes all those of level 1.
_MEMBER = re.compile(r"([a-z0-9][a-z0-9_\-*/@]{0,255})=[ !-+\--<>-~]{0,255}[!-+\--<>-~]")
_MEMBERS = 32
_LENGTH = 512  # characters that are passed on at most; "tracestate Limits" asks for as many
_LONG = 128  # members that are longer go first
# What a Need, and an effect of it, add to the number that ids of attempts begin with: more than there ever are of what
# is in it.
_NEED, _EFFECT, _MOST = 1 << 40, 1 << 20, (1 << 64) - 1


class TraceContext(msgspec.Struct, frozen=True):
    """Where in which trace something is."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16; of the caller. Empty where there is none: a trace begins."""
    flags: int
    state: str = ""
    """The ``tracestate``, valid and no longer than is passed on."""

    def traceparent(self, span_id: str) -> str:
        """The header that says so, with the span of whoever sends it."""
        return f"00-{self.trace_id}-{span_id}-{self.flags:02x}"


def parse_traceparent(value: str) -> TraceContext | None:
    """A ``traceparent``; ``None`` where it is invalid. Of a version later than 00, what is known of it is read."""
    found = _PARENT.fullmatch(value)
    if found is None:
        return None
    version, trace_id, parent, flags, more = found.groups()
    if version == "ff" or trace_id == _NO_TRACE or parent == _NO_SPAN or (version == "00" and more is not None):
        return None
    return TraceContext(trace_id, parent, int(flags, 16) & _KNOWN)


def parse_tracestate(values: Iterable[str]) -> str:
    """The ``tracestate`` out of all headers of that name, as it is passed on; empty where it is invalid: a malformed
    member, more than 32 of them, or one key twice. What is too long loses whole members: long ones, then the last."""
    members = [member for value in values for part in value.split(",") if (member := part.strip(" \t"))]
    keys = [found[1] for member in members if (found := _MEMBER.fullmatch(member))]
    if len(keys) < len(members) or len(set(keys)) < len(keys) or len(keys) > _MEMBERS:
        return ""
    if _length(members) > _LENGTH:
        members = [member for member in members if len(member) <= _LONG]
    while _length(members) > _LENGTH:
        members.pop()
    return ",".join(members)


def context_of(headers: Collection[tuple[bytes, bytes]]) -> TraceContext | None:
    """What the headers of a request say, names in lower case; ``None`` where that is nothing, or invalid."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return None
    context = parse_traceparent(parents[0].decode("latin-1"))
    if context is None:
        return None
    state = parse_tracestate([value.decode("latin-1") for name, value in headers if name == b"tracestate"])
    return msgspec.structs.replace(context, state=state) if state else context


def own_context(request_id: str, *, sampled: bool) -> TraceContext:
    """Of a request that belongs to no trace yet, and so begins one."""
    return TraceContext(_digest(request_id, 16), "", SAMPLED if sampled else 0)


def span_id(request_id: str, *place: str | int) -> str:
    """The id of a span of this request: ``"request"``; ``"step", index``; and others, but for those of attempts."""
    return _digest("/".join([request_id, *map(str, place)]), 8)


def attempt_span_id(request_id: str, need: int, effect: int, attempt: int) -> str:
    """The id of the span of one attempt at an effect. It is made while requests wait for it: so the digest that a trace
    of its own would be named by is enough for all of a request, and each place is a different number away from it."""
    return attempt_span_from(attempts_base(own_context(request_id, sampled=False)), need, effect, attempt)


def attempts_base(own: TraceContext) -> int:
    """What the ids of a request's attempts have in common. ``own``: of its own, whatever trace it belongs to."""
    return int(own.trace_id[:16], 16)


def attempt_span_from(base: int, need: int, effect: int, attempt: int) -> str:
    """See :func:`attempt_span_id`."""
    return f"{(base + need * _NEED + effect * _EFFECT + attempt) & _MOST or _MOST:016x}"  # all zeros is no id


def _digest(text: str, size: int) -> str:
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()
    return found if found.strip("0") else "1".zfill(2 * size)  # all zeros is no id


def _length(members: list[str]) -> int:
    return sum(map(len, members)) + len(members) - 1
