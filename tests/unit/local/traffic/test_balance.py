"""Accepted against stored, late and dead: by sets of ids, not by numbers."""

from audit_platform.local.traffic.balance import compare


def test_a_balance_is_even_when_every_key_stands_in_one_place() -> None:
    balance = compare({"a", "b", "c"}, stored=["a"], late=["b"], dead=["c"])

    assert balance.is_even
    assert list(balance.differences()) == []


def test_equal_numbers_do_not_hide_a_lost_and_a_foreign_key() -> None:
    balance = compare({"a", "b"}, stored=["a", "x"], late=[], dead=[])

    assert not balance.is_even
    assert balance.missing == {"b"}
    assert balance.unexpected == {"x"}
    assert "accepted, but in no table: b" in " ".join(balance.differences())


def test_a_key_stored_twice_is_named() -> None:
    balance = compare({"a"}, stored=["a", "a"], late=[], dead=[])

    assert balance.repeated == {"a"}
    assert not balance.is_even


def test_a_key_in_two_tables_is_named() -> None:
    assert compare({"a"}, stored=["a"], late=["a"], dead=[]).repeated == {"a"}
    assert compare({"a"}, stored=["a"], late=[], dead=["a"]).repeated == {"a"}


def test_the_same_bytes_dead_for_two_reasons_are_no_repetition() -> None:
    assert compare({"a"}, stored=[], late=[], dead=["a", "a"]).is_even


def test_many_differing_keys_are_shown_in_part() -> None:
    balance = compare({f"k{n:02d}" for n in range(25)}, stored=[], late=[], dead=[])

    assert next(balance.differences()).endswith("and 15 more")
