"""The tree shape equals the recursive definition of RFC 6962, section 2.1."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_platform.integrity.merkle import RootBuilder, merkle_root


def _leaf(number: int) -> bytes:
    return hashlib.sha256(b"\x00" + str(number).encode()).digest()


def _root_by_definition(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = _root_by_definition(leaves[:split]), _root_by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 100, 1_000])
def test_root_follows_the_recursive_definition(count: int) -> None:
    leaves = [_leaf(number) for number in range(count)]

    root = merkle_root(leaves)

    assert root == _root_by_definition(leaves)


def test_root_changes_with_any_leaf_and_with_the_order() -> None:
    leaves = [_leaf(number) for number in range(6)]

    roots = {
        merkle_root(leaves),
        merkle_root(leaves[::-1]),
        merkle_root(leaves[:-1]),
        merkle_root([*leaves[:-1], _leaf(99)]),
    }

    assert len(roots) == 4


@given(count=st.integers(0, 600), asked_after=st.integers(0, 600))
def test_leaves_one_by_one_give_the_same_root_at_any_moment(count: int, asked_after: int) -> None:
    leaves = [_leaf(number) for number in range(count)]
    builder = RootBuilder()
    seen: list[bytes] = []

    for number, leaf in enumerate(leaves):
        if number == asked_after:
            seen.append(builder.root())
        builder.add(leaf)

    assert builder.n == count
    assert builder.root() == merkle_root(leaves)
    assert seen in ([], [merkle_root(leaves[:asked_after])])


def test_builder_keeps_few_nodes_of_many_leaves() -> None:
    builder = RootBuilder()

    for number in range(5_000):
        builder.add(_leaf(number))
        assert len(builder._subtrees) == (number + 1).bit_count()
