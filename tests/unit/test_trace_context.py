"""W3C Trace Context: what is read of a client's headers, and what effects are given."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.request import Request
from zerver.trace.propagation import Propagation
from zerver.trace.trace_context import (
    SAMPLED,
    TraceContext,
    attempt_span_id,
    context_of,
    own_context,
    parse_traceparent,
    parse_tracestate,
    span_id,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (VALID, 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-02", 2),  # random (level 2)
        (f"00-{TRACE}-{SPAN}-ff", 3),  # what is not known is not passed on
        (f"cc-{TRACE}-{SPAN}-01", 1),
        (f"01-{TRACE}-{SPAN}-01-what-ever.comes", 1),
        (f"fe-{TRACE}-{SPAN}-01-", 1),
        (f"00-{'0' * 31}1-{'0' * 15}1-00", 0),
    ],
)
def test_a_valid_traceparent_is_read(value: str, flags: int) -> None:
    found = parse_traceparent(value)
    assert found is not None
    assert (found.trace_id, found.span_id, found.flags) == (*value.split("-")[1:3], flags)


@pytest.mark.parametrize(
    "value",
    [
        "", "00", f"ff-{TRACE}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01-x", f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"01-{'0' * 32}-{SPAN}-01", VALID.upper(), f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A", f"00-{TRACE[:-1]}-{SPAN}-01", f"00-{TRACE}0-{SPAN}-01", f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE}-{SPAN}-1", f"00-{TRACE}-{SPAN}-011", f"{VALID}-", f"{VALID}-00", f"01-{TRACE}-{SPAN}-01.x",
        f"01-{TRACE}-{SPAN}-01x", f" {VALID}", f"{VALID} ", f"{VALID}\n", f"0-{TRACE}-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01", f"00-{TRACE}-{SPAN}", VALID.replace("4", "\N{ARABIC-INDIC DIGIT FOUR}"),
        f"{VALID},{VALID}", f"00-{TRACE}-{SPAN[:-1]}g-01",
    ],
)  # fmt: skip
def test_an_invalid_traceparent_is_as_good_as_none(value: str) -> None:
    assert parse_traceparent(value) is None


@given(
    st.text(alphabet="0123456789abcdefAg-. \n", max_size=70) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}.*")
)
def test_what_is_read_can_be_written_and_is_read_the_same(value: str) -> None:
    found = parse_traceparent(value)
    if found is not None:
        assert re.fullmatch(r"[0-9a-f]{32}", found.trace_id)
        assert int(found.trace_id, 16)
        assert int(found.span_id, 16)
        assert parse_traceparent(found.traceparent(found.span_id)) == found


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        (["a=1 , b=2", "\tc=3"], "a=1,b=2,c=3"),
        (["", "a=1,,", ","], "a=1"),
        (["fw529a3039@dt=FfffffeC,a_-*/b=x y"], "fw529a3039@dt=FfffffeC,a_-*/b=x y"),
        (["1a=b"], "1a=b"),
        (["a=:;!~ <>x"], "a=:;!~ <>x"),
        ([f"{'k' * 256}={'v' * 100}"], f"{'k' * 256}={'v' * 100}"),
    ],
)
def test_a_valid_tracestate_is_passed_on(values: list[str], kept: str) -> None:
    assert parse_tracestate(values) == kept


@pytest.mark.parametrize(
    "value",
    [
        "a", "a=", "=1", "a==1", "A=1", "a b=1", "a=1,b", "a=\x7f", "a=\xe4", "a=\t", "a=1,a=2", "a =1", "@a=1", "-a=1",
        f"{'k' * 257}=1", f"a={'v' * 257}", ",".join([f"k{number}=1" for number in range(33)]),
    ],
)  # fmt: skip
def test_an_invalid_tracestate_is_dropped_as_a_whole(value: str) -> None:
    assert parse_tracestate([value]) == ""


def test_a_tracestate_that_is_too_long_loses_long_members_first_then_the_last() -> None:
    small = [f"k{number:02}={'v' * 26}" for number in range(20)]
    members = [*small[:2], f"long={'x' * 200}", *small[2:]]
    kept = parse_tracestate([",".join(members)])
    assert kept == ",".join(small[:16])
    assert len(kept) <= 512 < len(",".join(small[:17]))


@given(st.lists(st.text(alphabet="ab=,@ 1-", max_size=12), max_size=4))
def test_what_is_passed_on_is_valid_itself(values: list[str]) -> None:
    kept = parse_tracestate(values)
    assert parse_tracestate([kept]) == kept


def headers(*items: tuple[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"host", b"a"), *((name.encode(), value.encode("latin-1")) for name, value in items))


def test_the_headers_of_a_request() -> None:
    parent, state = ("traceparent", VALID), ("tracestate", "a=1")
    assert context_of(headers()) is None
    assert context_of(headers(state)) is None
    assert context_of(headers(parent)) == TraceContext(TRACE, SPAN, SAMPLED)
    assert context_of(headers(parent, state, ("tracestate", "b=2"))) == TraceContext(TRACE, SPAN, SAMPLED, "a=1,b=2")
    assert context_of(headers(parent, ("tracestate", "A"))) == TraceContext(TRACE, SPAN, SAMPLED)
    assert context_of(headers(parent, parent)) is None, "two say nothing"
    assert context_of(headers(("traceparent", "\xff"), state)) is None


def test_ids_follow_from_the_request_and_differ_for_each_span() -> None:
    assert own_context("id1", sampled=True) == own_context("id1", sampled=True)
    assert own_context("id1", sampled=True).trace_id != own_context("id2", sampled=True).trace_id
    assert [own_context("id1", sampled=one).flags for one in (True, False)] == [SAMPLED, 0]
    attempts = [(need, effect, attempt) for need in (1, 2) for effect in (0, 1, 999) for attempt in (1, 2)]
    ids = {attempt_span_id(request, *place) for request in ("id1", "id2") for place in attempts}
    ids |= {span_id(request, "request") for request in ("id1", "id2")}
    assert len(ids) == 2 * len(attempts) + 2
    assert attempt_span_id("id1", 1, 0, 1) in ids, "whoever asked in between"
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in ids)


def ticket(request: Request | None, need: int = 1, effect: int = 0, attempt: int = 1) -> Any:
    owner = None if request is None else SimpleNamespace(request=request)
    tag = SimpleNamespace(need=need, effect=effect)
    return SimpleNamespace(scope=SimpleNamespace(owner=owner), tag=tag, attempt=attempt)


def test_each_attempt_carries_the_clients_trace_and_a_span_of_its_own() -> None:
    request = Request("GET", "/", headers=headers(("traceparent", VALID), ("tracestate", "a=1")), id="r1")
    other = Request("GET", "/", headers=headers(("traceparent", "broken"), ("tracestate", "a=1")), id="r2")
    tickets = [
        ticket(request),
        ticket(request, attempt=2),
        ticket(other),
        ticket(request, effect=1),
        ticket(None),
        None,
    ]
    propagation = Propagation(lambda: tickets.pop(0), sampled=False)
    own = own_context("r2", sampled=False)
    assert [propagation.lines() for _ in range(6)] == [
        f"traceparent: 00-{TRACE}-{attempt_span_id('r1', 1, 0, 1)}-01\r\ntracestate: a=1\r\n",
        f"traceparent: 00-{TRACE}-{attempt_span_id('r1', 1, 0, 2)}-01\r\ntracestate: a=1\r\n",
        f"traceparent: 00-{own.trace_id}-{attempt_span_id('r2', 1, 0, 1)}-00\r\n",
        f"traceparent: 00-{TRACE}-{attempt_span_id('r1', 1, 1, 1)}-01\r\ntracestate: a=1\r\n",
        "",
        "",
    ]
