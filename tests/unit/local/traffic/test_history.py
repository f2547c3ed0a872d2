"""The history file: what was taken, read back with its counts."""

from pathlib import Path

from audit_platform.local.traffic.history import History, Taken, read_history


def test_a_history_gives_back_keys_and_counts_of_all_producers(tmp_path: Path) -> None:
    with History(tmp_path, "one") as history:
        history.note(Taken.GOOD, "a")
        history.note(Taken.LATE, "b")
        history.note(Taken.RESENT, "a")
    with History(tmp_path, "two") as history:
        history.note(Taken.BAD, "sha256:00", "not JSON")

    accepted = read_history(tmp_path)

    assert accepted.keys == {"a", "b", "sha256:00"}
    assert (accepted.late_count, accepted.resent_count) == (1, 1)
    assert accepted.bad_by_kind == {"not JSON": 1}


def test_a_history_that_is_opened_again_goes_on(tmp_path: Path) -> None:
    for key in ("a", "b"):
        with History(tmp_path, "one") as history:
            history.note(Taken.GOOD, key)

    assert read_history(tmp_path).keys == {"a", "b"}


def test_a_directory_without_history_holds_nothing(tmp_path: Path) -> None:
    assert read_history(tmp_path).keys == frozenset()
