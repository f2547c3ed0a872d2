"""Merkle tree over leaf hashes, in the tree shape of RFC 6962 (pure).

Here: the root of a sequence of leaves. Not here: what a leaf covers (`integrity/leaf.py`) and
which leaves form a tree; callers decide the order.
Guarantee: the same leaves in the same order give the same root on every machine.

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
