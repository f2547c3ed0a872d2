"""Merkle tree over leaf hashes, in the tree shape of RFC 6962 (pure).

Here: the root of a sequence of leaves, all at once or one by one. Not here: what a leaf covers
(`integrity/leaf.py`) and which leaves form a tree; callers decide the order.
Guarantee: the same leaves in the same order give the same root on every machine, either way.

Source: RFC 6962, section 2.1. Leaves arrive hashed, with the prefix 0x00 already inside.
"""

import hashlib
from collections.abc import Sequence

NODE_PREFIX = b"\x01"


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Combine leaf hashes into one root.

    Args:
        leaves: 32 bytes each, in tree order; may be empty.

    Returns:
        32 bytes; SHA-256 of nothing for an empty sequence, the leaf itself for a single one.
    """
    if not leaves:
        return hashlib.sha256().digest()
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def _parents(level: list[bytes]) -> list[bytes]:
    # A last node without a partner moves up unchanged. Level by level this gives the split of
    # RFC 6962 at the largest power of two, without its recursion.
    sha256 = hashlib.sha256
    pairs = zip(level[::2], level[1::2], strict=False)
    parents = [sha256(NODE_PREFIX + left + right).digest() for left, right in pairs]
    if len(level) % 2:
        parents.append(level[-1])
    return parents


class RootBuilder:
    """Root of leaves that come one by one: memory grows with the logarithm of their number.

    It keeps the roots of the complete subtrees on the left, largest first: as many as the count
    of leaves has ones in binary. RFC 6962 splits at the largest power of two, so that the rest of
    the tree is what these fold to from the right.
    """

    __slots__ = ("_n", "_subtrees")

    def __init__(self) -> None:
        """Start empty."""
        self._n = 0
        self._subtrees: list[bytes] = []

    @property
    def n(self) -> int:
        """Leaves taken so far."""
        return self._n

    def add(self, leaf: bytes) -> None:
        """Take the next leaf, 32 bytes."""
        subtrees, node, n = self._subtrees, leaf, self._n
        while n & 1:  # a subtree of this size is complete: its twin was the last one kept
            node = hashlib.sha256(NODE_PREFIX + subtrees.pop() + node).digest()
            n >>= 1
        subtrees.append(node)
        self._n += 1

    def root(self) -> bytes:
        """Root of the leaves taken so far, as `merkle_root` gives it; more may follow."""
        if not self._subtrees:
            return hashlib.sha256().digest()
        node = self._subtrees[-1]
        for left in reversed(self._subtrees[:-1]):
            node = hashlib.sha256(NODE_PREFIX + left + node).digest()
        return node
