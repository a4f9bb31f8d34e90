"""Every request of the conformance table, recorded on each engine, replays: joins in all forms, retries, deadlines,
detached effects, async steps, bugs, streams."""

from __future__ import annotations

import asyncio

import pytest
from conformance_table import TABLE
from engine_conformance import Place, Row, play

from zerver import App
from zerver.redaction import Redaction
from zerver.replay import replay
from zerver.trace.record import TraceRecord, decode, encode
from zerver.trace.recording import Recording


def declared(row: Row) -> App:
    app = App(**row.app)
    row.declare(Place(app))
    return app


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
async def test_a_recorded_request_replays_identically(row: Row) -> None:
    long = any(one in row.name for one in ("ten thousand", "a thousand"))
    for engine in row.engines[:1] if long else row.engines:
        recording = Recording(Redaction(), bodies=True, engine=engine)
        for run in (await play(row, engine)).runs:
            record: TraceRecord = decode(encode(recording.record(run, "asked", 0)))
            report = await asyncio.to_thread(replay, declared(row), record)
            if long:
                assert report.limit is not None
                assert report.limit.why == "the recording has the first events of the request only"
                assert (report.outcome, report.steps > 100) == ("partial", True)
            else:
                assert report.outcome == "identical", (engine, *report.lines, record)
