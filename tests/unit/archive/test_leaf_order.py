"""Leaves in canonical order: the same as sorting them all, with little in memory."""

import hashlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from audit_platform.archive.leaf_order import LeafOrder, OrderedLeaf
from audit_platform.archive.leaf_sums import GroupNumbers, sum_up
from audit_platform.integrity.merkle import merkle_root

_LEAF = st.tuples(
    # Few ids, so that equal ones meet and the leaf decides.
    st.integers(0, 40).map(lambda number: number.to_bytes(16)),
    st.integers(0, 5).map(lambda number: hashlib.sha256(bytes([number])).digest()),
    st.integers(0, 300),
)


def _ordered(batches: list[list[OrderedLeaf]], *, run_leaves: int) -> list[OrderedLeaf]:
    with LeafOrder(run_leaves=run_leaves) as order:
        for batch in batches:
            order.add(*([leaf[part] for leaf in batch] for part in range(3)))  # pyright: ignore[reportArgumentType]
        return [leaf for block in order.blocks() for leaf in block]


@given(st.lists(st.lists(_LEAF, max_size=30), max_size=20), st.sampled_from([1, 7, 64, 10_000]))
def test_order_is_that_of_a_sort(batches: list[list[OrderedLeaf]], run_leaves: int) -> None:
    everything = sorted(leaf for batch in batches for leaf in batch)

    assert _ordered(batches, run_leaves=run_leaves) == everything


def test_many_runs_are_merged_block_by_block() -> None:
    leaves = [
        (hashlib.sha256(b"%d" % number).digest()[:16], bytes(32), number % 9)
        for number in range(60_000)
    ]

    found = _ordered(
        [leaves[start : start + 500] for start in range(0, 60_000, 500)], run_leaves=20_000
    )

    assert found == sorted(leaves)


def test_temporary_file_has_no_name(tmp_path: Path) -> None:
    """A killed process leaves nothing behind."""
    with LeafOrder(directory=tmp_path, run_leaves=1) as order:
        order.add([bytes(16)], [bytes(32)], [0])

        assert list(tmp_path.iterdir()) == []


def test_sums_are_those_of_the_definition() -> None:
    numbers = GroupNumbers()
    tenants = ["b", "a", "b", "a", "b"]
    groups = numbers.numbers_of(tenants, "standard")
    ids = [number.to_bytes(16) for number in (4, 1, 3, 0, 2)]
    leaves = [hashlib.sha256(one).digest() for one in ids]

    with LeafOrder() as order:
        order.add(ids, leaves, groups)
        sums = sum_up(order.blocks(), numbers.keys)

    by_id = [leaf for _, leaf in sorted(zip(ids, leaves, strict=True))]
    assert sums.leaf_digest == hashlib.sha256(b"".join(by_id)).digest()
    assert [(one.tenant_id, one.n) for one in sums.groups] == [("a", 2), ("b", 3)]
    assert sums.groups[1].root == merkle_root([by_id[number] for number in (2, 3, 4)])
    assert (sums.n, sums.duplicate_count) == (5, 0)
    assert sums.min_id is not None
    assert sums.max_id is not None
    assert (sums.min_id.int, sums.max_id.int) == (0, 4)


def test_no_leaves_have_sums_too() -> None:
    with LeafOrder() as order:
        sums = sum_up(order.blocks(), [])

    assert (sums.n, sums.min_id, sums.groups) == (0, None, ())
    assert sums.leaf_digest == hashlib.sha256().digest()
