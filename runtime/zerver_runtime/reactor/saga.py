"""Sagas: compensations are declared and carried, and not run yet.

Open questions, which whoever builds this has to answer first (docs/decisions/0008):

- Ordering: in reverse order of the effects, or all at once? Across Needs as well?
- Retry: a compensation that fails may be retried by the policy of its own effect. And past that: who is told?
- Observability: are compensations part of the trace of their request, which may have been answered long before?
- Durability: a process that dies between an effect and its compensation needs a log that outlives it.
"""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ["SagaLog", "Unimplemented"]


class Unimplemented(Exception):
    """It is declared, and this version does not do it."""


class SagaLog:
    """Where effects that were done, and their compensations, will be written down. Every method raises `Unimplemented`:
    a log that does nothing would let an app believe that it is protected."""

    def append(self, label: str, compensation: Any) -> NoReturn:
        """Write down that an effect was done, and what undoes it."""
        raise Unimplemented(_TOLD)

    def compensate(self, reason: str) -> NoReturn:
        """Undo what was written down."""
        raise Unimplemented(_TOLD)


_TOLD = "sagas are not in this version: compensations are carried and traced, and not run"
