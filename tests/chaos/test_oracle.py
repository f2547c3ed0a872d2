"""The oracle finds what it is for: each kind of damage, planted, and nothing where all is well."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.harness.history import History, HistoryFile, Mark, read_history
from tests.chaos.harness.oracle import Verdict, judge
from tests.chaos.harness.stored import Numbers, Stored

pytestmark = pytest.mark.chaos

EPOCH = (7, 70)
IDS = [f"id-{number}" for number in range(1, 7)]


def history_of(
    directory: Path, durability: str, *, unknown: Collection[str] = (), is_closed: bool = False
) -> History:
    with HistoryFile(directory, "producer", start=0) as file:
        for one in IDS:
            file.attempt(one, durability)
            if one not in unknown:
                file.outcome(Mark.OK, one)
        if is_closed:
            file.closed()
    return read_history(directory)


def stored_of(
    ids: Collection[str], *, twice: Collection[str] = (), last: int = 6, declared: int = 0
) -> Stored:
    """The store with some of the events, numbered as they were made."""
    got = {IDS.index(one) + 1 for one in ids if one in IDS}
    lost = sorted(set(range(1, last + 1)) - got)
    return Stored(
        ids=Counter([*ids, *twice]),
        dead_ids=frozenset(),
        dead_count=0,
        control_count=0,
        epoch_of={one: (EPOCH, IDS.index(one) + 1) for one in ids if one in IDS},
        numbers={EPOCH: Numbers(got=got, declared=set(lost[:declared]), last=last)},
        is_conserved=True,
        pending=0,
        length=0,
    )


def test_all_is_well_when_everything_is_stored_once(tmp_path: Path) -> None:
    verdict = judge(history_of(tmp_path, "durable"), stored_of(IDS))

    assert verdict.problems() == []
    assert verdict.accepted_total == len(IDS)


def test_a_lost_durable_event_is_a_loss_even_if_the_gap_is_visible(tmp_path: Path) -> None:
    verdict = judge(history_of(tmp_path, "durable"), stored_of(IDS[:-1]))

    assert verdict.unexcused == (IDS[-1],)
    assert "lost: 1" in verdict.problems()


@pytest.mark.parametrize("declared", [0, 1])
def test_a_lost_standard_event_of_a_killed_process_is_excused_by_its_gap(
    tmp_path: Path, declared: int
) -> None:
    verdict = judge(history_of(tmp_path, "standard"), stored_of(IDS[:-1], declared=declared))

    assert verdict.problems() == []
    assert verdict.excused == 1


def test_a_lost_standard_event_without_a_gap_is_a_loss(tmp_path: Path) -> None:
    """Nobody sent the end of the epoch: the tail is missing and no number says so."""
    verdict = judge(history_of(tmp_path, "standard"), stored_of(IDS[:-1], last=5))

    assert verdict.unexcused == (IDS[-1],)


def test_a_process_that_closed_in_good_order_may_lose_no_standard_event(tmp_path: Path) -> None:
    verdict = judge(history_of(tmp_path, "standard", is_closed=True), stored_of(IDS[:-1]))

    assert verdict.unexcused == (IDS[-1],)


def test_a_number_missing_without_a_loss_is_a_false_alarm(tmp_path: Path) -> None:
    verdict = judge(history_of(tmp_path, "standard"), stored_of(IDS, last=8))

    assert verdict.silent_gaps == 2


def test_an_epoch_of_which_nothing_is_stored_excuses_what_is_left_over(tmp_path: Path) -> None:
    """Classes are numbered apart: all that a process lost may lie in an epoch without a row."""
    stored = stored_of(IDS[:-1], last=5)
    numbers = {**stored.numbers, (7, 71): Numbers(last=1)}

    verdict = judge(history_of(tmp_path, "standard"), replace(stored, numbers=numbers))

    assert verdict.problems() == []
    assert verdict.excused == 1


def test_an_event_of_unknown_fate_may_be_stored_or_not(tmp_path: Path) -> None:
    history = history_of(tmp_path, "durable", unknown=IDS[-1:])

    assert judge(history, stored_of(IDS)).recovered == 1
    assert judge(history, stored_of(IDS)).problems() == []
    assert judge(history, stored_of(IDS[:-1])).problems() == []


def test_rows_stored_twice_and_rows_nobody_sent_are_found(tmp_path: Path) -> None:
    verdict = judge(history_of(tmp_path, "durable"), stored_of([*IDS, "stranger"], twice=IDS[:2]))

    assert verdict.duplicated == 2
    assert verdict.unexpected == ("stranger",)


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    history_of(tmp_path, "durable")
    (path,) = tmp_path.glob("*.history")
    path.write_bytes(path.read_bytes()[:-3])

    verdict: Verdict = judge(read_history(tmp_path), stored_of(IDS))

    assert verdict.accepted_total == len(IDS) - 1
    assert verdict.recovered == 1
