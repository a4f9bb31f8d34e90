"""Any history of a few actors keeps the promises: no message is lost without a dead letter or an error to its sender,
the order of each pair holds, no actor runs twice at once, and every ask is answered.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from actor_kit import Stage
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zerver_runtime.actor import Actor
from zerver_runtime.behaviour import behaviour
from zerver_runtime.mailbox import MailboxPolicy, WhenFull
from zerver_runtime.message import ActorError, MailboxFull
from zerver_runtime.reply import Reply

World = dict[str, Any]


class Peer(Actor):
    def __init__(self, world: World) -> None:
        self.world = world
        self.inside = False

    def enter(self) -> None:
        assert not self.inside, "it runs twice at once"
        self.inside = True

    @behaviour
    def take(self, sender: int, number: int) -> int:
        self.enter()
        self.world["taken"].append((sender, id(self), number))
        self.inside = False
        return number

    @behaviour
    def burst(self, me: int, others: list[Peer], count: int) -> None:
        self.enter()
        for _ in range(count):
            for other in others:
                self.tell(me, other)
        self.inside = False

    @behaviour
    async def ask(self, me: int, other: Peer, seconds: float) -> str:
        self.enter()
        number = self.number()
        try:
            reply = other.take(me, number)
        except MailboxFull:
            self.world["refused"] += 1
            self.inside = False
            return "refused"
        try:
            answer = await reply.with_timeout(seconds)
            assert answer == number, "a reply reached another caller"
        except ActorError as error:
            return type(error).__name__
        finally:
            self.inside = False
        return "answered"

    @behaviour
    async def doze(self, seconds: float) -> None:
        self.enter()
        try:
            await self.sleep(seconds)
        finally:
            self.inside = False

    @behaviour
    def crash(self) -> None:
        raise ValueError("on purpose")

    def number(self) -> int:
        self.world["sent"] += 1
        sent: int = self.world["sent"]
        return sent

    def tell(self, me: int, other: Peer) -> None:
        try:
            self.world["replies"].append(other.take(me, self.number()))
        except MailboxFull:
            self.world["refused"] += 1


KINDS: dict[str, type[Peer]] = {}
for full in ("mute", "drop", "fail"):
    policy: WhenFull = full  # type: ignore[assignment]
    KINDS[full] = type(f"Peer{full.title()}", (Peer,), {"mailbox": MailboxPolicy(6, policy)})

PEERS = st.integers(0, 3)
SECONDS = st.sampled_from([0.1, 1.0, 3.0])


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage(check_arguments=False, turn_tasks=3)
        self.world: World = {"taken": [], "sent": 0, "refused": 0, "replies": []}
        self.peers: list[Any] = []
        self.asks: list[Reply[Any]] = []
        self.lost_orders = 0
        for full in ("mute", "drop", "fail", "mute"):
            self.peers.append(self.stage.spawn(KINDS[full], self.world))

    def order(self, send: Any, *args: Any) -> None:
        """From outside; what a full mailbox refuses was told to us."""
        try:
            self.asks.append(send(*args))
        except MailboxFull:
            self.lost_orders += 1

    @rule(who=PEERS, others=st.lists(PEERS, min_size=1, max_size=3), count=st.integers(1, 4))
    def burst(self, who: int, others: list[int], count: int) -> None:
        self.order(self.peers[who].burst, who, [self.peers[other] for other in others], count)

    @rule(who=PEERS, other=PEERS, seconds=SECONDS)
    def ask(self, who: int, other: int, seconds: float) -> None:
        self.order(self.peers[who].ask, who, self.peers[other], seconds)

    @rule(who=PEERS, seconds=SECONDS)
    def doze(self, who: int, seconds: float) -> None:
        self.order(self.peers[who].doze, seconds)

    @rule(who=PEERS, how=st.sampled_from(["crash", "stop", "kill"]))
    def end(self, who: int, how: str) -> None:
        if how == "kill":
            self.stage.scheduler.kill(self.peers[who])
        else:
            self.order(getattr(self.peers[who], how))

    @rule(who=PEERS, full=st.sampled_from(sorted(KINDS)))
    def replace(self, who: int, full: str) -> None:
        self.peers[who] = self.stage.spawn(KINDS[full], self.world)

    @rule()
    def turn(self) -> None:
        self.stage.scheduler.turn()

    @rule(seconds=SECONDS)
    def advance(self, seconds: float) -> None:
        self.stage.advance(seconds)

    @invariant()
    def the_order_of_each_pair_holds(self) -> None:
        pairs = defaultdict[tuple[int, int], list[int]](list)
        for sender, receiver, number in self.world["taken"]:
            pairs[sender, receiver].append(number)
        for numbers in pairs.values():
            assert numbers == sorted(numbers)

    @invariant()
    def nobody_crashed_who_was_not_meant_to(self) -> None:
        assert {str(error) for _, error in self.stage.reports} <= {"on purpose"}

    def teardown(self) -> None:
        self.stage.advance(60)
        scheduler = self.stage.scheduler
        statistics = scheduler.statistics()
        assert all(reply.done for reply in self.asks), "an ask was not answered"
        assert all(reply.done for reply in self.world["replies"]), "a message was lost without a word"
        letters = [letter for letter in scheduler.dead_letters.last if letter.behaviour == "take"]
        if statistics.dead_letters <= 100:
            assert len(self.world["taken"]) + len(letters) + self.world["refused"] == self.world["sent"]
        assert statistics.queued == 0
        for cell in scheduler.cells.values():
            assert (cell.count, cell.mutes, cell.suspended) == (0, 0, None)
            assert "idle" in repr(cell)
        for peer in self.peers:
            scheduler.kill(peer)
        assert self.stage.settle() is None, "no timer is left of actors that are dead"


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
