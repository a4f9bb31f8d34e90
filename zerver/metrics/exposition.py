"""Samples as text, in the format that Prometheus reads (version 0.0.4), written by its own client library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from .families import BOUNDS, FAMILIES, Family
from .snapshot import Sample

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(samples: Iterable[Sample]) -> bytes:
    """The text. Samples of metrics that this version does not know are left out."""
    by_name: dict[str, list[Sample]] = {name: [] for name in FAMILIES}
    for sample in samples:
        by_name.get(sample.name, []).append(sample)
    return generate_latest(_Collected([_metric(FAMILIES[name], found) for name, found in by_name.items()]))


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def _metric(family: Family, samples: Iterable[Sample]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for one in samples:
            histogram.add_metric(one.labels, _buckets(one.counts), one.value)
        return histogram
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(family.name, family.help, labels=family.labels)
    for one in samples:
        metric.add_metric(one.labels, one.value)
    return metric


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """As the format has them: each with all below it."""
    return list(zip(_BOUNDS, accumulate(counts), strict=True))


_BOUNDS = [*map(floatToGoString, BOUNDS), "+Inf"]
