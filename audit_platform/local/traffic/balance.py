"""Does everything the queue has taken stand in the database, once? By sets of ids (pure).

Here: the comparison. Not here: the two sides – `traffic_history.py` reads what was accepted,
`traffic_found.py` what the database holds.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Both sides by number, and every key on which they differ."""

    accepted_count: int
    stored_count: int
    late_count: int
    dead_count: int
    missing: frozenset[str]
    unexpected: frozenset[str]
    repeated: frozenset[str]

    @property
    def is_even(self) -> bool:
        """Whether every accepted key is in one of the three tables, once, and nothing else is."""
        return not (self.missing or self.unexpected or self.repeated)

    def differences(self) -> Iterator[str]:
        """Say for people which keys differ, a few of each kind."""
        named = (
            ("accepted, but in no table", self.missing),
            ("in a table, but never accepted", self.unexpected),
            ("in the tables more than once", self.repeated),
        )
        for sentence, keys in named:
            if keys:
                shown = ", ".join(sorted(keys)[:_SHOWN])
                rest = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                yield f"{len(keys)} {sentence}: {shown}{rest}"


def compare(
    accepted: Collection[str],
    *,
    stored: Collection[str],
    late: Collection[str],
    dead: Collection[str],
) -> Balance:
    """Compare what was accepted with what the three tables hold.

    Args:
        accepted: Keys of the history.
        stored: Ids in `audit.event`, one per row.
        late: Ids in `audit.event_late`, one per row.
        dead: Keys of the bytes of the dead letters; the same bytes refused for two reasons
            stand there twice, which is no repetition.
    """
    places = Counter(stored) + Counter(late) + Counter(set(dead))
    promised = set(accepted)
    return Balance(
        accepted_count=len(promised),
        stored_count=len(stored),
        late_count=len(late),
        dead_count=len(set(dead)),
        missing=frozenset(promised - places.keys()),
        unexpected=frozenset(places.keys() - promised),
        repeated=frozenset(key for key, count in places.items() if count > 1),
    )
