"""The layering of the code base, held by reading imports (nothing is imported here)."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOUSES = {"zerver": ROOT / "zerver", "zerver_runtime": ROOT / "runtime" / "zerver_runtime"}

COMPILED = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"][
    "custom"
]["modules"]

# Modules that take inputs and time and return actions: no I/O, clock, thread, loop or randomness of their own.
PURE = (
    "zerver.slot", "zerver.effect", "zerver.error", "zerver.decision", "zerver.context", "zerver.compiled_step",
    "zerver.step",
    "zerver.step_source", "zerver.match", "zerver.surroundings", "zerver.need", "zerver.request",
    "zerver.client_input", "zerver.codec", "zerver.execution",
    "zerver.interpreter", "zerver.step_mistakes", "zerver.ending",
    "zerver.signals", "zerver.pipeline", "zerver.routing",
    "zerver.path_template",
    "zerver.effectors.http_client.request", "zerver.effectors.http_client.response",
    "zerver.effectors.http_client.pool", "zerver.effectors.http_redirect",
    "zerver.effects", "zerver.effect_results", "zerver.faults", "zerver.lax", "zerver.multipart",
    "zerver.lru", "zerver.wire", "zerver.trace.events", "zerver.trace.reading", "zerver.trace.record",
    "zerver.trace.observe", "zerver.redaction", "zerver.trace.tail", "zerver.trace.timeline",
    "zerver.trace.reasons", "zerver.trace.notes", "zerver.trace.values", "zerver.replay",
    "zerver.trace.trace_context", "zerver.trace.propagation", "zerver.trace.spans",
    "zerver.trace.span_attributes", "zerver.trace.waterfall", "zerver.graph",
    "zerver.console.document", "zerver.console.listing", "zerver.console.system", "zerver.console.tables",
    "zerver.metrics.families", "zerver.metrics.snapshot", "zerver.metrics.request_meter", "zerver.metrics.effect_meter",
    "zerver.metrics.meters", "zerver.metrics.totals", "zerver.metrics.exposition", "zerver.metrics.stats_actor",
    "zerver.admin.guard", "zerver.config.settings", "zerver.config.merge", "zerver.config.rules",
    "zerver_runtime.outcome", "zerver_runtime.ids", "zerver_runtime.message", "zerver_runtime.reply",
    "zerver_runtime.mailbox", "zerver_runtime.discipline", "zerver_runtime.run_queue", "zerver_runtime.plain_data",
    "zerver_runtime.dead_letters", "zerver_runtime.behaviour", "zerver_runtime.ref", "zerver_runtime.cell",
    "zerver_runtime.suspended", "zerver_runtime.elsewhere", "zerver_runtime.monitors", "zerver_runtime.timer",
    "zerver_runtime.mailman_protocol", "zerver_runtime.scheduler", "zerver_runtime.actor",
    "zerver_runtime.supervisor", "zerver_runtime.packet", "zerver_runtime.control", "zerver_runtime.node_words",
    "zerver_runtime.scheduler_view", "zerver_runtime.node", "zerver_runtime.placement", "zerver_runtime.codec",
    "zerver_runtime.peer", "zerver_runtime.inbox", "zerver_runtime.mailman", "zerver_runtime.moves",
    "zerver_runtime.reactor.join",
    "zerver_runtime.reactor.retry", "zerver_runtime.reactor.breaker", "zerver_runtime.reactor.bulkhead",
    "zerver_runtime.reactor.budget", "zerver_runtime.reactor.dispatcher", "zerver_runtime.reactor.attempt",
    "zerver_runtime.reactor.ticket", "zerver_runtime.reactor.target", "zerver_runtime.reactor.surroundings",
    "zerver_runtime.reactor.timer_wheel", "zerver_runtime.reactor.expiries", "zerver_runtime.reactor.scope",
    "zerver_runtime.reactor.effector", "zerver_runtime.reactor.compute_queue", "zerver_runtime.reactor.compute_words",
    "zerver_runtime.reactor.compute_protocol", "zerver_runtime.reactor.offloading",
    "zerver_runtime.reactor.controlled_delay", "zerver_runtime.reactor.saga", "zerver_runtime.testing.clock",
)  # fmt: skip
IMPURE_IMPORTS = {
    "aiohttp", "asyncio", "concurrent", "multiprocessing", "queue", "random", "secrets", "select", "selectors",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request", "uvicorn",
    "uvloop",
}  # fmt: skip


def modules() -> dict[str, Path]:
    found = {}
    for house, folder in HOUSES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (house, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@cache
def imports(name: str, *, at_start_only: bool = False) -> tuple[str, ...]:
    """The absolute names of the modules that ``name`` imports; names taken out of a package resolve to its modules."""
    return tuple(_imports(name, at_start_only=at_start_only))


def _imports(name: str, *, at_start_only: bool) -> Iterator[str]:
    module = tree(name)
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    nodes = _at_start(module) if at_start_only else ast.walk(module)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def _at_start(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that run when the module is imported: not those in functions, nor under TYPE_CHECKING."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _at_start(child)


def test_no_module_imports_itself_in_a_circle() -> None:
    edges = {
        name: {one for one in imports(name, at_start_only=True) if one in MODULES and one != name} for name in MODULES
    }
    state: dict[str, int] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        state[name] = 1
        for following in sorted(edges[name]):
            # A package's __init__ hands on what its modules define; importing a sibling through it is no circle.
            if following == name.rpartition(".")[0]:
                continue
            assert state.get(following) != 1, " -> ".join((*path, name, following))
            if following not in state:
                visit(following, (*path, name))
        state[name] = 2

    for name in sorted(MODULES):
        if name not in state:
            visit(name, ())


def test_the_runtime_never_imports_the_web_engine() -> None:
    for name in MODULES:
        if name.startswith("zerver_runtime"):
            assert not [one for one in imports(name) if one == "zerver" or one.startswith("zerver.")], name


def test_the_runtime_imports_only_the_standard_library_and_msgspec() -> None:
    import sys

    for name in MODULES:
        if name.startswith("zerver_runtime"):
            tops = {one.partition(".")[0] for one in imports(name)}
            strangers = tops - sys.stdlib_module_names - {"msgspec", "zerver_runtime"}
            assert strangers <= ({"uvloop"} if name == "zerver_runtime.reactor.loop" else set()), (name, strangers)


@pytest.mark.parametrize("prefix", PURE)
def test_pure_modules_import_no_io_clock_thread_or_loop(prefix: str) -> None:
    covered = [name for name in MODULES if name == prefix or name.startswith(prefix + ".")]
    assert covered, f"{prefix} is gone; take it out of the list"
    for name in covered:
        impure = {one for one in imports(name) if one in IMPURE_IMPORTS or one.partition(".")[0] in IMPURE_IMPORTS}
        assert not impure, (name, impure)


def test_every_module_says_what_it_exports() -> None:
    assert [problem for name in sorted(MODULES) for problem in _exports_wrongly(name)] == []


def _exports_wrongly(name: str) -> Iterator[str]:
    module = tree(name)
    body = module.body[1:] if ast.get_docstring(module) is not None else module.body
    if not body or name.endswith("__main__"):
        return
    exported = [
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    if len(exported) != 1:
        yield f"{name} has no __all__, or several"
        return
    (names,) = exported
    defined = {
        node.name for node in module.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    }
    defined |= {
        t.id for node in module.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    defined |= {n.target.id for n in module.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    defined |= {
        name.id
        for node in module.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Tuple)
        for name in target.elts
        if isinstance(name, ast.Name)
    }
    defined |= {
        alias.asname or alias.name
        for node in (inner for outer in module.body for inner in (outer.body if isinstance(outer, ast.If) else [outer]))
        if isinstance(node, (ast.ImportFrom, ast.Import))
        for alias in node.names
    }
    if set(names) - defined:
        yield f"{name}: __all__ names what it does not have: {set(names) - defined}"


def test_every_module_says_what_it_is() -> None:
    assert [name for name in MODULES if tree(name).body and not ast.get_docstring(tree(name))] == []


@pytest.mark.parametrize("path", COMPILED)
def test_a_module_that_may_be_compiled_keeps_to_what_mypyc_can_do(path: str) -> None:
    nodes = list(ast.walk(ast.parse((ROOT / path).read_text())))
    structs = [
        one.name
        for one in nodes
        if isinstance(one, ast.ClassDef) and any("Struct" in ast.dump(base) for base in one.bases)
    ]
    assert not structs, "compiled, a Struct loses what it is declared with (frozen, gc, ...)"
    frames = [one.attr for one in nodes if isinstance(one, ast.Attribute) and one.attr == "_getframe"]
    assert not frames, "compiled functions have no frames"
