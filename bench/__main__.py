"""``python -m bench [NAME ...]``: list the benchmarks, or run some (``all`` runs every one)."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import bench
from bench.harness import Benchmark, Figures, run

_NOT_BENCHMARKS = {
    "__main__",
    "engine_load",
    "fanout_apps",
    "harness",
    "http_apps",
    "local_upstream",
    "served",
    "sql_apps",
}


def main(names: list[str]) -> int:
    """Run the benchmarks of these names."""
    known = sorted(module.name for module in pkgutil.iter_modules(bench.__path__) if module.name not in _NOT_BENCHMARKS)
    if not names:
        print("Benchmarks (python -m bench NAME, or all):", *known, sep="\n  ")
        return 0
    unknown = sorted(set(names) - {*known, "all"})
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in known if "all" in names else names:
        benchmark: Benchmark | Figures = importlib.import_module(f"bench.{name}").BENCHMARK
        run(benchmark)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
