"""The buffer is bounded, sheds `best_effort` first, and its numbers and counts add up."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_platform.client.buffer import Buffer, Wake
from audit_platform.client.lane import Run
from audit_platform.client.stats import DropReason
from audit_platform.events.policy import PRESETS, BatchPolicy, Durability
from audit_platform.settings import BatchPreset

STANDARD, BEST_EFFORT = Durability.STANDARD, Durability.BEST_EFFORT
ONCE = BatchPolicy(size=1, interval_s=0.001)


def make_buffer(*, events: int = 10, size_bytes: int = 1_000, shards: int = 1) -> Buffer:
    epochs = count(100)
    return Buffer(
        shards=shards, max_events=events, max_bytes=size_bytes, new_epoch=lambda: next(epochs)
    )


def take_all(buffer: Buffer) -> list[Run]:
    runs: list[Run] = []
    while (run := buffer.take()) is not None:
        runs.append(run)
    return runs


def assert_adds_up(buffer: Buffer) -> None:
    counts = buffer.counts()
    dropped = sum(n for by_class in counts.dropped.values() for n in by_class.values())
    assert counts.accepted == counts.sent + counts.buffered + counts.spooled + dropped


def test_events_come_out_in_order_with_numbers_from_one() -> None:
    buffer = make_buffer()
    for payload in (b"a", b"b", b"c"):
        buffer.put(0, payload, STANDARD)

    (run,) = take_all(buffer)

    assert (run.first_seq, list(run.payloads), run.epoch) == (1, [b"a", b"b", b"c"], 100)


def test_taken_events_count_as_buffered_until_confirmed() -> None:
    buffer = make_buffer()
    buffer.put(0, b"abc", STANDARD)

    (run,) = take_all(buffer)
    before = buffer.counts()
    buffer.confirm(run)
    after = buffer.counts()

    assert (before.buffered, before.buffered_bytes, before.sent) == (1, 3, 0)
    assert (after.buffered, after.buffered_bytes, after.sent) == (0, 0, 1)


def test_full_buffer_drops_the_new_event_and_keeps_its_number() -> None:
    buffer = make_buffer(events=2)
    for payload in (b"1", b"2", b"3"):
        buffer.put(0, payload, STANDARD)
    (run,) = take_all(buffer)
    buffer.confirm(run)
    buffer.put(0, b"4", STANDARD)

    (later,) = take_all(buffer)

    assert later.first_seq == 4
    assert buffer.counts().dropped == {DropReason.BUFFER_FULL: {STANDARD: 1}}


def test_bytes_bound_the_buffer_too() -> None:
    buffer = make_buffer(size_bytes=10)

    buffer.put(0, b"x" * 8, STANDARD)
    buffer.put(0, b"x" * 3, STANDARD)

    assert buffer.counts().dropped == {DropReason.BUFFER_FULL: {STANDARD: 1}}
    assert buffer.counts().buffered_bytes == 8


def test_standard_event_sheds_the_oldest_best_effort_event() -> None:
    buffer = make_buffer(events=3)
    buffer.put(0, b"s1", STANDARD)
    buffer.put(0, b"b2", BEST_EFFORT)
    buffer.put(0, b"b3", BEST_EFFORT)

    buffer.put(0, b"s4", STANDARD)

    runs = sorted(take_all(buffer), key=lambda run: run.lane)
    assert [(run.first_seq, list(run.payloads)) for run in runs] == [
        (1, [b"s1", b"s4"]),
        (2, [b"b3"]),
    ]
    assert buffer.counts().dropped == {DropReason.SHED: {BEST_EFFORT: 1}}


def test_best_effort_event_never_displaces_another() -> None:
    buffer = make_buffer(events=1)
    buffer.put(0, b"b1", BEST_EFFORT)

    buffer.put(0, b"b2", BEST_EFFORT)

    assert buffer.counts().dropped == {DropReason.BUFFER_FULL: {BEST_EFFORT: 1}}
    assert take_all(buffer)[0].payloads == [b"b1"]


def test_one_large_standard_event_sheds_as_many_as_it_needs() -> None:
    buffer = make_buffer(size_bytes=10)
    for _ in range(5):
        buffer.put(0, b"bb", BEST_EFFORT)

    buffer.put(0, b"s" * 5, STANDARD)

    assert buffer.counts().dropped == {DropReason.SHED: {BEST_EFFORT: 3}}
    assert buffer.counts().buffered_bytes == 9


def test_events_in_flight_are_never_shed() -> None:
    buffer = make_buffer(events=1)
    buffer.put(0, b"b", BEST_EFFORT)
    (run,) = take_all(buffer)

    buffer.put(0, b"s", STANDARD)
    buffer.confirm(run)

    assert buffer.counts().sent == 1
    assert buffer.counts().dropped == {DropReason.BUFFER_FULL: {STANDARD: 1}}


def test_run_holds_at_most_a_thousand_events_and_one_mebibyte() -> None:
    many = make_buffer(events=5_000, size_bytes=1 << 24)
    for _ in range(2_500):
        many.put(0, b"x", STANDARD)
    large = make_buffer(events=5_000, size_bytes=1 << 24)
    for _ in range(40):
        large.put(0, b"x" * 65_536, STANDARD)

    assert [len(run.payloads) for run in take_all(many)] == [1_000, 1_000, 500]
    sizes = [len(b"\n".join(run.payloads)) for run in take_all(large)]
    assert max(sizes) <= 1 << 20
    assert len(sizes) == 3


def test_each_shard_has_its_own_epoch_and_numbers_and_turn() -> None:
    buffer = make_buffer(shards=2)
    for number in range(4):
        buffer.put(number % 2, b"%d" % number, STANDARD)

    runs = sorted(take_all(buffer), key=lambda run: run.lane)

    assert [(run.lane, run.epoch, run.first_seq) for run in runs] == [(0, 100, 1), (1, 101, 1)]
    assert [list(run.payloads) for run in runs] == [[b"0", b"2"], [b"1", b"3"]]


def test_closed_buffer_counts_what_comes_late() -> None:
    buffer = make_buffer()
    buffer.begin_close(1)

    buffer.put(0, b"late", STANDARD)

    assert buffer.counts().dropped == {DropReason.CLOSED: {STANDARD: 1}}
    assert buffer.wait_for_work(ONCE) is Wake.END


def test_abandoned_events_are_counted_once_even_if_confirmed_later() -> None:
    buffer = make_buffer()
    buffer.put(0, b"in flight", STANDARD)
    (run,) = take_all(buffer)
    buffer.put(0, b"waiting", BEST_EFFORT)

    left = buffer.abandon()
    buffer.confirm(run)

    assert left == 2
    assert buffer.counts().dropped == {DropReason.CLOSE_TIMEOUT: {STANDARD: 1, BEST_EFFORT: 1}}
    assert_adds_up(buffer)


def test_flush_of_an_empty_buffer_returns_at_once() -> None:
    assert make_buffer().flush(0)


def test_flush_does_not_wait_for_shed_events() -> None:
    buffer = make_buffer(events=1)
    buffer.put(0, b"b", BEST_EFFORT)
    buffer.put(0, b"s", STANDARD)
    (run,) = take_all(buffer)

    assert not buffer.flush(0)
    buffer.confirm(run)
    assert buffer.flush(0)


def test_waiting_ends_when_the_size_of_the_policy_is_there() -> None:
    buffer = make_buffer()
    for _ in range(5):
        buffer.put(0, b"x", STANDARD)

    assert buffer.wait_for_work(BatchPolicy(size=5, interval_s=60)) is Wake.SEND


@pytest.mark.parametrize("preset", list(BatchPreset))
def test_every_preset_has_figures(preset: BatchPreset) -> None:
    assert PRESETS[preset].size >= 50


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.integers(0, 2), st.integers(1, 9), st.sampled_from(Durability)
        ),
        st.tuples(st.just("take")),
        st.tuples(st.just("confirm")),
        st.tuples(st.just("abandon")),
    ),
    max_size=60,
)


@given(OPERATIONS)
@settings(max_examples=300)
def test_counts_bounds_and_numbers_hold_after_every_operation(
    operations: list[tuple[object, ...]],
) -> None:
    buffer = make_buffer(events=6, size_bytes=30, shards=3)
    numbers: dict[int, list[int]] = {lane: [] for lane in range(6)}
    in_flight: list[Run] = []
    given_numbers = [0] * 6
    for name, *arguments in operations:
        if name == "put":
            shard, size, durability = arguments
            assert isinstance(shard, int)
            assert isinstance(size, int)
            assert isinstance(durability, Durability)
            if not buffer.is_closing:
                given_numbers[shard + 3 * (durability is BEST_EFFORT)] += 1
            record = buffer.put(shard, b"x" * size, durability)
            if record is not None and durability is Durability.DURABLE:
                buffer.is_on_disk(shard, record)
        elif name == "take":
            run = buffer.take()
            if run is not None:
                in_flight.append(run)
                numbers[run.lane] += range(run.first_seq, run.first_seq + len(run.payloads))
        elif name == "confirm" and in_flight:
            buffer.confirm(in_flight.pop(0))
        elif name == "abandon":
            buffer.abandon()
        assert_adds_up(buffer)
        assert buffer.counts().buffered <= 6
        assert buffer.counts().buffered_bytes <= 30
    for shard, seen in numbers.items():
        assert seen == sorted(set(seen))
        assert all(1 <= number <= given_numbers[shard] for number in seen)
