"""Who the client is, and how it came: a table of what proxies and others write."""

from __future__ import annotations

import pytest

from zerver.server.client_address import ClientAddress

PROXY, OTHER, CLIENT = "10.0.0.1", "10.0.0.2", "203.0.113.7"

CASES = [
    # trusted, peer, X-Forwarded-For (one line each), the client
    ((), PROXY, [CLIENT], PROXY),
    ((), PROXY, [], PROXY),
    ((), "", [CLIENT], ""),
    ([PROXY], PROXY, [], PROXY),
    ([PROXY], PROXY, [CLIENT], CLIENT),
    ([PROXY], OTHER, [CLIENT], OTHER),  # it is no proxy of ours
    (["10.0.0.0/8"], PROXY, [CLIENT], CLIENT),
    (["10.0.0.0/8"], "11.0.0.1", [CLIENT], "11.0.0.1"),
    # Chains: what is before the first address that is not trusted, anybody may have written.
    (["10.0.0.0/8"], PROXY, [f"{CLIENT}, {OTHER}"], CLIENT),
    (["10.0.0.0/8"], PROXY, [f"1.1.1.1, {CLIENT}, {OTHER}"], CLIENT),
    (["10.0.0.0/8"], PROXY, [f"{PROXY}, {CLIENT}"], CLIENT),
    (["10.0.0.0/8"], PROXY, ["1.1.1.1", CLIENT], CLIENT),
    (["10.0.0.0/8"], PROXY, [CLIENT, OTHER], CLIENT),
    ([PROXY], PROXY, [f"{CLIENT},{OTHER}"], OTHER),
    (["10.0.0.0/8"], PROXY, [f"{OTHER}, 10.0.0.3"], OTHER),  # all trusted: the first
    # Garbage ends the chain: the last address that was sound counts.
    (["10.0.0.0/8"], PROXY, [""], PROXY),
    (["10.0.0.0/8"], PROXY, ["unknown"], PROXY),
    (["10.0.0.0/8"], PROXY, [f"{CLIENT}, "], PROXY),
    (["10.0.0.0/8"], PROXY, [f"{CLIENT}, nonsense, {OTHER}"], OTHER),
    (["10.0.0.0/8"], PROXY, ["256.1.1.1"], PROXY),
    (["10.0.0.0/8"], PROXY, ["1.1.1.1.1"], PROXY),
    (["10.0.0.0/8"], PROXY, ["01.1.1.1"], PROXY),
    (["10.0.0.0/8"], PROXY, ["1.1"], PROXY),
    (["10.0.0.0/8"], PROXY, ["16843009"], PROXY),
    (["10.0.0.0/8"], PROXY, ["\xe4"], PROXY),
    (["10.0.0.0/8"], PROXY, ["\u0661.1.1.1".encode().decode("latin-1")], PROXY),
    (["10.0.0.0/8"], PROXY, ['"1.1.1.1"'], PROXY),
    (["10.0.0.0/8"], PROXY, ["," * 1000], PROXY),
    # Ports
    ([PROXY], PROXY, [f"{CLIENT}:4711"], CLIENT),
    ([PROXY], PROXY, [f"{CLIENT}:"], CLIENT),
    ([PROXY], PROXY, ["[2001:db8::7]:4711"], "2001:db8::7"),
    ([PROXY], PROXY, ["[2001:db8::7]"], "2001:db8::7"),
    # Version 6
    ([PROXY], PROXY, ["2001:db8::7"], "2001:db8::7"),
    ([PROXY], PROXY, ["2001:DB8:0:0::7"], "2001:db8::7"),
    (["2001:db8::/32"], "2001:db8::1", [CLIENT], CLIENT),
    (["2001:db8::/32"], PROXY, [CLIENT], PROXY),
    (["::1"], "::1", ["2001:db8::7"], "2001:db8::7"),
    (["fe80::/10"], "fe80::1%eth0", [CLIENT], CLIENT),
    ([PROXY], PROXY, ["fe80::7%x status=200"], "fe80::7"),  # a zone may be any text
    # A socket for both versions
    ([PROXY], f"::ffff:{PROXY}", [CLIENT], CLIENT),
    (["10.0.0.0/8"], PROXY, [f"{CLIENT}, ::ffff:{OTHER}"], CLIENT),
    ([PROXY], PROXY, [f"::ffff:{CLIENT}"], CLIENT),
    # Unix sockets
    (["unix"], "", [CLIENT], CLIENT),
    (["unix"], "", [], ""),
    (["unix"], PROXY, [CLIENT], PROXY),
    ([PROXY], "", [CLIENT], ""),
    (["unix", PROXY], "", [f"{CLIENT}, {PROXY}"], CLIENT),
]


@pytest.mark.parametrize(("trusted", "peer", "lines", "client"), CASES)
def test_the_client_is_the_last_address_that_a_trusted_proxy_has_seen(
    trusted: list[str], peer: str, lines: list[str], client: str
) -> None:
    headers = [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]
    noise = [(b"x-real-ip", b"9.9.9.9"), (b"forwarded", b"for=9.9.9.9"), (b"host", b"h")]
    assert ClientAddress(trusted).of(peer, [*noise, *headers]) == client


@pytest.mark.parametrize(
    ("trusted", "peer", "lines", "scheme"),
    [
        ((), PROXY, ["https"], "http"),
        ([PROXY], OTHER, ["https"], "http"),
        ([PROXY], PROXY, [], "http"),
        ([PROXY], PROXY, ["https"], "https"),
        ([PROXY], PROXY, [" HTTPS "], "https"),
        ([PROXY], PROXY, ["https, http"], "http"),
        ([PROXY], PROXY, ["http", "https"], "https"),
        ([PROXY], PROXY, ["javascript"], "http"),
        ([PROXY], PROXY, ["", ""], "http"),
        (["unix"], "", ["https"], "https"),
    ],
)
def test_the_scheme_is_what_the_last_trusted_proxy_says(
    trusted: list[str], peer: str, lines: list[str], scheme: str
) -> None:
    headers = [(b"x-forwarded-proto", line.encode("latin-1")) for line in lines]
    assert ClientAddress(trusted).scheme(peer, headers, "http") == scheme


@pytest.mark.parametrize("name", ["", "proxy", "10.0.0.1/33", "10.0.0.1/8", "10.0.0", "::1/129", "*"])
def test_what_is_no_address_and_no_network_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ClientAddress([name])
