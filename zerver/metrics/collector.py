"""Asks the schedulers of a Node what they count, over the actor core, and adds it up."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from zerver_runtime.message import ActorDead, ActorError
from zerver_runtime.reply import Reply
from zerver_runtime.scheduler import Scheduler

from .snapshot import Key, Sample, Snapshot
from .stats_actor import CollectorActor, Kept, StatsActor, collector_name, is_collector, key_of, stats_name
from .totals import Totals

__all__ = ["Collector", "say_last", "tell_when_asked"]

_log = logging.getLogger("zerver")

_EVERY = 1.0  # seconds between two looks; so much of what a process counts can be lost with it
_PATIENCE = 0.5  # seconds that a scheduler has to answer
_LAST = 0.5  # seconds that a scheduler has to say its last


class Collector:
    """Runs on the loop of one scheduler, ``stage``. ``look`` gives what that one knows itself. ``expected``: slots that
    should have a process."""

    def __init__(self, stage: Scheduler, look: Callable[[], Snapshot], expected: Iterable[int] = ()) -> None:
        self._stage = stage
        self._look = look
        self._expected = [
            Snapshot(slot, 0, "performance", 0, time.monotonic(), (), up=False) for slot in sorted(expected)
        ]
        self._totals = Totals()
        self._asked: dict[Key, asyncio.Future[Reply[Any]]] = {}  # and not yet answered
        self._told: set[Key] = set()  # who keeps what is retained
        self._met: set[Key] = set()  # who said what somebody else had retained
        self._said = False  # that something is wrong
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        stage.spawn(CollectorActor, (self._totals.heard,), name=collector_name(stage.place))

    def start(self) -> None:
        """Look now and then, so that little is lost with a process that dies."""
        self._task = asyncio.get_running_loop().create_task(self._look_now_and_then())

    async def close(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def snapshots(self) -> list[Snapshot]:
        """See :meth:`zerver.admin.AdminSources.snapshots`."""
        async with self._turn:
            return await self._ask()

    async def metrics(self) -> list[Sample]:
        """See :meth:`zerver.admin.AdminSources.metrics`."""
        async with self._turn:
            return self._totals.metrics(await self._ask())

    async def _look_now_and_then(self) -> None:
        while True:
            try:
                await self.snapshots()
            except Exception as problem:  # its own bug; the next look may do better
                self._tell(problem)
            await asyncio.sleep(_EVERY)

    async def _ask(self) -> list[Snapshot]:
        others = self._others()
        # Somebody may have collected before, in a process that is gone or is about to.
        self._met &= others.keys()
        for key in self._asked.keys() - others.keys():
            del self._asked[key]
        unmet = {key: ref for key, ref in others.items() if key not in self._met}
        if unmet:
            kept: dict[Key, Kept] = await self._answers(unmet, lambda ref: ref.kept())
            for one in kept.values():  # what some have may be older than what others have
                if self._totals.adopt(one.retained):
                    self._told.clear()
            for one in kept.values():
                for collector in one.collectors:
                    self._totals.heard(collector)
            self._met |= kept.keys()
        own = self._look()
        answers: dict[Key, Snapshot] = await self._answers(others, lambda ref: ref.report(own))
        answers[own.key] = own
        for snapshot in answers.values():
            self._totals.heard(snapshot)
        there = {*self._others(), own.key}
        if self._totals.alive(there):
            self._told.clear()
        self._have_kept(others)
        return self._totals.snapshots(self._expected, answers.keys())

    def _others(self) -> dict[Key, Any]:
        names = self._stage.names_elsewhere
        return {key: ref for name, ref in names.items() if (key := key_of(name)) is not None}

    async def _answers(self, refs: dict[Key, Any], ask: Callable[[Any], Reply[Any]]) -> dict[Key, Any]:
        """Of each that answers in time. One that has not answered before is not asked again, but waited for."""
        loop = asyncio.get_running_loop()
        waiting = dict(self._asked)
        for key, ref in refs.items():
            if key not in waiting:
                answered: asyncio.Future[Reply[Any]] = loop.create_future()
                try:
                    with self._stage:
                        ask(ref).on_done(answered.set_result)
                except ActorError:
                    continue  # it has too much to do, or is gone
                self._asked[key] = answered
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=_PATIENCE)
        found = {}
        for key, future in list(self._asked.items()):
            if future.done():
                del self._asked[key]
                reply = future.result()
                if reply.error is not None:
                    self._tell(reply.error)
                elif key not in waiting:
                    found[key] = reply.result()
        return found

    def _tell(self, problem: Exception) -> None:
        if not isinstance(problem, ActorDead) and not self._said:
            self._said = True
            _log.error("metrics of a scheduler cannot be had; others will not be told of", exc_info=problem)

    def _have_kept(self, refs: dict[Key, Any]) -> None:
        """Have the others keep what this one has retained, in case that its process dies."""
        if not self._totals.retained.gone:
            return
        for key in refs.keys() - self._told:
            try:
                with self._stage:
                    refs[key].keep(self._totals.retained)
            except ActorError:
                continue
            self._told.add(key)


def tell_when_asked(stage: Scheduler, look: Callable[[], Snapshot]) -> None:
    """Have a collector find this process."""
    stage.spawn(StatsActor, (look,), name=stats_name(stage.place))


async def say_last(stage: Scheduler, snapshot: Snapshot) -> None:
    """Before the process ends: what is counted until now goes to all that collect, and is there before the end."""
    loop = asyncio.get_running_loop()
    heard = []
    names: dict[str, Any] = stage.names_elsewhere
    for name, ref in list(names.items()):
        if is_collector(name):
            answered: asyncio.Future[object] = loop.create_future()
            try:
                with stage:
                    ref.last(snapshot).on_done(answered.set_result)
            except ActorError:
                continue
            heard.append(answered)
    if heard:
        await asyncio.wait(heard, timeout=_LAST)
