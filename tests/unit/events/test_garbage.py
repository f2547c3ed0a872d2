"""Garbage collections are rarer inside the block, and as before after it."""

import gc

import pytest

from audit_platform.events.garbage import rare_collections


def test_the_threshold_is_higher_inside_and_back_afterwards() -> None:
    before = gc.get_threshold()

    with rare_collections():
        inside = gc.get_threshold()

    assert inside[0] > before[0]
    assert inside[1:] == before[1:]
    assert gc.get_threshold() == before


def test_it_is_back_after_an_error_too() -> None:
    before = gc.get_threshold()

    with pytest.raises(KeyError), rare_collections():
        raise KeyError

    assert gc.get_threshold() == before
