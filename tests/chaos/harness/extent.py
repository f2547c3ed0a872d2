"""How much a chaos test does: a short part within `make test`, all of it in `make chaos`.

`AUDIT_TEST_CHAOS=full` chooses all of it. `AUDIT_TEST_SEED` repeats the choices of a run whose
number was printed.
"""

import os
from random import SystemRandom
from typing import Final, TypeVar

import pytest

Amount = TypeVar("Amount")

IS_FULL: Final = os.environ.get("AUDIT_TEST_CHAOS") == "full"

full_only: Final = pytest.mark.skipif(not IS_FULL, reason="only within `make chaos`")
"""A variant of a fault that another test makes within `make test`."""


def amount(short: Amount, full: Amount) -> Amount:
    """Choose between the amount of `make test` and that of `make chaos`."""
    return full if IS_FULL else short


def start_number() -> int:
    """The number from which a test draws every choice; printed with its result."""
    given = os.environ.get("AUDIT_TEST_SEED")
    return int(given) if given else SystemRandom().randrange(1 << 32)
