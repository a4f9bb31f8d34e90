"""Metrics: what is counted, how it is added up over processes, and the text that comes of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from zerver.error import Error, ErrorKind
from zerver.metrics.effect_meter import EffectMeter
from zerver.metrics.exposition import exposition
from zerver.metrics.families import BOUNDS, FAMILIES
from zerver.metrics.request_meter import RequestMeter, label
from zerver.metrics.snapshot import Key, Sample, Snapshot
from zerver.metrics.totals import Totals, add_up
from zerver_runtime.outcome import Failure, Success
from zerver_runtime.reactor.breaker import Breaker, BreakerPolicy, StateChange
from zerver_runtime.reactor.target import TargetStatistics

DOC = (Path(__file__).parents[2] / "docs/guides/metrics.md").read_text()

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(samples: Iterable[Sample]) -> Values:
    """As Prometheus reads it."""
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(exposition(samples).decode())
        for one in family.samples
    }


# --- requests


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["GET /", "POST /a/{b:int}"]),
            st.sampled_from([None, 200, 204, 301, 404, 500, 599]),
            st.integers(0, 20_000_000_000) | st.sampled_from([int(bound * 1e9) for bound in BOUNDS]),
        )
    )
)
@settings(max_examples=60, deadline=None)
def test_each_request_is_in_one_class_of_status_and_in_every_bucket_that_it_was_quick_enough_for(
    ended: list[tuple[str, int | None, int]],
) -> None:
    meter = RequestMeter(["GET /"])
    for route, status, took in ended:
        meter.count(route, status or 0, took)
    found = parsed(meter.samples())
    for route in {"GET /", *(one[0] for one in ended)}:
        method, _, path = route.partition(" ")
        mine = [(status, took) for name, status, took in ended if name == route]
        classes = Counter("none" if status is None else f"{status // 100}xx" for status, _ in mine)
        labels = (("method", method), ("route", path))
        for name in ("none", "1xx", "2xx", "3xx", "4xx", "5xx"):
            assert found.get(("zerver_requests_total", (*labels, ("status", name))), 0.0) == classes[name]
        for bound in (*BOUNDS, float("inf")):
            le = "+Inf" if bound == float("inf") else str(bound)
            place = ("zerver_request_duration_seconds_bucket", (("le", le), *labels))
            assert found[place] == sum(took <= bound * 1e9 for _, took in mine), le
        assert found["zerver_request_duration_seconds_count", labels] == len(mine)
        took_seconds = sum(took for _, took in mine) / 1e9
        assert found["zerver_request_duration_seconds_sum", labels] == pytest.approx(took_seconds)


def test_a_route_is_there_before_its_first_request() -> None:
    found = parsed(RequestMeter(["GET /a"]).samples())
    labels = (("method", "GET"), ("route", "/a"))
    assert found["zerver_requests_total", (*labels, ("status", "2xx"))] == 0
    assert found["zerver_request_duration_seconds_count", labels] == 0


def test_what_a_client_writes_as_a_method_or_path_is_no_label() -> None:
    assert label("GET") == "GET (none)"
    assert label("BREW" * 100) == label("") == "other (none)"
    assert label("PUT", "/static/*") == "PUT /static/*"


def test_a_mount_that_answers_with_a_status_that_there_is_not_is_counted_as_failed() -> None:
    meter = RequestMeter()
    meter.count("GET /old/*", 999, 1)
    assert parsed(meter.samples())["zerver_requests_total", (("method", "GET"), ("route", "/old/*"), ("status", "5xx"))]


# --- effects


def target(state: str = "closed", in_flight: int = 0) -> TargetStatistics:
    breaker = msgspec.structs.replace(Breaker(BreakerPolicy()).statistics(), state=state)
    return TargetStatistics(in_flight, 0, breaker, None)


def test_effects_are_counted_by_target_and_by_how_they_ended() -> None:
    meter = EffectMeter()
    for event, detail in (
        ("EffectStart", 0.0),
        ("EffectRetry", None),
        ("ReactorEffectCompleted", Success(1)),
        ("ReactorEffectCompleted", Success(2)),
        ("ReactorEffectCompleted", Failure(Error(ErrorKind.TIMEOUT))),
        ("ReactorEffectCompleted", Failure("of a driver of the app's own")),
        ("EffectCancelled", "trying"),
        ("BreakerStateChanged", StateChange("closed", "open")),
        ("BreakerStateChanged", StateChange("open", "half-open")),
    ):
        meter.told(event, "http:a:80", detail)
    found = parsed(meter.samples({"http:a:80": target("half-open", 3), "kv": target()}))
    of = (("target", "http:a:80"),)
    ends = {dict(labels)["outcome"]: count for (name, labels), count in found.items() if name == "zerver_effects_total"}
    assert ends == {"success": 2, "timeout": 1, "internal": 1, "cancelled": 1}
    assert (found["zerver_effect_retries_total", of], found["zerver_breaker_opened_total", of]) == (1, 1)
    assert found["zerver_effects_in_flight", of] == 3
    states = {state: found["zerver_breakers", (("state", state), *of)] for state in ("closed", "half-open", "open")}
    assert states == {"closed": 0, "half-open": 1, "open": 0}
    assert found["zerver_effect_retries_total", (("target", "kv"),)] == 0


def test_targets_that_clients_think_up_do_not_grow_the_number_of_labels_and_lower_none() -> None:
    meter = EffectMeter()
    for number in range(1000):
        meter.told("ReactorEffectCompleted", f"http:{number}:80", Success(None))
    now = {f"http:{number}:80": target(in_flight=1) for number in range(2000)}
    samples = add_up(meter.samples(now))
    counted = {one.labels[0]: one.value for one in samples if one.name == "zerver_effects_total"}
    assert len(counted) == 101
    assert counted["http:0:80"] == 1
    assert counted["other"] == 900
    flying = {one.labels[0]: one.value for one in samples if one.name == "zerver_effects_in_flight"}
    assert flying.keys() == counted.keys()
    assert flying["other"] == 1900


# --- sums over processes


def snapshot(key: Key, at: float, count: int, gauge: float = 0.0) -> Snapshot:
    labels = (str(key[0]), "performance")
    return Snapshot(
        *key, "performance", 1, at,
        (
            Sample("zerver_requests_total", ("GET", "/", "2xx"), count),
            Sample("zerver_request_duration_seconds", ("GET", "/"), count / 8, (count, *[0] * len(BOUNDS))),
            Sample("zerver_tasks_queued", (), gauge),
            Sample("zerver_scheduler_cpu_seconds_total", labels, at / 2),
        ),
    )  # fmt: skip


def value(samples: Iterable[Sample], name: str) -> Any:
    (found,) = [one for one in samples if one.name == name]
    return found


class World:
    """Processes that count, die and are replaced; and a collector, which is replaced, too."""

    def __init__(self) -> None:
        self.counted: dict[Key, int] = {}
        self.incarnations = Counter[int]()
        self.seen: dict[Key, int] = {}
        self.totals = Totals()
        self.kept = self.totals.retained
        self.at = 0.0
        for slot in range(3):
            self.start(slot)
        self.look(set())

    def start(self, slot: int) -> None:
        self.incarnations[slot] += 1
        self.counted[slot, self.incarnations[slot]] = 0

    def look(self, silent: set[int]) -> list[Sample]:
        self.at += 1.0
        answered = {key for key in self.counted if key[0] not in silent}
        for key in answered:
            self.seen[key] = self.counted[key]
            self.totals.heard(snapshot(key, self.at, self.counted[key]))
        if self.totals.alive(self.counted.keys()):
            self.kept = self.totals.retained
        return self.totals.metrics(self.totals.snapshots([], answered))


STEPS = st.one_of(
    st.tuples(st.just("count"), st.integers(0, 2)),
    st.tuples(st.just("look"), st.sets(st.integers(0, 2))),
    st.tuples(st.sampled_from(["kill", "drain", "overlap", "late"]), st.integers(0, 2)),
    st.tuples(st.just("collector"), st.none()),
)


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_sum_goes_down_and_nothing_that_was_heard_is_lost_or_counted_twice_whoever_is_replaced(
    steps: list[tuple[str, Any]],
) -> None:
    world = World()
    before = 0.0
    for what, which in [*steps, ("look", set()), ("look", set()), ("look", set())]:
        key = None if not isinstance(which, int) else (which, world.incarnations[which])
        if what == "count" and key is not None:
            world.counted[key] += 1
        elif what == "look":
            samples = world.look(which if isinstance(which, set) else set())
            found = value(samples, "zerver_requests_total").value
            histogram = value(samples, "zerver_request_duration_seconds")
            assert found == sum(world.seen.values()) >= before
            assert (sum(histogram.counts), histogram.value) == (found, found / 8)
            before = found
        elif what == "collector":
            world.look(set())  # it is what it could be asked for last that its successor gets
            world.look(set())
            world.totals = Totals()
            world.totals.adopt(world.kept)
            world.look(set())  # that one dies, too, before it was asked is the one thing that loses more
        elif key is not None:
            if what == "overlap":
                old = [one for one in world.counted if one[0] == which]
                world.start(which)  # a reload: for a while, there are two
                if len(old) > 1:
                    del world.counted[old[0]]
                continue
            count = world.counted.pop(key)
            if what in ("drain", "late"):
                world.seen[key] = count
            if what == "late":
                world.look(set())  # it is gone, and what it said last is still on its way
            if what in ("drain", "late"):
                world.totals.heard(snapshot(key, world.at + 0.5, count))
            world.start(which)
    assert all(world.seen[key] == world.counted[key] for key in world.counted)


def test_of_a_scheduler_that_does_not_answer_what_it_counted_stays_and_what_was_so_then_is_left_out() -> None:
    totals = Totals()
    totals.heard(snapshot((0, 1), 1.0, 5, gauge=3.0))
    totals.heard(snapshot((1, 1), 1.0, 2, gauge=4.0))
    totals.alive({(0, 1), (1, 1)})
    shown = totals.snapshots([], {(1, 1)})
    assert [(one.slot, one.up) for one in shown] == [(0, False), (1, True)]
    found = parsed(totals.metrics(shown))
    assert found["zerver_requests_total", (("method", "GET"), ("route", "/"), ("status", "2xx"))] == 7
    assert found["zerver_tasks_queued", ()] == 4.0
    up = {labels[1][1]: is_up for (name, labels), is_up in found.items() if name == "zerver_scheduler_up"}
    assert up == {"0": 0, "1": 1}


def test_a_slot_that_was_never_heard_of_is_told_of_as_not_up() -> None:
    totals = Totals()
    totals.heard(snapshot((0, 1), 1.0, 5))
    missing = [Snapshot(slot, 0, "performance", 0, 0.0, (), up=False) for slot in (0, 1)]
    shown = totals.snapshots(missing, {(0, 1)})
    assert [(one.key, one.up) for one in shown] == [((0, 1), True), ((1, 0), False)]
    up = {one.labels[0]: one.value for one in totals.metrics(shown) if one.name == "zerver_scheduler_up"}
    assert up == {"0": 1.0, "1": 0.0}


def test_during_a_reload_a_slot_with_two_processes_is_up_once() -> None:
    totals = Totals()
    for key in ((0, 1), (0, 2)):
        totals.heard(snapshot(key, 1.0, 1))
    assert value(totals.metrics(totals.snapshots([], {(0, 1), (0, 2)})), "zerver_scheduler_up").value == 1.0


def test_what_was_sent_before_what_is_known_changes_nothing() -> None:
    totals = Totals()
    totals.heard(snapshot((0, 1), 2.0, 5))
    totals.heard(snapshot((0, 1), 1.0, 3))
    samples = totals.metrics(totals.snapshots([], {(0, 1)}))
    assert value(samples, "zerver_requests_total").value == 5


def test_a_process_whose_counts_were_taken_over_is_not_counted_again() -> None:
    totals = Totals()
    totals.heard(snapshot((0, 1), 1.0, 5))
    for _ in range(2):
        totals.alive(set())
    successor = Totals()
    successor.heard(snapshot((0, 1), 1.0, 5))
    successor.adopt(totals.retained)
    successor.heard(snapshot((0, 1), 1.0, 5))
    for one in (totals, successor):
        one.heard(snapshot((0, 1), 1.0, 5))
        assert value(one.metrics(one.snapshots([], ())), "zerver_requests_total").value == 5


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_of_what_several_have_kept_the_one_that_has_all_of_the_others_counts(order: tuple[int, ...]) -> None:
    totals, kept = Totals(), []
    for process in (1, 2, 3):
        totals.heard(snapshot((0, process), float(process), 5))
        for _ in range(2):
            totals.alive(set())
        kept.append(totals.retained)
    successor = Totals()
    for which in order:
        successor.adopt(kept[which])
    assert value(successor.metrics(successor.snapshots([], ())), "zerver_requests_total").value == 15


def test_what_was_kept_by_somebody_who_knows_less_is_not_taken() -> None:
    totals, other = Totals(), Totals()
    for one, process in ((totals, 1), (other, 2)):
        one.heard(snapshot((0, process), 1.0, 5 + process))
        for _ in range(2):
            one.alive(set())
    assert not totals.adopt(other.retained)
    assert value(totals.metrics(totals.snapshots([], ())), "zerver_requests_total").value == 6


def test_how_busy_a_scheduler_is_comes_of_the_cpu_time_between_two_looks() -> None:
    totals = Totals()
    for at, share in ((10.0, 0.0), (10.1, 0.0), (12.0, 0.5)):
        totals.heard(snapshot((0, 1), at, 0))
        samples = totals.metrics(totals.snapshots([], {(0, 1)}))
        assert value(samples, "zerver_scheduler_busy_ratio").value == share


# --- the text


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), max_size=5, unique=True))
@settings(max_examples=100, deadline=None)
def test_prometheus_reads_any_label_as_it_was(labels: list[tuple[str, str]]) -> None:
    labels = [one for one in labels if not any(re.search("[\ud800-\udfff]", text) for text in one)]
    samples = [Sample("zerver_effects_total", pair, number + 0.5) for number, pair in enumerate(labels)]
    found = {(dict(place[1])["target"], dict(place[1])["outcome"]): count for place, count in parsed(samples).items()}
    assert found == {pair: number + 0.5 for number, pair in enumerate(labels)}


def test_names_and_units_are_as_prometheus_has_them() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch("zerver_[a-z_]+", name)
        assert (family.kind == "counter") is name.endswith("_total")
        assert family.help.endswith(".")
        units = {"seconds": "_seconds", "bytes": "_bytes", "ratio": "_ratio"}
        assert not re.search("(millis|micros|_ms|_kb|percent)", name)
        assert family.kind != "histogram" or name.endswith(units["seconds"])


def test_the_page_has_every_metric_with_its_kind_and_labels_and_no_other() -> None:
    rows = re.findall(r"^\| `(zerver_\w+)` \| (\w+) \|([^|]*)\|", DOC, re.MULTILINE)
    documented = {name: (kind, tuple(re.findall("`([a-z]+)`", labels))) for name, kind, labels in rows}
    assert documented == {name: (one.kind, one.labels) for name, one in FAMILIES.items()}


def test_the_page_has_the_bounds_of_the_buckets() -> None:
    (bounds,) = re.findall(r"^Buckets: (.*) s\.$", DOC, re.MULTILINE)
    assert [float(one) for one in bounds.split(", ")] == list(BOUNDS)


def test_targets_that_clients_name_are_bounded_however_many_processes_there_were_and_no_sum_goes_down() -> None:
    totals, told = Totals(), 0.0
    for process in range(1, 30):
        names = [f"http:{process}-{n}.example" for n in range(100)] + ["sql:default"]
        samples = tuple([Sample("zerver_effects_total", (name, "success"), 1) for name in names])
        totals.heard(Snapshot(0, process, "performance", 1, float(process), samples))
        totals.alive({(0, process)})
        found = totals.metrics(totals.snapshots([], {(0, process)}))
        effects = [one for one in found if one.name == "zerver_effects_total"]
        assert len(effects) <= 501
        assert sum(one.value for one in effects) == 101 * process
        assert next(one.value for one in effects if one.labels[0] == "sql:default") == process
        other = sum(one.value for one in effects if one.labels[0] == "other")
        assert other >= told
        told = other
    successor = Totals()
    successor.adopt(totals.retained)
    successor.heard(
        Snapshot(0, 99, "performance", 1, 1.0, (Sample("zerver_effects_total", ("http:new", "success"), 1),))
    )
    assert len({one.labels for one in successor.metrics(successor.snapshots([], {(0, 99)}))}) <= 503
