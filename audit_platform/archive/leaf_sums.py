"""Digest, roots and counts of a partition from its leaves in canonical order.

Here: the flat digest, the group roots, the ids, and ids that one tenant has twice. Not here: the
order (`archive/leaf_order.py`), the tree (`integrity/merkle.py`), what is compared with what
(`archive/verify.py`).
Guarantee: one pass; memory grows with the number of groups and the logarithm of their rows.

Source: security design, section 6; the seal does the same from the table (`retention/seal.py`).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from audit_platform.archive.leaf_order import OrderedLeaf
from audit_platform.archive.manifest import Group
from audit_platform.integrity.merkle import RootBuilder

NAMED_DUPLICATES: Final = 20


class GroupNumbers:
    """Gives each pair of tenant and retention class a number, in order of appearance."""

    def __init__(self) -> None:
        """Start without any."""
        self._numbers: dict[tuple[str, str], int] = {}

    def numbers_of(self, tenants: Iterable[str], retention_class: str) -> list[int]:
        """Number of each row's group; rows of one file share the class."""
        numbers = self._numbers
        return [numbers.setdefault((tenant, retention_class), len(numbers)) for tenant in tenants]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """Tenant and class by number."""
        return list(self._numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafSums:
    """What the leaves of a partition come to.

    Attributes:
        n: Leaves.
        min_id: None without leaves.
        max_id: None without leaves.
        leaf_digest: SHA-256 over the leaves in canonical order.
        groups: In the order of (tenant, class), by bytes.
        duplicates: Ids that one tenant has more than once; the first `NAMED_DUPLICATES` are named.
        duplicate_count: How many such rows there are beyond the first of each id.
    """

    n: int
    min_id: UUID | None
    max_id: UUID | None
    leaf_digest: bytes
    groups: tuple[Group, ...]
    duplicates: tuple[UUID, ...]
    duplicate_count: int


def sum_up(blocks: Iterable[list[OrderedLeaf]], keys: Sequence[tuple[str, str]]) -> LeafSums:
    """Go through the leaves once.

    Args:
        blocks: In canonical order.
        keys: Tenant and class of each group number.
    """
    digest = hashlib.sha256()
    builders = [RootBuilder() for _ in keys]
    counts = [0] * len(keys)
    first_id = last_id = b""
    # Groups that have the present id already; the same id in another tenant is another event.
    same_id: set[str] = set()
    duplicates: list[bytes] = []
    duplicate_count = n = 0
    for block in blocks:
        digest.update(b"".join([leaf for _, leaf, _ in block]))
        for event_id, leaf, group in block:
            builders[group].add(leaf)
            counts[group] += 1
            tenant = keys[group][0]
            if event_id != last_id:
                last_id = event_id
                same_id = {tenant}
            elif tenant in same_id:
                duplicate_count += 1
                if len(duplicates) < NAMED_DUPLICATES:
                    duplicates.append(event_id)
            else:
                same_id.add(tenant)
        first_id = first_id or block[0][0]
        n += len(block)
    found = [
        Group(tenant_id=tenant, retention_class=name, n=count, root=builder.root())
        for (tenant, name), count, builder in zip(keys, counts, builders, strict=True)
    ]
    found.sort(key=lambda group: (group.tenant_id.encode(), group.retention_class.encode()))
    return LeafSums(
        n=n,
        min_id=UUID(bytes=first_id) if n else None,
        max_id=UUID(bytes=last_id) if n else None,
        leaf_digest=digest.digest(),
        groups=tuple(found),
        duplicates=tuple(UUID(bytes=one) for one in duplicates),
        duplicate_count=duplicate_count,
    )
