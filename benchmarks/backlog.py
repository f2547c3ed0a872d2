"""A backlog of believable events in Redis, to be drained by a benchmark.

Here: making the events of the demo's catalogue and putting them into the stream, quickly, with
our batch entries or one event per entry. Not here: draining (`drain_rate.py`).
"""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import redis

from audit_platform.events.redis_edge import stream_key
from audit_platform.events.stream import Appender, BatchEntry, Stamp
from audit_platform.local.traffic.catalogue import draw_request
from audit_platform.local.traffic.records import records_of, to_columns, to_json
from audit_platform.settings import Settings

SEED = 20_261_122
PER_ENTRY = 500  # what the SDK sends under load; an entry may hold 1,000
SPAN = timedelta(hours=6)


def make_events(count: int, *, seed: int = SEED) -> list[bytes]:
    """Make events in the order of their arrival, spread over the last six hours.

    Args:
        count: Number of events.
        seed: Equal seeds give equal content, at another time.
    """
    return list(islice(_events(count, random.Random(seed)), count))


def _events(count: int, rng: random.Random) -> Iterator[bytes]:
    until = datetime.now(UTC)
    step = SPAN / count
    for number in range(count):
        moment = until - SPAN + number * step
        for record in records_of(rng, draw_request(rng), moment):
            yield to_json(to_columns(record))


def put_batches(settings: Settings, events: Sequence[bytes]) -> int:
    """Append the events as stamped batch entries; returns their number of bytes."""
    epoch = random.getrandbits(62)
    entries = [
        _entry(events[start : start + PER_ENTRY], first_seq=start + 1, epoch=epoch)
        for start in range(0, len(events), PER_ENTRY)
    ]
    url = settings.redis_url.get_secret_value()
    with Appender(url, key_prefix=settings.key_prefix, timeout_ms=60_000) as appender:
        for start in range(0, len(entries), 50):
            appender.append_many(entries[start : start + 50])
    return sum(map(len, events))


def put_singles(settings: Settings, events: Sequence[bytes]) -> int:
    """Append one entry per event, as a foreign producer does; returns their number of bytes."""
    key = stream_key(settings.key_prefix, 0)
    client = redis.Redis.from_url(
        settings.redis_url.get_secret_value(), lib_name=None, lib_version=None
    )
    for start in range(0, len(events), 1_000):
        pipe = client.pipeline(transaction=False)
        for event in events[start : start + 1_000]:
            pipe.xadd(key, {"event": event})
        pipe.execute()
    client.close()
    return sum(map(len, events))


def _entry(events: Sequence[bytes], *, first_seq: int, epoch: int) -> BatchEntry:
    return BatchEntry(
        shard=0,
        ndjson=b"\n".join(events),
        count=len(events),
        received_ms=int(datetime.now(UTC).timestamp() * 1000),
        stamp=Stamp(producer_id=1, epoch=epoch, first_seq=first_seq),
    )
