"""Sagas say that they are not there."""

from __future__ import annotations

import pytest

from zerver_runtime.reactor.saga import SagaLog, Unimplemented


def test_nothing_believes_that_it_is_protected() -> None:
    log = SagaLog()
    with pytest.raises(Unimplemented, match="not run"):
        log.append("charge", object())
    with pytest.raises(Unimplemented, match="not run"):
        log.compensate("it failed")
