"""The hand-over between reader and store is bounded, ordered and passes errors on."""

from threading import Event, Thread

import pytest

from audit_platform.events.hand_over import HandOver

SOON_S = 0.01
LONG_S = 10.0


def test_items_arrive_in_order_and_no_more_than_the_depth_waits() -> None:
    hand_over: HandOver[int] = HandOver(depth=2)

    put = [hand_over.put(number, timeout_s=SOON_S) for number in (1, 2, 3)]

    assert put == [True, True, False]
    assert [hand_over.take(timeout_s=SOON_S) for _ in range(3)] == [1, 2, None]


def test_an_error_of_the_reader_comes_after_the_items_before_it() -> None:
    hand_over: HandOver[int] = HandOver(depth=2)
    hand_over.put(1, timeout_s=SOON_S)
    hand_over.fail(RuntimeError("reader ended"))

    assert hand_over.take(timeout_s=SOON_S) == 1
    with pytest.raises(RuntimeError, match="reader ended"):
        hand_over.take(timeout_s=LONG_S)


def test_the_taker_is_free_only_while_it_waits_for_an_item() -> None:
    hand_over: HandOver[int] = HandOver(depth=1)
    was_free, seen_free = hand_over.is_taker_free, Event()

    def give_when_free() -> None:
        while not hand_over.is_taker_free:
            pass
        seen_free.set()
        hand_over.put(7, timeout_s=LONG_S)

    giver = Thread(target=give_when_free)
    giver.start()
    taken = hand_over.take(timeout_s=LONG_S)
    giver.join(LONG_S)

    assert not was_free
    assert seen_free.is_set()
    assert taken == 7
    assert not hand_over.is_taker_free
