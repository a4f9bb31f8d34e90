"""The checkout example: what a client gets and what the trace says when an upstream is slow, fails or hangs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from checkout_kit import DEADLINE, SERVICES, Shop
from serve_kit import wait_for

from examples.checkout.app import app

AT_ONCE = 4  # checkouts


@pytest.fixture(scope="module", params=["reactor", "blocking"])
def driven_by(request: pytest.FixtureRequest) -> str:
    """The engine; for a whole module, as starting two processes for each test takes long."""
    return str(request.param)


@pytest.fixture(scope="module")
def running(driven_by: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One for all tests: breakers that never open keep them apart."""
    shop = Shop(tmp_path_factory.mktemp(driven_by), driven_by, {"failures": 1_000_000})
    try:
        yield shop
        assert shop.stop() == 0
        wait_for(lambda: all(shop.told()[name]["connections"] == 0 for name in SERVICES))
    finally:
        shop.kill()


@pytest.fixture
def shop(running: Shop) -> Iterator[Shop]:
    running.behave()
    running.fill()
    yield running
    # Those that are kept for the next request, and no more than ever were in use at once: none is leaked.
    wait_for(lambda: max(running.told()[name]["connections"] for name in SERVICES) <= AT_ONCE)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Another one in each test."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name)


class Fault(NamedTuple):
    """What is wrong with one upstream; what the client gets; what the trace says, on both engines."""

    service: str
    fault: dict[str, float]
    status: int
    detail: str = ""
    says: tuple[str, ...] = ()
    charged: bool = True
    asked: int = 1
    """How often the payment service was asked."""


RETRIED = r"attempt 1 failed after (2[5-9]|[3-9]\d)\d ms \(TIMEOUT: [^)]*\); tried again "
FAULTS = [
    # An optional one never costs the client its order. Its trace is another one on each engine: see below.
    Fault("suggestions", {"slow": 0.2}, 201),
    Fault("suggestions", {"fail": 1}, 201),
    Fault("suggestions", {"hang": 1}, 201),
    *[
        fault
        for service, slot, path in (("inventory", "Stock", "stock"), ("pricing", "Prices", "prices"))
        for name in [f"http.get into {slot}"]
        for where in [rf"GET http://127.0.0.1:\d+/{path}\?sku=cup&sku=tea"]
        for fault in (
            Fault(service, {"slow": 0.1}, 201),
            Fault(
                service, {"slow": 0.4}, 504, rf"{name}: no result within 0.25 s",
                (
                    rf"answered 504 TIMEOUT: {name}: no result within 0.25 s, as step ask_upstreams requires {name}",
                    rf"2 attempts, failed: {where}",
                    rf"{name}: {RETRIED}",
                    rf"{name}: attempt 2 of {where} failed for good after (2[5-9]|[3-9]\d)\d ms: TIMEOUT",
                ),
                charged=False, asked=0,
            ),
            Fault(service, {"fail": 1}, 201, says=(rf"{name}: attempt 2 of {where} succeeded after ",)),
            Fault(
                service, {"fail": 2}, 502, f"{name}: the upstream answered 503",
                (rf"{name}: attempt 2 of {where} failed for good after .* the upstream answered 503",),
                charged=False, asked=0,
            ),
            Fault(
                service, {"hang": 1}, 201,
                says=(rf"{name}: {RETRIED}", rf"{name}: attempt 2 of {where} succeeded after [3-9]\d[. ]"),
            ),
            Fault(
                service, {"hang": 2}, 504, f"{name}: no result within 0.25 s",
                (rf"{name}: {RETRIED}",), charged=False, asked=0,
            ),
        )
    ],
    Fault("payment", {"slow": 0.2}, 201, says=(r"http.post into Paid took [2-9]\d\d ms",)),
    Fault(
        "payment", {"fail": 2}, 201, asked=1,
        says=(
            r"http.post into Paid: attempt 2 failed after .* the upstream answered 503\); tried again ",
            r"http.post into Paid: attempt 3 of POST http://127.0.0.1:\d+/charges succeeded after ",
        ),
    ),
    Fault("payment", {"fail": 3}, 502, "http.post into Paid: the upstream answered 503", charged=False, asked=0),
    Fault(
        "payment", {"hang": 1}, 201, asked=2,
        says=(
            r"http.post into Paid: attempt 1 failed after [5-9]\d\d ms \(TIMEOUT",
            r"http.post into Paid: attempt 2 of POST http://127.0.0.1:\d+/charges succeeded after ",
        ),
    ),
    Fault(
        "payment", {"hang": 3}, 504, "http.post into Paid: no result within 0.5 s", asked=3,
        says=(r"3 attempts, failed: POST", r"answered 504 TIMEOUT: .*, as step pay requires http.post into Paid"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "fault", FAULTS, ids=lambda fault: f"{fault.service}-{'-'.join(f'{k}-{v}' for k, v in fault.fault.items())}"
)
def test_a_fault_gets_its_declared_answer_in_time_and_the_trace_says_why(shop: Shop, key: str, fault: Fault) -> None:
    shop.behave(**{fault.service: fault.fault})
    begun = time.monotonic()
    got = shop.checkout(key, x_zerver_trace="1")
    assert time.monotonic() - begun < DEADLINE
    assert got.status == fault.status, got.body
    if fault.status == 201:
        assert got.body["order"]["cents"] == 2100
    else:
        assert got.body["detail"] == fault.detail
        assert got.body["request_id"] == got.id
    page = shop.trace(got.id)
    for words in fault.says:
        assert re.search(words, page), f"no {words!r} in: {page}"
    charge = shop.charged(key)
    assert (charge is not None) == fault.charged
    assert charge is None or charge["asked"] == fault.asked
    if fault.status != 201:  # the client tries again, with the same key, when all is well: charged once
        shop.behave()
        again = shop.checkout(key)
        assert again.status == 201, again.body
        assert shop.charged(key)["asked"] == fault.asked + 1
        assert shop.charged(key)["id"] == again.body["order"]["charge"]


def test_all_is_well(shop: Shop, key: str) -> None:
    got = shop.checkout(key)
    assert got.status == 201
    assert got.body["order"]["cents"] == 2100
    assert got.body["suggested"] == ["kettle"]
    number = got.body["order"]["number"]
    receipt = shop.folder / f"var/files/receipts/{number}.txt"
    wait_for(receipt.exists)
    assert receipt.read_text() == f"Ada, order {number}: 21.00\n"


def test_the_same_key_again_gives_the_same_order_and_asks_nobody(shop: Shop, key: str) -> None:
    first = shop.checkout(key)
    before = shop.told()
    again = shop.checkout(key)
    assert (first.status, again.status) == (201, 200)
    assert again.body == {"order": first.body["order"], "suggested": []}
    assert shop.told() == before


def test_several_at_once_with_one_key_are_charged_once_whatever_fails(shop: Shop, key: str) -> None:
    """No more faults than any of them has attempts left, whoever meets them."""
    shop.behave(inventory={"hang": 1}, pricing={"fail": 1}, payment={"slow": 0.1, "hang": 1, "fail": 1})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: shop.checkout(key), range(AT_ONCE)))
    assert {got.status for got in answers} <= {200, 201}, answers
    assert len({got.body["order"]["number"] for got in answers}) == 1
    assert sum(key in one for one in shop.told()["charges"]) == 1


def test_who_suggests_is_dropped_as_soon_as_the_others_are_there(shop: Shop, key: str, driven_by: str) -> None:
    """Blocking, it is asked first, and costs its time-out at most; it is no more required than on the reactor."""
    shop.behave(suggestions={"hang": 1})
    got = shop.checkout(key, x_zerver_trace="1")
    assert (got.status, got.body["suggested"]) == (201, [])
    page = shop.trace(got.id)
    why = {
        "reactor": r"http.get into Suggested \(optional\) was dropped by the join \(all_required\), after [3-9]\d",
        "blocking": r"http.get into Suggested \(optional\) failed after 5\d\d ms: TIMEOUT: .*: no result within 0.5 s",
    }[driven_by]
    assert re.search(why, page), page


def test_a_receipt_that_cannot_be_written_costs_nothing(shop: Shop, key: str) -> None:
    assert shop.checkout(f"{key}-first").status == 201
    folder = shop.folder / "var/files/receipts"
    wait_for(lambda: len(list(folder.glob("*.txt"))) > 0)
    folder.rename(folder.with_name("aside"))
    folder.write_text("a file")
    try:
        shop.fill()
        assert shop.checkout(key).status == 201
    finally:
        folder.unlink()
        folder.with_name("aside").rename(folder)


@pytest.mark.parametrize(
    ("cart", "headers", "key", "status", "detail"),
    [
        ([{"sku": "tea", "quantity": 1}], {"x_api_key": ""}, "k", 401, "give your key in the header x-api-key"),
        ([{"sku": "tea", "quantity": 1}], {"x_api_key": "eve"}, "k", 401, "this key is not known"),
        ([{"sku": "tea", "quantity": 1}], {}, None, 400, "name your order in the header Idempotency-Key"),
        ([], {}, "k", 409, "the cart is empty; fill it with PUT /cart"),
        ([{"sku": "kettle", "quantity": 3}], {}, "k", 409, "of kettle there are 2 left"),
        ([{"sku": "anvil", "quantity": 1}], {}, "k", 409, "of anvil there are 0 left"),
    ],
)
def test_what_cannot_be_bought_is_not_charged(
    shop: Shop, cart: Any, headers: dict[str, str], key: str | None, status: int, detail: str
) -> None:
    shop.fill(cart)
    before = shop.told()["charges"]
    got = shop.checkout(key, **headers)
    assert got.status == status
    assert got.body["detail"].startswith(detail)
    assert shop.told()["charges"] == before


@pytest.mark.parametrize("driven_by", ["reactor"], indirect=True)
def test_with_one_upstream_timing_out_once_the_terminal_tells_all_of_it(shop: Shop, key: str) -> None:
    """Which upstream it was, that it was retried, how long each attempt and each queue took, and what was dropped."""
    shop.behave(inventory={"hang": 1}, suggestions={"slow": 1})
    got = shop.checkout(key)
    assert (got.status, got.body["suggested"]) == (201, [])
    shop.trace(got.id)  # is kept: it was slow
    code, shown = shop.run("zerver", "trace", "show", got.id)
    assert code == 0, shown
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(shown.split())
    for words in (
        r"^201 POST /checkout ",
        r"; kept as slow; reactor engine",
        r"queued \S+ .s before its first step, \S+ .s for places, \S+ .s for its turn",
        r"> http.get into Stock x+-?-?▓+ 2\d\d ms 2 attempts: GET http://127.0.0.1:\d+/stock\?sku=cup&sku=tea",
        r"\* http.get into Stock took 2\d\d ms, \d\d % of the request",
        r"http.get into Stock: attempt 1 failed after (2[5-9]|[3-9]\d)\d ms \(TIMEOUT: .* no result within 0.25 s\); "
        r"tried again \S+ .s later",
        r"http.get into Stock: attempt 2 of GET http://127.0.0.1:\d+/stock\?sku=cup&sku=tea succeeded after \S+ ms",
        r"http.get into Suggested \(optional\) was dropped by the join \(all_required\), after 2\d\d ms",
    ):
        assert re.search(words, text), f"no {words!r} in:\n{shown}"


def test_that_request_is_run_again_offline_and_becomes_a_test(shop: Shop, key: str) -> None:
    shop.behave(inventory={"hang": 1}, suggestions={"slow": 0.4})
    got = shop.checkout(key)
    shop.trace(got.id)
    shop.behave()
    before = shop.told()
    saved = ("--app", "examples.checkout.app:app", "--save-test", got.id, f"test_{got.id}.py")
    code, said = shop.run("zerver", "replay", *saved)
    assert code == 0, said
    assert "POST /checkout: identical: 201, 9 effects in 10 steps\n" in said
    assert "x-api-key, which is redacted\n" in said
    test = ("pytest", "-q", "-p", "no:cacheprovider", f"test_{got.id}.py")
    code, said = shop.run(*test)
    assert code == 0, said
    code, said = shop.run(*test, CHECKOUT_PRICING="http://127.0.0.1:1")  # the app is not what it was
    assert code == 1, said
    assert "diverged at step ask_upstreams" in said
    told = shop.told()
    assert {name: told[name]["requests"] for name in SERVICES} == {name: before[name]["requests"] for name in SERVICES}


def test_the_breaker_opens_leaves_a_failing_upstream_alone_and_closes(tmp_path_factory: pytest.TempPathFactory) -> None:
    shop = Shop(tmp_path_factory.mktemp("breaker"), "reactor", {"cooldown": 0.5})
    try:
        shop.fill()
        shop.behave(inventory={"fail": 1_000_000})
        second = [shop.checkout("broken") for _ in range(2)][1]
        assert shop.told()["inventory"]["requests"] == 4
        got = shop.checkout("broken")
        assert (got.status, shop.told()["inventory"]["requests"]) == (502, 4), "it is left alone"
        assert got.retry_after == "1", "half a second, rounded up"
        assert got.body["detail"] == "http.get into Stock: left alone for now, because it failed too often"
        assert re.search(r"http.get into Stock: the breaker of \S+ went from closed to open", shop.trace(second.id))
        assert "http.get into Stock was not tried: UPSTREAM_UNAVAILABLE" in shop.trace(got.id)
        assert shop.charged("broken") is None

        shop.behave()
        answers = []

        def well() -> bool:
            answers.append(shop.checkout("broken", x_zerver_trace="1"))
            return answers[-1].status == 201

        wait_for(well)
        page = shop.trace(answers[-1].id)
        for before, after in (("open", "half-open"), ("half-open", "closed")):
            assert re.search(rf"the breaker of \S+ went from {before} to {after}", page), page
        assert shop.stop() == 0
    finally:
        shop.kill()


def test_it_has_no_findings() -> None:
    assert app.check().errors == ()
    assert app.check().warnings == ()
