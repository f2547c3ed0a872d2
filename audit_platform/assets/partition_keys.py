"""The partitions of `audit.event` as Dagster knows them, brought up to the records.

Here: the definition of the keys, and what Dagster has to be told. Not here: the assets that are
partitioned by them (`assets/partition_lifecycle.py`), what a page shows
(`assets/partition_pages.py`).
Guarantee: the record is the authority; nothing here changes it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import dagster as dg

from audit_platform.assets.partition_pages import (
    STEPS_OF_ASSET,
    partition_metadata,
    reached_assets,
)
from audit_platform.retention.holds import Hold
from audit_platform.retention.partition_table import PartitionRow

_NAME: Final = "audit_partition"
_KEYS_AT_ONCE: Final = 10_000
"""Keys of one call to Dagster: 100,000 took 6 s (Dagster design, section 5)."""

PARTITIONS: Final = dg.DynamicPartitionsDefinition(name=_NAME)
"""The nightly run adds those whose range has ended; none is ever removed."""


def show_records(
    instance: dg.DagsterInstance,
    rows: Sequence[PartitionRow],
    holds: Sequence[Hold],
    *,
    now: datetime,
) -> Iterator[dg.AssetMaterialization]:
    """Make Dagster show what the records say: new partitions, and steps it was not told of.

    A run that is killed between a step and its materialization, an import, a restore: the record
    knows, Dagster does not.

    Args:
        instance: Dagster's storage.
        rows: All records.
        holds: Active legal holds.
        now: Aware; a partition is shown when its range has ended.
    """
    ended = [row for row in rows if row.hi <= now]
    known = set(instance.get_dynamic_partitions(_NAME))
    fresh = [row.name for row in ended if row.name not in known]
    for first in range(0, len(fresh), _KEYS_AT_ONCE):
        instance.add_dynamic_partitions(_NAME, fresh[first : first + _KEYS_AT_ONCE])
    shown = {key: instance.get_materialized_partitions(dg.AssetKey(key)) for key in STEPS_OF_ASSET}
    for row in ended:
        for key in reached_assets(row):
            if row.name not in shown[key]:
                yield dg.AssetMaterialization(
                    asset_key=key, partition=row.name, metadata=partition_metadata(row, holds)
                )
