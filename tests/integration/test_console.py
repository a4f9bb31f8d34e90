"""The console in a real browser: what it shows, its keys, and that nothing that a client sent is more than text."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chromium_kit import CHROMIUM, Browser, Page
from kept_traces import HOSTILE, checkout, fill, row_of, simple
from serve_kit import PATIENCE, Process, wait_for

from zerver import App
from zerver.console.reading import run_replay
from zerver.console.tables import ReplayView
from zerver.error import AppError
from zerver.trace.store import TraceStore

COUNT = 10_000
WIDE, NARROW = (1440, 900), (360, 780)
HERE = str(Path(__file__).parent)

browsing = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED: there is no Chromium; install it (Debian: apt-get install chromium)"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("console") / "traces.db")
    fill(path, COUNT)
    return path


@pytest.fixture(scope="module")
def server(store: str) -> Iterator[str]:
    """Where the console is."""
    env = {"STORE": store, "PYTHONPATH": HERE, "ZERVER_TRACE__ENABLED": "false"}
    folder = Path(store).parent
    process = Process(folder, "-m", "zerver", "serve", "console_app:app", "--port", "0", "--schedulers", "1", env=env)
    try:
        yield f"{process.listening()}/console/"
    finally:
        process.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; at its end nothing has gone wrong in it."""
    with browser.page() as page:
        page.look(*WIDE)
        yield page
        assert page.problems == []


def write(store: str, *rows: Any) -> None:
    writer = TraceStore(store, max_bytes=1 << 30, max_age=86_400.0)
    writer.write(rows)
    writer.close()


def ask(server: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server.split("/")[2], timeout=PATIENCE)
    try:
        connection.request(
            method, f"/console/{path}", headers={name.replace("_", "-"): headers[name] for name in headers}
        )
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


LINES = "document.querySelectorAll('#rows .line')"
SHOWN = f"{LINES}.length > 3"


def paths(page: Page) -> list[str]:
    """Of the lines that are there, from the top."""
    found = page.js(
        f"[...{LINES}].sort((one, other) => parseFloat(one.style.top) - parseFloat(other.style.top))"
        ".map((line) => line.querySelector('a').textContent)"
    )
    assert isinstance(found, list)
    return found


def fits(page: Page) -> bool:
    """Nothing makes the view scroll sideways."""
    view = "document.querySelector('main > section:not([hidden])')"
    return bool(
        page.js(f"{view}.scrollWidth <= {view}.clientWidth && document.documentElement.scrollWidth <= innerWidth")
    )


# What is answered


def test_the_page_may_load_and_run_only_what_is_its_own(server: str) -> None:
    status, headers, body = ask(server, "")
    assert status == 200
    policy = headers["content-security-policy"]
    for part in (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
        "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'",
    ):  # fmt: skip
        assert part in policy.split("; ")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert b"style=" not in body
    assert b"onclick" not in body


@pytest.mark.parametrize("path", ["api/traces", "api/traces/last", "api/routes", "api/graphs", "api/system"])
def test_what_it_asks_for_is_json_and_not_to_be_stored(server: str, path: str) -> None:
    status, headers, body = ask(server, path)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
    assert headers["x-content-type-options"] == "nosniff"
    json.loads(body)


def test_all_traces_are_found_page_by_page(server: str) -> None:
    seen: list[int] = []
    before = ""
    while True:
        page = json.loads(ask(server, f"api/traces?limit=500{before}")[2])
        seen += [one["seq"] for one in page["traces"]]
        if not page["more"]:
            break
        before = f"&before={seen[-1]}"
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) >= COUNT


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("status=9xx", 422, "status 9xx"),
        ("why=none", 422, "why none"),
        ("slower=nan", 422, "'slower'"),
        ("slower=x", 422, "slower"),
        ("before=x", 422, "before"),
        ("limit=0", 200, ""),
        ("limit=999999999", 200, ""),
    ],
)
def test_a_filter_that_means_nothing_is_refused(server: str, query: str, status: int, told: str) -> None:
    found, _, body = ask(server, f"api/traces?{query}")
    assert found == status
    answer = json.loads(body)
    assert told in answer.get("detail", "")
    assert len(answer.get("traces", ())) <= 500


def test_a_trace_that_is_not_there_is_told_as_such(server: str) -> None:
    status, _, body = ask(server, "api/traces/none")
    assert (status, json.loads(body)["detail"]) == (404, "no such trace is kept, or no longer")


def test_a_trace_that_cannot_be_read_is_told_as_such(server: str, store: str) -> None:
    writer = TraceStore(store, max_bytes=1 << 30, max_age=1e6)
    writer.write([row_of(simple("later0"))._replace(data=msgspec.msgpack.encode({"version": 9}), route="GET /later")])
    writer.close()
    found = [ask(server, "api/traces/later0")]
    found.append(ask(server, "api/traces/later0/replay", "POST", sec_fetch_site="same-origin"))
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("DELETE FROM traces WHERE id = 'later0'")
    (status, _, body), replayed = found
    assert (status, json.loads(body)["detail"]) == (422, "the trace is of version 9; this Zerver reads up to 1")
    status, _, body = replayed
    assert (status, "is of version 9" in json.loads(body)["problem"]) == (200, True)


@pytest.mark.parametrize(
    "path",
    ["api/traces?before=1" + "0" * 30, "api/traces?after=-1" + "0" * 30, "api/traces/%ed%a0%80", "api/traces/%ff"],
)
def test_what_no_store_can_have_is_not_there(server: str, path: str) -> None:
    status, _, body = ask(server, path)
    assert status in (200, 404)
    assert not json.loads(body).get("traces")


def test_replays_that_do_not_end_leave_threads_for_all_else(store: str) -> None:
    ended = threading.Event()

    def load() -> App:
        assert ended.wait(PATIENCE)
        raise AppError("it has no such route")

    with ThreadPoolExecutor(4) as pool:
        stuck = [pool.submit(run_replay, store, "last", load) for _ in range(4)]
        try:
            wait_for(lambda: "4 replays are under way" in said(run_replay(store, "last", raises)))
        finally:
            ended.set()
        assert all("it has no such route" in said(one.result(PATIENCE)) for one in stuck)
    assert "it is broken" in said(run_replay(store, "last", raises))


def raises() -> App:
    raise AppError("it is broken")


def said(view: ReplayView | None) -> str:
    assert view is not None
    return view.problem


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, False),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "same-site"}, False),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site", "origin": "http://{host}"}, False),
        ({"origin": "http://{host}"}, True),
        ({"origin": "https://{host}"}, True),
        ({"origin": "http://{host}.example"}, False),
        ({"origin": ""}, False),
        ({"origin": "null"}, False),
    ],
)
def test_a_replay_is_for_the_own_page_alone(server: str, headers: dict[str, str], allowed: bool) -> None:
    given = {name: value.format(host=server.split("/")[2]) for name, value in headers.items()}
    status, _, _ = ask(server, "api/traces/none/replay", "POST", **given)
    assert status == (404 if allowed else 403)
    assert ask(server, "api/traces/none/replay")[0] == 405


# What is shown


@browsing
def test_ten_thousand_are_listed_with_few_elements(server: str, page: Page) -> None:
    page.goto(server)
    page.until(SHOWN)
    assert page.until("document.getElementById('count').textContent").endswith("kept")
    assert paths(page)[0] == "GET /checkout/7"
    for _ in range(12):  # each time as far down as is known by now
        page.js("(list => { list.scrollTop = list.scrollHeight })(document.getElementById('list'))")
        page.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.js(f"{LINES}.length") < 80
    page.until("document.getElementById('rows').offsetHeight >= 2000 * 30")
    assert page.js("document.querySelectorAll('*').length") < 1_500


@browsing
def test_filters_are_in_the_address_and_an_address_filters(server: str, page: Page) -> None:
    page.goto(server)
    page.until(SHOWN)
    page.press("/")
    page.until("document.activeElement.id === 'f-text'")
    page.type("/hello/9995")
    page.until(f"{LINES}.length === 1")
    assert page.js("location.hash") == "#/requests?text=%2Fhello%2F9995"
    page.press("Escape")
    page.until("document.activeElement.id === 'list'")
    page.press("Escape")
    page.until(SHOWN)
    assert page.js("location.hash") == "#/requests"

    page.goto(f"{server}#/requests?status=5xx&why=error&slower=1")
    page.until("document.getElementById('count').textContent.endsWith('match')")
    page.until(f"{SHOWN} && [...{LINES}].every((line) => line.querySelector('.c-status').textContent === '502')")
    assert page.js("document.getElementById('f-status').value") == "5xx"
    assert page.js("document.getElementById('count').textContent") == "1\u202f000 match"


@browsing
def test_a_filter_that_means_nothing_says_so_on_the_page(server: str, browser: Browser) -> None:
    with browser.page() as page:
        page.goto(f"{server}#/requests?status=abc")
        page.until("document.getElementById('nothing').textContent.includes('status abc: give a status such as 503')")
        assert page.problems == [
            "Failed to load resource: the server responded with a status of 422 (Unprocessable Content)"
        ]


@browsing
def test_new_ones_appear_and_who_scrolled_down_stays_where_they_are(server: str, page: Page, store: str) -> None:
    page.goto(f"{server}#/requests?text=live-")
    page.until("document.getElementById('nothing').textContent.startsWith('No kept request matches')")
    write(store, *[row_of(simple(f"live-{number}", path=f"/live-{number}")) for number in range(100)])
    page.until(SHOWN)
    assert paths(page)[0] == "GET /live-99"
    page.js("document.getElementById('list').scrollTop = 30 * 50")
    page.until("document.getElementById('seq-1') === null && document.getElementById('list').scrollTop === 1500")
    write(store, row_of(simple("live-new", path="/live-new")))
    page.until("document.getElementById('list').scrollTop === 1530")
    write(store, *[row_of(simple(f"live-b{number}", path=f"/live-b{number}")) for number in range(300)])
    page.until("document.getElementById('count').textContent.endsWith('many newer ones: see the top')")
    assert page.js("document.getElementById('list').scrollTop") == 1530
    page.js("document.getElementById('list').scrollTop = 0")
    page.until("document.getElementById('count').textContent === '401 match'")
    assert paths(page)[0] == "GET /live-b299"
    page.press("l")
    page.until("document.getElementById('live').getAttribute('aria-pressed') === 'false'")


@browsing
def test_a_server_that_is_gone_is_told_of_and_found_again(tmp_path: Path, browser: Browser) -> None:
    path = str(tmp_path / "traces.db")
    env = {"STORE": path, "PYTHONPATH": HERE, "ZERVER_TRACE__ENABLED": "false"}

    def start(port: int) -> tuple[Process, int]:
        arguments = ("-m", "zerver", "serve", "console_app:app", "--port", str(port), "--schedulers", "1")
        process = Process(tmp_path, *arguments, env=env)
        return process, process.port()

    process, port = start(0)
    try:
        with browser.page() as page:
            page.goto(f"http://127.0.0.1:{port}/console/#/%")
            nothing = "document.getElementById('nothing').textContent"
            page.until(f"{nothing}.includes('No trace has been kept yet')")
            fill(path, 20)
            page.until(f"{LINES}.length === 20")
            process.kill()
            page.until("document.getElementById('count').textContent === 'the server does not answer'")
            assert page.js(f"{LINES}.length") == 20
            for name in ("traces.db", "traces.db-wal", "traces.db-shm"):
                (tmp_path / name).unlink(missing_ok=True)
            fill(path, 3)
            process, _ = start(port)
            page.until(f"{LINES}.length === 3")
            assert page.js("document.getElementById('count').textContent") == "3 kept"
    finally:
        process.kill()


@browsing
def test_a_request_is_opened_by_keys_and_shows_why(server: str, page: Page) -> None:
    page.goto(f"{server}#/requests?route=checkout")
    page.until(SHOWN)
    page.press("j", "j", "ArrowDown", "k")
    chosen = page.js("document.querySelector('#rows .active .c-id').textContent")
    active = page.js("document.getElementById('list').getAttribute('aria-activedescendant')")
    assert page.js(f"document.getElementById('{active}').getAttribute('aria-selected')") == "true"
    page.press("Enter")
    page.until("document.querySelector('#trace .waterfall')")
    assert page.js("location.hash") == f"#/requests/{chosen}"
    document = json.loads(ask(server, f"api/traces/{chosen}")[2])
    said = page.js("[...document.querySelectorAll('#trace .why li')].map((one) => one.textContent)")
    assert said == document["reasons"]
    assert "http.get (optional) was dropped by the join (all_required), after 389 ms" in said
    rows = page.js(
        "[...document.querySelectorAll('.waterfall .row .track')].map((one) => one.getAttribute('aria-label'))"
    )
    assert rows == ["; ".join(bar["tells"] for bar in row["bars"]) or row["fate"] for row in document["rows"]]
    critical = page.js("[...document.querySelectorAll('.row.critical .name')].map((one) => one.textContent)")
    assert critical == ["▸http.get2 attemptsGET http://stock.internal/levels?sku=8142"]
    widths = page.js(
        "[...document.querySelectorAll('.axis .bar')].reduce((sum, one) => sum + parseFloat(one.style.width), 0)"
    )
    assert widths == pytest.approx(100, abs=0.01)
    page.until("document.querySelectorAll('#pipeline .scrolled .writes').length === 5")
    page.press("k")
    page.until(f"location.hash.startsWith('#/requests/') && location.hash !== '#/requests/{chosen}'")
    page.press("Escape")
    page.until("document.activeElement.id === 'list'")
    assert page.js("location.hash") == "#/requests?route=checkout"


@browsing
def test_a_replay_shows_what_differs(server: str, page: Page, store: str) -> None:
    write(store, row_of(checkout("replayed")))
    page.goto(f"{server}#/requests/replayed")
    page.until("document.querySelector('#replay-button')")
    page.press("r")
    page.until("document.querySelector('.replayed.diverged .got')")
    assert "diverged at" in page.js("document.querySelector('.replayed .headline').textContent")


@browsing
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_what_a_client_sent_is_text(server: str, page: Page, store: str, size: tuple[int, int]) -> None:
    record = simple(
        "hostile", path=f"/{HOSTILE}", route=f"GET /{HOSTILE}", query=HOSTILE.encode(), body=HOSTILE.encode(),
        headers=((b"x-evil", HOSTILE.encode()), (HOSTILE.encode(), b"1")), client=HOSTILE, method=HOSTILE, status=None,
        why="error",
    )  # fmt: skip
    write(store, row_of(record, HOSTILE))
    page.look(*size)
    page.goto(f"{server}#/requests?text=onerror")
    page.until(f"{LINES}.length > 0")
    page.goto(f"{server}#/requests/hostile")
    page.until("document.querySelector('.target')?.textContent.includes('<script>')")
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    shown = page.js("document.getElementById('trace').innerText")
    assert shown.count("<img src=x onerror=alert(1)>") >= 6
    assert "\u202e" not in shown
    assert page.js("document.querySelectorAll('main script, main img').length") == 0
    assert page.js("document.title") == "hostile · Zerver"
    assert not [url for url in page.asked if not url.startswith((server, server.replace("/console/", "/console")))]
    assert fits(page)


@browsing
@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("view", ["#/requests", "#/requests/6a0000000000000010", "#/pipelines", "#/processes"])
def test_every_view_fits_wide_and_narrow_screens(server: str, page: Page, view: str, size: tuple[int, int]) -> None:
    page.look(*size)
    page.goto(f"{server}{view}")
    page.until(f"{SHOWN} || document.querySelector('.waterfall, .pictures .graph, #processes table')")
    assert fits(page)


@browsing
def test_light_and_dark_are_as_the_user_prefers(server: str, page: Page) -> None:
    page.goto(server)
    grounds = []
    for dark in (False, True):
        page.look(*WIDE, dark=dark)
        grounds.append(page.js("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(255, 255, 255)", "rgb(16, 19, 23)"]


@browsing
def test_keys_lead_everywhere_and_are_explained(server: str, page: Page) -> None:
    page.goto(server)
    page.until(SHOWN)
    page.press("2")
    page.until("document.querySelectorAll('.pictures article').length === 2")
    page.press("j")
    page.until("document.querySelectorAll('.pictures article').length === 1")
    assert page.js("location.hash") == "#/pipelines/GET%20%2Fcheckout%2F%7Bid%3Aint%7D"
    page.press("3")
    tables = "[...document.querySelectorAll('#processes h2')].map((one) => one.firstChild.textContent)"
    page.until("document.querySelectorAll('#processes table').length === 5")
    assert page.js(tables) == ["Schedulers", "Queues", "Targets", "Actors", "Dead letters"]
    page.press("?")
    page.until("document.getElementById('help').open")
    page.press("Escape")
    page.until("!document.getElementById('help').open")
    page.press("1")
    page.until(SHOWN)
