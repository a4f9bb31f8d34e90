"""The simulation over thousands of seeds, one process for each CPU: `SIMULATION_SEEDS=20000` makes it more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[1] / "unit" / "runtime"
SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))
FIRST = 1_000_000  # seeds that the unit tests do not run

PROGRAM = """
import sys
from moving_kit import move_about
from simulation_kit import simulate
from zerver_runtime import mailman
from zerver_runtime.testing.faults import Faults

USUAL, NARROW = mailman.WINDOW, 12

KINDS = (
    simulate,
    lambda seed: simulate(seed, link_bound=64, link_capacity=32),
    lambda seed: simulate(seed, names=True),
    lambda seed: simulate(seed, faults=Faults(kill=0.004, stall=0.04, pause=0.03, delay=0.05)),
    move_about,
    lambda seed: simulate(seed, names=True, reloads=0.1),
    lambda seed: move_about(seed, reloads=0.05),
)
for seed in range(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
    kind = seed % len(KINDS)
    mailman.WINDOW = NARROW if kind == 3 else USUAL
    KINDS[kind](seed)
    print(seed)
"""


@pytest.mark.timeout(0 if "SIMULATION_SEEDS" in os.environ else 180)
def test_every_promise_holds_in_thousands_of_histories() -> None:
    """What fails says which seed it was."""
    count = len(os.sched_getaffinity(0))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(FIRST + at), str(FIRST + SEEDS), str(count)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(UNIT)},
        )
        for at in range(count)
    ]
    try:
        said = [process.communicate() for process in running]
    finally:
        for process in running:
            process.kill()
    assert [errors[-3000:] for _, errors in said if errors] == []
    assert sorted(int(seed) for out, _ in said for seed in out.split()) == list(range(FIRST, FIRST + SEEDS))
