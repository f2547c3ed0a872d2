"""A small Redis under a producer twice as fast as the drain: memory bounded, classes kept.

The long form, 64 MB for two minutes, is the benchmark `redis_bounded`; this is the same in short.
"""

import pytest

from benchmarks.redis_bounded import ALLOWED_OVER, MIB, run

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SECONDS = 12.0
LIMIT_BYTES = 16 * MIB
# Redis refuses a command by what it holds before it: the entries of one trip that it has read by
# then, and as much of a reply to the drain, come on top (20.0 MiB were seen on a busy machine).
IN_FLIGHT_BYTES = 8 * MIB


def test_overload_bounds_redis_and_takes_declared_best_effort_events_only() -> None:
    found = run(seconds=SECONDS, maxmemory_bytes=LIMIT_BYTES)

    # The fault happened: what was logged and not stored would not have fit.
    assert found.unstored_bytes > LIMIT_BYTES
    assert found.produced.highest_level >= 2
    assert found.produced.most_spooled > 0
    assert found.most_memory <= LIMIT_BYTES * ALLOWED_OVER + IN_FLIGHT_BYTES

    assert found.produced.is_settled
    assert found.produced.refused == 0
    assert (found.missing["standard"], found.missing["durable"]) == (0, 0)
    assert found.missing["best_effort"] > 0
    assert found.missing["best_effort"] == found.declared
    assert found.announced == sum(found.produced.dropped.values())
    assert (found.gaps, found.duplicated) == (0, 0)
