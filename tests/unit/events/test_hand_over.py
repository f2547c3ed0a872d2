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


def test_several_takers_get_each_item_once_and_all_of_them_the_error() -> None:
    hand_over: HandOver[int] = HandOver(depth=1)
    taken: list[int] = []
    errors: list[str] = []

    def take_all() -> None:
        try:
            while True:
                item = hand_over.take(timeout_s=LONG_S)
                assert item is not None
                taken.append(item)
        except RuntimeError as exc:
            errors.append(str(exc))

    takers = [Thread(target=take_all) for _ in range(3)]
    for taker in takers:
        taker.start()
    for number in range(200):
        assert hand_over.put(number, timeout_s=LONG_S)
    hand_over.fail(RuntimeError("reader ended"))
    for taker in takers:
        taker.join(LONG_S)

    assert sorted(taken) == list(range(200))
    assert errors == ["reader ended"] * 3


def test_a_second_taker_that_waits_is_free_beside_an_item_that_is_not_taken_yet() -> None:
    hand_over: HandOver[int] = HandOver(depth=1)
    takers = [Thread(target=hand_over.take, kwargs={"timeout_s": LONG_S}) for _ in range(2)]
    for taker in takers:
        taker.start()

    given = 0
    while given < len(takers):
        given += hand_over.is_taker_free and hand_over.put(given, timeout_s=LONG_S)
    for taker in takers:
        taker.join(LONG_S)

    assert not any(taker.is_alive() for taker in takers)
    assert not hand_over.is_taker_free
