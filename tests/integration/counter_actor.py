"""An actor of a web app, and one that fails."""

from __future__ import annotations

from zerver_runtime import Actor, MailboxPolicy, behaviour

__all__ = ["Counter", "Full"]


class Counter(Actor):
    def __init__(self, start: int) -> None:
        self.total = start

    @behaviour
    def add(self, amount: int, times: int = 1) -> int:
        self.total += amount * times
        return self.total

    @behaviour
    def fail(self) -> int:
        raise ValueError("secret")

    @behaviour
    async def nap(self, seconds: float) -> int:
        await self.sleep(seconds)
        return self.total


class Full(Actor):
    mailbox = MailboxPolicy(bound=1, full="fail")
    over = False

    @behaviour
    async def wait(self) -> None:
        while not self.over:
            await self.sleep(0.01)
