"""A client follows its policies file and counts what it does not log."""

import logging
import os
import random
from collections import Counter
from pathlib import Path
from threading import Thread
from uuid import UUID

import pytest

from audit_platform.client.policies import MAX_COUNTED_PAIRS, PolicyBook, PolicyCounts, open_book
from audit_platform.errors import InvalidPolicy
from audit_platform.events.policy_rules import KEPT_AS_IT_IS, Omission

SEED = 20_261_122
DROP_VIEWS = "policies:\n  - {action: page.*, drop: true}\n"


class Clock:
    """Seconds that a test moves on."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _book(path: Path, text: str, clock: Clock | None = None) -> PolicyBook:
    path.write_text(text)
    return PolicyBook.load(path, draw=random.Random(SEED).random, clock=clock or Clock())


def _write(path: Path, text: str) -> None:
    """Replace a file as an operator should: by a rename."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_what_a_rule_drops_is_counted_by_source_and_action(tmp_path: Path) -> None:
    book = _book(tmp_path / "p.yaml", DROP_VIEWS)

    for _ in range(3):
        assert book.decide("web", "page.view").omission is Omission.DROPPED
    book.decide("api", "page.view")
    assert book.decide("web", "user.suspend") is KEPT_AS_IT_IS

    assert book.counts.snapshot() == [
        ("web", "page.view", "dropped", 3),
        ("api", "page.view", "dropped", 1),
    ]
    assert book.counts.totals() == {Omission.DROPPED: 4}


def test_kept_and_counted_add_up_to_the_calls(tmp_path: Path) -> None:
    book = _book(tmp_path / "p.yaml", "policies: [{sample_rate: 0.2}]")

    kept = sum(book.decide("web", "page.view").omission is None for _ in range(5_000))

    assert kept + book.counts.totals()[Omission.SAMPLED] == 5_000
    assert 850 < kept < 1_150


@pytest.mark.parametrize("correlation_id", ["7", 7, UUID(int=7)])
def test_a_correlation_id_decides_in_the_form_it_is_stored_in(
    tmp_path: Path, correlation_id: object
) -> None:
    book = _book(tmp_path / "p.yaml", "policies: [{sample_rate: 0.5}]")

    fates = {book.decide("web", "a.b", correlation_id).omission for _ in range(50)}
    fates |= {book.decide("api", "c.d", str(correlation_id)).omission for _ in range(50)}

    assert len(fates) == 1


@pytest.mark.parametrize("name", [None, 7, ["x"], "", "x" * 500])
def test_a_name_that_is_none_is_left_to_the_check_of_arguments(
    tmp_path: Path, name: object
) -> None:
    book = _book(tmp_path / "p.yaml", "policies: [{drop: true}]")

    assert book.decide("web", name) is KEPT_AS_IT_IS
    assert book.decide(name, "page.view") is KEPT_AS_IT_IS
    assert book.counts.snapshot() == []


def test_a_changed_file_is_followed_within_a_second(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "p.yaml"
    book = _book(path, DROP_VIEWS, clock)
    _write(path, "policies: []")

    clock.now_s = 0.9
    before = book.decide("web", "page.view")
    clock.now_s = 1.1
    after = book.decide("web", "page.view")

    assert before.omission is Omission.DROPPED
    assert after is KEPT_AS_IT_IS


def test_a_broken_file_is_logged_once_and_the_old_rules_stay(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.yaml"
    book = _book(path, DROP_VIEWS, clock)
    _write(path, "policies: [{severity: 9}]")

    for second in range(1, 5):
        clock.now_s = second * 1.5
        assert book.decide("web", "page.view").omission is Omission.DROPPED
    messages = [record.getMessage() for record in caplog.records]

    assert len(messages) == 1
    assert "rule 1 (line 1): severity" in messages[0]


def test_a_file_that_goes_away_keeps_its_rules_and_may_come_back(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "p.yaml"
    book = _book(path, DROP_VIEWS, clock)
    path.unlink()

    for second in (2, 4):
        clock.now_s = second
        assert book.decide("web", "page.view").omission is Omission.DROPPED
    path.write_text("policies: []")
    clock.now_s = 6

    assert book.decide("web", "page.view") is KEPT_AS_IT_IS
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_file_of_equal_size_is_told_apart_by_its_time(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "p.yaml"
    book = _book(path, "policies: [{severity: 1}]", clock)
    path.write_text("policies: [{severity: 2}]")
    os.utime(path, ns=(1, 1))
    clock.now_s = 2

    assert book.decide("web", "page.view").severity == 2


def test_a_missing_or_broken_file_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidPolicy, match="cannot be read"):
        PolicyBook.load(tmp_path / "none.yaml", draw=random.Random(SEED).random)
    with pytest.raises(InvalidPolicy, match="rule 1"):
        _book(tmp_path / "p.yaml", "policies: [7]")


def test_a_forked_child_counts_by_itself_and_survives_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    book = _book(path, DROP_VIEWS)
    book.decide("web", "page.view")
    path.write_text("[")

    child = book.for_child()

    assert child.decide("web", "page.view").omission is Omission.DROPPED
    assert child.counts.totals() == book.counts.totals() == {Omission.DROPPED: 1}


def test_news_are_present_totals_and_given_once(tmp_path: Path) -> None:
    book = _book(tmp_path / "p.yaml", DROP_VIEWS)
    assert not book.counts.has_news

    book.decide("web", "page.view")
    book.decide("web", "page.list")
    first, nothing = book.counts.take_news(), book.counts.take_news()
    book.decide("web", "page.view")

    assert [one.calls for one in first] == [1, 1]
    assert nothing == []
    assert book.counts.has_news
    assert book.counts.take_news() == [("web", "page.view", "dropped", 2)]


def test_news_are_announced_once_until_they_are_taken() -> None:
    counts, heard = PolicyCounts(), list[str]()
    counts.on_news = lambda: heard.append("news")

    for _ in range(3):
        counts.add("web", "page.view", Omission.DROPPED)
    assert heard == ["news"]
    counts.take_news()
    counts.add("web", "page.view", Omission.DROPPED)

    assert heard == ["news", "news"]


def test_without_a_file_there_is_no_book(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(DROP_VIEWS)

    assert open_book(None) is None
    assert open_book(path) is not None


def test_beyond_a_hundred_pairs_calls_are_counted_together() -> None:
    counts = PolicyCounts()

    for number in range(MAX_COUNTED_PAIRS + 50):
        counts.add("web", f"a.{number}", Omission.DROPPED)
    counts.add("web", "a.0", Omission.SAMPLED)
    counts.add("web", "a.149", Omission.SAMPLED)
    found = {tuple(one[:3]): one.calls for one in counts.snapshot()}

    assert found["*", "*", "dropped"] == 50
    assert found["*", "*", "sampled"] == 1
    assert found["web", "a.0", "sampled"] == 1
    assert len({one[:2] for one in found}) == MAX_COUNTED_PAIRS + 1


def test_threads_count_every_call_once(tmp_path: Path) -> None:
    book = _book(tmp_path / "p.yaml", DROP_VIEWS)
    actions = [f"page.{number}" for number in range(7)]

    def work() -> None:
        for number in range(2_000):
            book.decide("web", actions[number % 7])

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    counted = Counter({one.action: one.calls for one in book.counts.snapshot()})
    assert counted.total() == 8_000
    assert set(counted) == set(actions)
