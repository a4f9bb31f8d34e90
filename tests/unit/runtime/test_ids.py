"""Actor ids: what they hold comes out again, and what does not fit is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerver_runtime.ids import Place, actor_id, pack, place, show, unpack

NODES, SLOTS, INCARNATIONS, SERIALS = (st.integers(0, (1 << bits) - 1) for bits in (8, 12, 20, 40))


@given(NODES, SLOTS, INCARNATIONS, SERIALS)
def test_an_id_holds_its_place_and_survives_the_wire(node: int, slot: int, incarnation: int, serial: int) -> None:
    id = actor_id(node, slot, incarnation, serial)
    assert place(id) == Place(node, slot, incarnation)
    assert len(pack(id)) == 10
    assert unpack(pack(id)) == id
    assert show(id) == f"{node}.{slot}.{incarnation}.{serial}"


@pytest.mark.parametrize(
    ("parts", "named"),
    [((256, 0, 0, 0), "node"), ((0, 4096, 0, 0), "scheduler"), ((0, 0, 1 << 20, 0), "incarnation"),
     ((0, 0, 0, 1 << 40), "serial"), ((0, -1, 0, 0), "scheduler")],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_named(parts: tuple[int, int, int, int], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}="):
        actor_id(*parts)


def test_a_packed_id_has_ten_bytes() -> None:
    with pytest.raises(ValueError, match="10 bytes, not 9"):
        unpack(b"123456789")
