"""Which names the admin address answers to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver.admin.guard import allowed_host


@pytest.mark.parametrize(
    ("host", "names", "allowed"),
    [
        ("localhost", (), True),
        ("LocalHost:9180", (), True),
        ("127.0.0.1:9180", (), True),
        ("127.1.2.3", (), True),
        ("[::1]:9180", (), True),
        ("admin.internal:9180", ("admin.internal",), True),
        ("ADMIN.internal", ("admin.internal",), True),
        ("10.0.0.5:9180", ("10.0.0.5",), True),
        ("10.0.0.5:9180", ("0.0.0.0",), True),
        ("[2001:db8::1]:9180", ("::",), True),
        ("", (), False),
        ("evil.example", (), False),
        ("evil.example:9180", ("0.0.0.0",), False),
        ("10.0.0.5:9180", (), False),
        ("10.0.0.5:9180", ("10.0.0.6",), False),
        ("localhost.evil.example", (), False),
        ("127.0.0.1.evil.example", (), False),
        ("evil.example#localhost", (), False),
        ("evil.example@localhost.example", (), False),
        ("127.0.0.1, evil.example", (), False),
        ("0x7f.1", (), False),
        ("2130706433", (), False),
        ("[::1", (), False),
        ("[::ffff:10.0.0.5]", (), False),
    ],
)
def test_a_host_is_answered_that_means_this_address_whatever_a_name_server_says(
    host: str, names: tuple[str, ...], allowed: bool
) -> None:
    assert allowed_host(host, names) is allowed


@given(st.text(max_size=20))
def test_no_header_is_too_odd_to_be_looked_at(host: str) -> None:
    assert allowed_host(host) in (True, False)
