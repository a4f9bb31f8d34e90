"""What the pages of the admin address are made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..config import Config
from ..metrics.snapshot import Sample, Snapshot

if TYPE_CHECKING:
    from ..app import App

__all__ = ["AdminSources"]


class AdminSources(Protocol):
    """Of one server, whatever its engine. Used on the loop of the admin address."""

    @property
    def config(self) -> Config:
        """The configuration of the server. ``config.trace.store`` is where kept traces are, if there are any."""
        ...

    @property
    def traces(self) -> str | None:
        """The file of the trace store, which may not exist as yet; ``None``: nothing is traced."""
        ...

    def app(self) -> App:
        """The app that is served, for a look at its routes and steps. Under ``zerver serve`` the process of the admin
        address imports it with the first call: so call this on a thread (``call.run(sources.app)``).

        :raises ZerverError: it cannot be imported any more.
        """
        ...

    async def snapshots(self) -> Sequence[Snapshot]:
        """One of each scheduler, by slot and incarnation; with ``up`` false where it did not answer within a second."""
        ...

    async def metrics(self) -> Sequence[Sample]:
        """All metrics, added up over the schedulers. What is counted never goes down."""
        ...
