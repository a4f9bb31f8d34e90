"""An effector of databases, and how effects on it settle."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from effector_conformance import Probe

from zerver.effect import Effect
from zerver.effect_results import interpret
from zerver.effectors.sql import SqlEffector
from zerver.error import Error
from zerver_runtime.outcome import Failure, Outcome, Success

__all__ = ["Store"]


class Store:
    def __init__(self, urls: Mapping[str, str], **options: Any) -> None:
        self.effector = SqlEffector(urls, **options)

    async def outcome(self, effect: Effect[Any]) -> Outcome:
        """As the dispatcher would see it, without retries."""
        return self.interpreted(effect, await Probe(self.effector, effect).settled())

    def interpreted(self, effect: Effect[Any], outcome: Outcome) -> Outcome:
        return interpret(effect, outcome.value, time.time) if isinstance(outcome, Success) else outcome

    async def value(self, effect: Effect[Any]) -> Any:
        outcome = await self.outcome(effect)
        assert isinstance(outcome, Success), outcome
        return outcome.value

    async def error(self, effect: Effect[Any]) -> Error:
        return (await self.failure(effect))[0]

    async def failure(self, effect: Effect[Any]) -> tuple[Error, bool]:
        """The error, and whether it is retryable."""
        outcome = await self.outcome(effect)
        assert isinstance(outcome, Failure), outcome
        assert isinstance(outcome.error, Error)
        return outcome.error, outcome.retryable
