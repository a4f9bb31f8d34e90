"""The errors that the dispatcher makes."""

from __future__ import annotations

import pytest

from zerver.effects import http
from zerver.error import Error, ErrorKind
from zerver.faults import Faults

EFFECT = http.get("http://internal.example/secret")
FAULTS = Faults()


@pytest.mark.parametrize(
    ("error", "kind", "retry_after"),
    [
        (FAULTS.timeout(EFFECT, 0.25), ErrorKind.TIMEOUT, None),
        (FAULTS.deadline(EFFECT), ErrorKind.TIMEOUT, None),
        (FAULTS.breaker_open(EFFECT, 2.5), ErrorKind.UPSTREAM_UNAVAILABLE, 2.5),
        (FAULTS.bulkhead_full(EFFECT), ErrorKind.OVERLOADED, 1.0),
        (FAULTS.unknown_family(EFFECT), ErrorKind.INTERNAL, None),
        (FAULTS.crashed(EFFECT, ValueError("secret")), ErrorKind.INTERNAL, None),
    ],
)
def test_each_fault_has_its_kind_names_the_effect_and_tells_nothing_of_the_inside(
    error: Error, kind: ErrorKind, retry_after: float | None
) -> None:
    assert (error.kind, error.retry_after) == (kind, retry_after)
    assert error.what.startswith("http.get: ")
    assert "internal.example" not in error.what
    assert "secret" not in error.what


def test_a_time_out_says_how_long_it_was() -> None:
    assert "0.25 s" in FAULTS.timeout(EFFECT, 0.25).what
