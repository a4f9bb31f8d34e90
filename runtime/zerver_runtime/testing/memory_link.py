"""Links without sockets, whose bytes move only when a test says so: cut anywhere, delayed, or lost half-way."""

from __future__ import annotations

from collections.abc import Callable

from zerver_runtime.link import BOUND

__all__ = ["MemoryLink", "memory_pair"]


class MemoryLink:
    """One end of `memory_pair`. `deliver` hands what is on the wire towards this end to its owner.

    capacity: bytes on the wire in each direction, as a kernel's socket buffer holds them; what is more waits here.
    """

    __slots__ = ("_bound", "_capacity", "_cut", "_full", "_on_bytes", "_on_lost", "_on_writable", "_open", "_peer",
                 "_waiting", "_wire")  # fmt: skip

    _peer: MemoryLink

    def __init__(self, bound: int, capacity: int) -> None:
        self._bound = bound
        self._capacity = capacity
        self._wire = bytearray()  # on its way to this end
        self._waiting = bytearray()  # has not found room on the wire to the other end
        self._full = False
        self._open = True
        self._cut = ""
        self._on_bytes: Callable[[bytes], None] | None = None

    def start(
        self,
        on_bytes: Callable[[bytes], None],
        on_writable: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._on_bytes = on_bytes
        self._on_writable = on_writable
        self._on_lost = on_lost

    def write(self, data: bytes | bytearray) -> None:
        if not self._open or self._cut:
            return
        self._waiting += data
        self._move()
        if len(self._waiting) > self._bound:
            self._full = True

    @property
    def writable(self) -> bool:
        return self._open and not self._full

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def read(self) -> None:
        while not self.idle and self._on_bytes is not None:
            self.deliver()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._waiting.clear()
            self._wire.clear()
            self._peer._cut = self._peer._cut or "closed by the other side"

    # --- What a test does

    def deliver(self, most: int | None = None) -> int:
        """Hand over up to `most` bytes (all that are on the wire), then the loss, if the other side is gone.
        Returns how many bytes were handed over."""
        if not self._open or self._on_bytes is None:
            return 0
        data = bytes(self._wire[:most])
        del self._wire[: len(data)]
        if data:
            self._on_bytes(data)
        self._peer._move()
        if self._open and self._cut and not self._wire:
            self.close()
            self._on_lost(self._cut)
        return len(data)

    def lose(self, keep: int = 0) -> None:
        """The other side dies, and of what it had on the wire only the first `keep` bytes arrive."""
        del self._wire[keep:]
        self._peer.close()

    @property
    def idle(self) -> bool:
        """Whether `deliver` would do nothing."""
        return not self._open or not (self._wire or self._cut)

    def _move(self) -> None:
        if not self._open:
            return
        wire = self._peer._wire
        room = self._capacity - len(wire)
        if room > 0 and self._waiting and self._peer._open:
            wire += self._waiting[:room]
            del self._waiting[:room]
        if self._full and len(self._waiting) < self._bound // 4:
            self._full = False
            self._on_writable()

    def __repr__(self) -> str:
        return f"<MemoryLink {len(self._wire)} bytes to come, {len(self._waiting)} wait>"


def memory_pair(bound: int = BOUND, capacity: int = 64 * 1024) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one link. Nothing moves until `deliver` is called on the receiving one."""
    one, other = MemoryLink(bound, capacity), MemoryLink(bound, capacity)
    one._peer, other._peer = other, one
    return one, other
