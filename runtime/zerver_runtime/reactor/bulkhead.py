"""A bulkhead: a target that hangs fills its own places, and nobody else's.

`in_flight` attempts have a *place* at a time. More wait in a bounded queue, first in first out, interactive before
batch; so that batch never starves, it has its turn after `AGEING` interactive entries in a row have passed it.

One request has a *share* of `per_request`: so many of its attempts may have a place, or stand in the queue for one.
Its others wait behind those, and join the end of the queue one by one as the share allows. So a request with a
thousand effects keeps nobody else waiting for more than a share. The bound on the queue counts these too.

Decide, then do: every call changes the books and says what its caller has to run. Every call takes constant time,
whatever waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Literal, TypeAlias, TypeVar

import msgspec

__all__ = ["AGEING", "Bulkhead", "BulkheadPolicy", "BulkheadStatistics", "Entered"]

AGEING = 8
"""So many interactive entries in a row pass a batch entry that waits; the next turn is batch's."""

Entered: TypeAlias = Literal["run", "queued", "full"]
E = TypeVar("E", bound=Hashable)


class BulkheadPolicy(msgspec.Struct, frozen=True):
    """in_flight: places. per_request: the share of one request. Both above 0. queue: how many may wait, 0 or more."""

    in_flight: int = 64
    per_request: int = 16
    queue: int = 256


class BulkheadStatistics(msgspec.Struct, frozen=True):
    in_flight: int
    """Places taken."""
    queued: int
    """Waiting: in the queue, or for their request's share."""
    rejected: int
    """How many found the queue full."""


class Bulkhead(Generic[E]):
    """Belongs to one target. An entry is anything hashable, and is in it once at a time; its owner is its request."""

    __slots__ = (
        "_places", "_policy", "_queue", "_rejected", "_share", "_shares", "_waiting", "_withheld", "in_flight",
    )  # fmt: skip

    def __init__(self, policy: BulkheadPolicy) -> None:
        self._policy = policy
        self._places, self._share = policy.in_flight, policy.per_request
        # Changed by enter(), leave() and remove(). Always: the queue is empty or every place is taken; an owner is
        # withheld from only while its share is used up.
        self.in_flight = 0
        self._shares: dict[Hashable, int] = {}
        self._queue: _Queue[E] = _Queue()
        self._withheld: dict[Hashable, _Queue[E]] = {}
        self._waiting = 0
        self._rejected = 0

    def enter(self, entry: E, owner: Hashable, batch: bool = False) -> Entered:
        """`run`: it has a place, give it back with `leave`. `queued`: it waits, until a `leave` names it or `remove`
        takes it out. `full`: it is not in here."""
        if self.take(owner):
            return "run"
        return "queued" if self.queue(entry, owner, batch) else "full"

    def take(self, owner: Hashable) -> bool:
        """The first half of `enter`: whether an entry of `owner` had a place at once."""
        shares = self._shares
        share = shares.get(owner, 0)
        if share >= self._share or self.in_flight >= self._places:
            return False
        shares[owner] = share + 1
        self.in_flight += 1
        return True

    def queue(self, entry: E, owner: Hashable, batch: bool) -> bool:
        """The other half, when there was none: whether it is queued. False: the queue is full."""
        policy = self._policy
        if self._waiting >= policy.queue:
            self._rejected += 1
            return False
        self._waiting += 1
        share = self._shares.get(owner, 0)
        if share < policy.per_request:
            self._shares[owner] = share + 1
            self._queue.push(entry, owner, batch)
        else:
            withheld = self._withheld.get(owner)
            if withheld is None:
                withheld = self._withheld[owner] = _Queue()
            withheld.push(entry, owner, batch)
        return True

    def leave(self, owner: Hashable) -> E | None:
        """An entry of `owner` gives its place back. What runs next, if anything: it has a place already."""
        self.in_flight -= 1
        if not self._waiting:  # as nearly always; the rest below would come to the same
            shares = self._shares
            share = shares[owner] - 1
            if share:
                shares[owner] = share
            else:
                del shares[owner]
            return None
        self._release_share(owner)
        if not self._queue:
            return None
        entry, _, _ = self._queue.pop()
        self._waiting -= 1
        self.in_flight += 1
        return entry

    def remove(self, entry: E, owner: Hashable) -> bool:
        """Take out an entry that waits; False, and nothing done, if it does not."""
        if self._queue.discard(entry):
            self._release_share(owner)
        else:
            withheld = self._withheld.get(owner)
            if withheld is None or not withheld.discard(entry):
                return False
            if not withheld:
                del self._withheld[owner]
        self._waiting -= 1
        return True

    def statistics(self) -> BulkheadStatistics:
        return BulkheadStatistics(self.in_flight, self._waiting, self._rejected)

    def __repr__(self) -> str:
        policy = self._policy
        return (
            f"<Bulkhead {self.in_flight} of {policy.in_flight} in flight, {self._waiting} of {policy.queue} queued, "
            f"{self._rejected} rejected>"
        )

    def _release_share(self, owner: Hashable) -> None:
        withheld = self._withheld.get(owner)
        if withheld is not None:  # the share passes on, undiminished
            self._queue.push(*withheld.pop())
            if not withheld:
                del self._withheld[owner]
            return
        share = self._shares[owner] - 1
        if share:
            self._shares[owner] = share
        else:
            del self._shares[owner]


class _Queue(Generic[E]):
    """Two lanes, each first in first out. OrderedDict: a linked list, so taking out any entry costs the same."""

    __slots__ = ("_batch", "_interactive", "_passed")

    def __init__(self) -> None:
        self._interactive: OrderedDict[E, Hashable] = OrderedDict()
        self._batch: OrderedDict[E, Hashable] = OrderedDict()
        self._passed = 0  # interactive entries in a row that passed a batch entry

    def __len__(self) -> int:
        return len(self._interactive) + len(self._batch)

    def push(self, entry: E, owner: Hashable, batch: bool) -> None:
        (self._batch if batch else self._interactive)[entry] = owner

    def pop(self) -> tuple[E, Hashable, bool]:
        """The next entry, its owner, and whether it is batch. The queue must not be empty."""
        batch = bool(self._batch) and (not self._interactive or self._passed >= AGEING)
        self._passed = self._passed + 1 if self._batch and not batch else 0
        entry, owner = (self._batch if batch else self._interactive).popitem(last=False)
        return entry, owner, batch

    def discard(self, entry: E) -> bool:
        for lane in (self._interactive, self._batch):
            if entry in lane:
                del lane[entry]
                return True
        return False
