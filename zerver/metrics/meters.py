"""What one service counts with."""

from __future__ import annotations

from collections.abc import Iterable

from .effect_meter import EffectMeter
from .request_meter import RequestMeter

__all__ = ["Meters"]


class Meters:
    """``routes``: the labels of the app's routes."""

    __slots__ = ("effects", "requests")

    def __init__(self, routes: Iterable[str] = ()) -> None:
        self.requests = RequestMeter(routes)
        self.effects = EffectMeter()
