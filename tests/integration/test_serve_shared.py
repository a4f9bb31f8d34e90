"""What the schedulers of one ``zerver serve`` share: a cache, and the actors of the app."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from serve_kit import Process, Start, get, wait_for

pytestmark = pytest.mark.engines("reactor")

CACHED = """
import contextlib, os
from typing import Never
from zerver import App, CtxView, Decision, Done, Need, Slot, cache

class Found(Slot[str | None]): ...

@contextlib.asynccontextmanager
async def lifespan(app):
    await app.perform(cache.set("begun", "yes", ttl=60, timeout=5))
    yield

def wrote(ctx: CtxView) -> Decision:
    return Done.text("wrote")

def show(ctx: CtxView[Found]) -> Decision:
    return Done.text(f"{os.getpid()} {ctx.optional(Found)}")

def read(ctx: CtxView[Never, Found]) -> Decision:
    return Need([cache.get(ctx.param("key"), into=Found, timeout=5)], then=show)

def write(ctx: CtxView) -> Decision:
    return Need([cache.set(ctx.param("key"), "there", ttl=60, timeout=5)], then=wrote)

app = App(lifespan=lifespan)
app.get("/read/{key}", read)
app.get("/write/{key}", write)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cached.py").write_text(CACHED)
    return tmp_path


def holder(server: Process) -> int:
    """The process that efficiency actors live in: niced, as the compute workers are, but forked before them."""
    pid = server.child.pid
    own = os.getpriority(os.PRIO_PROCESS, pid)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(int(one) for one in children if os.getpriority(os.PRIO_PROCESS, int(one)) != own)


def test_what_one_scheduler_caches_all_others_find_also_out_of_a_lifespan(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "cached:app", "--port", "0", "--schedulers", "2")
    port = server.port()
    status, text = get(port, "/write/k")
    assert status == 200, text
    found: dict[str, str] = {}

    def both() -> bool:
        pid, value = get(port, "/read/k")[1].split()
        found[pid] = value
        return len(found) == 2

    wait_for(both)
    assert set(found.values()) == {"there"}
    assert get(port, "/read/begun")[1].split()[1] == "yes"
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert "WARNING" not in server.errors


def test_a_cache_whose_process_dies_is_there_again_and_empty(folder: Path, zerver: Start) -> None:
    server = zerver("serve", "cached:app", "--port", "0", "--schedulers", "2")
    port = server.port()
    assert get(port, "/write/k")[0] == 200
    os.kill(holder(server), signal.SIGKILL)
    server.read_until("efficiency scheduler .* died")
    wait_for(lambda: get(port, "/read/k")[1].endswith(" None"))
    wait_for(lambda: get(port, "/write/k")[0] == 200)
    wait_for(lambda: get(port, "/read/k")[1].endswith(" there"))  # the other scheduler may learn later where it is now
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


COUNTING = """
import os
from typing import Never
from counter_actor import Counter
from zerver import App, CtxView, Decision, Done, Need, Slot, actor

class Total(Slot[int]): ...

def show(ctx: CtxView[Total]) -> Decision:
    return Done.text(f"{os.getpid()} {ctx.require(Total)}")

def count(ctx: CtxView[Never, Total]) -> Decision:
    return Need([actor.ask("counter", Counter.add, 1, into=Total)], then=show)

app = App()
app.actor("counter", Counter, START)
app.get("/", count)
"""


@pytest.fixture
def counting(folder: Path) -> Path:
    (folder / "counter_actor.py").write_text(Path(__file__).with_name("counter_actor.py").read_text())
    (folder / "counting.py").write_text(COUNTING.replace("START", "0"))
    return folder


def answer(port: int) -> tuple[int, str]:
    """As a client gets it that comes again: its scheduler may have been killed under it."""
    try:
        return get(port)
    except OSError:
        return 0, ""


def total(port: int) -> int:
    """What the counter has come to; 0 while it cannot be reached."""
    status, text = answer(port)
    return int(text.split()[1]) if status == 200 else 0


def test_an_actor_of_an_app_is_one_for_all_schedulers(counting: Path, zerver: Start) -> None:
    server = zerver("serve", "counting:app", "--port", "0", "--schedulers", "2")
    port = server.port()
    wait_for(lambda: get(port)[0] == 200)
    first = int(get(port)[1].split()[1])
    schedulers: set[str] = set()
    asked = 0
    while len(schedulers) < 2 or asked < 50:
        status, text = get(port)
        asked += 1
        assert status == 200, text
        pid, total = text.split()
        schedulers.add(pid)
        assert int(total) == first + asked
        assert asked < 5000
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
    assert "is taken" not in server.errors


def test_whichever_process_is_killed_an_actor_answers_again(counting: Path, zerver: Start) -> None:
    server = zerver("serve", "counting:app", "--port", "0", "--schedulers", "2")
    port = server.port()
    wait_for(lambda: answer(port)[0] == 200)
    for _ in range(2):
        pid = server.child.pid
        own = os.getpriority(os.PRIO_PROCESS, pid)
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for one in [holder(server), *[one for one in children if os.getpriority(os.PRIO_PROCESS, one) == own][:1]]:
            os.kill(one, signal.SIGKILL)
            server.read_until("scheduler .* died")
            wait_for(lambda: [answer(port)[0] for _ in range(10)] == [200] * 10)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


def test_after_a_reload_the_actors_are_those_of_the_new_version(counting: Path, zerver: Start) -> None:
    server = zerver("serve", "counting:app", "--port", "0", "--schedulers", "2")
    port = server.port()
    wait_for(lambda: answer(port)[0] == 200)
    (counting / "counting.py").write_text(COUNTING.replace("START", "1000"))
    server.signal(signal.SIGHUP)
    server.read_until("reloaded; listening on")
    wait_for(lambda: total(port) > 1000)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0


CARELESS = """
from typing import Never
from zerver import App, CtxView, Decision, Done, Need, Slot, actor
from zerver_runtime import Actor, behaviour

class Careless(Actor):
    @behaviour
    def go(self) -> str:
        self.take(object())
        return "sent"

    @behaviour
    def take(self, what: object) -> None: ...

class Said(Slot[str]): ...

def show(ctx: CtxView[Said]) -> Decision:
    return Done.text(ctx.require(Said))

def go(ctx: CtxView[Never, Said]) -> Decision:
    return Need([actor.ask("careless", Careless.go, into=Said)], then=show)

app = App()
app.actor("careless", Careless)
app.get("/", go)
"""


@pytest.mark.parametrize(("debug", "status"), [("1", 500), ("0", 200)])
def test_under_development_arguments_are_checked_also_where_they_stay_in_their_process(
    folder: Path, zerver: Start, debug: str, status: int
) -> None:
    (folder / "careless.py").write_text(CARELESS)
    server = zerver("serve", "careless:app", "--port", "0", "--schedulers", "1", env={"ZERVER_DEBUG": debug})
    port = server.port()
    wait_for(lambda: get(port)[0] == status)
    server.signal(signal.SIGTERM)
    assert server.ended() == 0
