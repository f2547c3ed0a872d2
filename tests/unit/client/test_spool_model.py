"""The spool against a list: append, rotate, crash with a cut, reopen, confirm, prune.

`AUDIT_TEST_EXAMPLES=10000` runs as many sequences.
"""

import os
from contextlib import ExitStack

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from audit_platform.client.spool import Spool
from audit_platform.client.spool_format import SpoolRecord, SpoolStream
from tests.effort import examples
from tests.unit.client.spool_files import (
    DAY_MS,
    Clock,
    memory_directory,
    open_spool,
    segment_files,
)

EPOCHS = (3, 4)
BATCHES = st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=50)), min_size=1, max_size=6)


class SpoolAgainstList(RuleBasedStateMachine):
    """`held` is the list: what the spool must give back, by epoch and number."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()
        self.directory = self.resources.enter_context(memory_directory())
        self.clock = Clock()
        self.held: dict[int, dict[int, tuple[bytes, SpoolStream, int]]] = {e: {} for e in EPOCHS}
        self.confirmed: set[tuple[int, int]] = set()
        self.torn = 0

    @initialize(segment_bytes=st.sampled_from([100, 300, 5000]))
    def start(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.spool = self.opened()

    def opened(self) -> Spool:
        return open_spool(self.directory, clock=self.clock, segment_bytes=self.segment_bytes)

    def teardown(self) -> None:
        self.spool.close()
        self.resources.close()

    def numbered(
        self, epoch: int, batch: list[tuple[int, bytes]], *, back: int = 0
    ) -> list[SpoolRecord]:
        """Give numbers with gaps; `back` begins that far below the highest, between the gaps."""
        seq, made = max(max(self.held[epoch], default=0) - back, 0), list[SpoolRecord]()
        for step, payload in batch:
            seq += step
            if seq not in self.held[epoch]:
                made.append(SpoolRecord(seq, payload))
        return made

    def note(self, epoch: int, records: list[SpoolRecord], stream: SpoolStream) -> None:
        for seq, payload in records:
            self.held[epoch][seq] = payload, stream, self.clock.now_ms

    @rule(
        epoch=st.sampled_from(EPOCHS),
        batch=BATCHES,
        stream=st.sampled_from(SpoolStream),
        back=st.sampled_from([0, 0, 4, 12]),
    )
    def append(
        self, epoch: int, batch: list[tuple[int, bytes]], stream: SpoolStream, back: int
    ) -> None:
        records = self.numbered(epoch, batch, back=back)
        self.spool.append(epoch, records, stream=stream)
        self.note(epoch, records, stream)

    @rule()
    def reopen(self) -> None:
        self.spool.close()
        self.spool = self.opened()
        assert (self.spool.torn_records, self.spool.bad_files) == (0, 0)

    @rule(
        epoch=st.sampled_from(EPOCHS),
        batch=BATCHES,
        stream=st.sampled_from(SpoolStream),
        cut=st.integers(0, 400),
        junk=st.binary(max_size=20),
    )
    def crash_while_appending(
        self,
        epoch: int,
        batch: list[tuple[int, bytes]],
        stream: SpoolStream,
        cut: int,
        junk: bytes,
    ) -> None:
        before = {path: path.stat().st_size for path in segment_files(self.directory)}
        records = self.numbered(epoch, batch)
        self.spool.append(epoch, records, stream=stream)
        (file,) = [p for p in segment_files(self.directory) if before.get(p) != p.stat().st_size]
        acknowledged_bytes = before.get(file, 0)
        length = acknowledged_bytes + cut % (file.stat().st_size - acknowledged_bytes + 1)
        self.spool.abandon_after_fork()
        whole = file.read_bytes()
        file.write_bytes(whole[:length] + junk)
        # Junk may happen to be what was cut off.
        intact = len(os.path.commonprefix([whole, file.read_bytes()]))  # noqa: RUF071 - of bytes
        for path in segment_files(self.directory):
            # The kernel's clock would be that of the process.
            os.utime(path, ns=(self.clock.now_ms * 1_000_000, self.clock.now_ms * 1_000_000))
        self.note(epoch, self.survivors(records, intact - max(acknowledged_bytes, 32)), stream)
        # Every segment counts as used now: a process that dies cannot note anything earlier.
        for held in self.held.values():
            for seq, (payload, kind, _) in held.items():
                held[seq] = payload, kind, self.clock.now_ms
        self.spool = self.opened()

    @staticmethod
    def survivors(records: list[SpoolRecord], room: int) -> list[SpoolRecord]:
        """Give the records that lie wholly within some bytes."""
        kept: list[SpoolRecord] = []
        for record in records:
            room -= 16 + len(record.payload)
            if room < 0:
                break
            kept.append(record)
        return kept

    @rule(epoch=st.sampled_from(EPOCHS), data=st.data())
    def confirm(self, epoch: int, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, 60))
        last = first + data.draw(st.integers(0, 60))
        self.confirmed |= {(epoch, seq) for seq in range(first, last + 1)}

    @rule()
    def confirm_all(self) -> None:
        self.confirmed |= {(epoch, seq) for epoch, held in self.held.items() for seq in held}

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.clock.now_ms += hours * DAY_MS // 24

    @rule()
    def prune(self) -> None:
        before = self.spool.size_bytes
        freed = self.spool.prune(self.is_confirmed)
        assert freed == before - self.spool.size_bytes
        for epoch, held in self.held.items():
            left = {s for first, last in self.spool.ranges(epoch) for s in range(first, last + 1)}
            assert left <= set(held)
            for seq in sorted(set(held) - left):
                _, stream, used_ms = held.pop(seq)
                assert (epoch, seq) in self.confirmed
                assert stream is SpoolStream.SPILL or used_ms < self.clock.now_ms - DAY_MS

    @precondition(lambda self: any(self.held.values()))
    @rule()
    def prune_when_all_is_confirmed_and_old(self) -> None:
        self.confirm_all()
        self.clock.now_ms += DAY_MS + 1
        self.prune()
        assert not any(self.held.values())
        assert [path for path in self.directory.iterdir() if path.suffix != ".bad"] == []

    def is_confirmed(self, epoch: int, first: int, last: int) -> bool:
        return all((epoch, seq) in self.confirmed for seq in range(first, last + 1))

    @rule(
        epoch=st.sampled_from(EPOCHS),
        first=st.integers(0, 80),
        length=st.integers(0, 80),
        limit=st.integers(1, 9),
        max_bytes=st.integers(1, 200),
    )
    def read_a_part(self, epoch: int, first: int, length: int, limit: int, max_bytes: int) -> None:
        wanted, size = list[SpoolRecord](), 0
        for seq in sorted(self.held[epoch]):
            if first <= seq <= first + length and len(wanted) < limit:
                payload = self.held[epoch][seq][0]
                size += len(payload)
                if wanted and size > max_bytes:
                    break
                wanted.append(SpoolRecord(seq, payload))
        assert wanted == self.spool.read(
            epoch, first, first + length, max_records=limit, max_bytes=max_bytes
        )

    @invariant()
    def holds_exactly_the_list(self) -> None:
        if not hasattr(self, "spool"):
            return
        assert self.spool.epochs() == [epoch for epoch in EPOCHS if self.held[epoch]]
        for epoch, held in self.held.items():
            found = self.spool.read(epoch, 0, 1 << 62)
            assert found == [SpoolRecord(seq, held[seq][0]) for seq in sorted(held)]
            assert self.spool.ranges(epoch) == _ranges(held)
        sizes = [path.stat().st_size for path in segment_files(self.directory)]
        assert self.spool.size_bytes == sum(sizes)


def _ranges(seqs: dict[int, tuple[bytes, SpoolStream, int]]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for seq in sorted(seqs):
        if ranges and ranges[-1][1] == seq - 1:
            ranges[-1] = ranges[-1][0], seq
        else:
            ranges.append((seq, seq))
    return ranges


TestSpoolAgainstList = SpoolAgainstList.TestCase
TestSpoolAgainstList.settings = settings(
    max_examples=examples(200),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
