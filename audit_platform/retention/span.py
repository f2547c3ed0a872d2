"""Spans of retention: whole months and days, counted by the calendar (pure).

Here: reading, writing and adding them. Not here: which span applies (`retention/rules.py`).
Guarantee: `after` gives what PostgreSQL gives for `timestamptz + interval` in UTC, so that both
sides agree on the moment at which a file may go.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

NEVER: Final = datetime.max.replace(tzinfo=UTC)
"""After every moment that a partition can hold."""
_LONGEST_YEARS: Final = 1_000
_MONTHS_A_YEAR: Final = 12
_PART: Final = re.compile(r"(\d{1,6})\s*([a-z]+)\s*", re.IGNORECASE)
_UNITS: Final = {
    **dict.fromkeys(("d", "day", "days"), (0, 1)),
    **dict.fromkeys(("w", "week", "weeks"), (0, 7)),
    **dict.fromkeys(("mo", "month", "months"), (1, 0)),
    **dict.fromkeys(("y", "year", "years"), (_MONTHS_A_YEAR, 0)),
}
_EXAMPLES: Final = "write 90d, 6mo, 7y or 1y 6mo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time in months and days; a month is as long as the calendar makes it."""

    months: int = 0
    days: int = 0

    def __post_init__(self) -> None:
        """Refuse nothing, less than nothing, and more than anybody means.

        Raises:
            ValueError: Says which.
        """
        if self.months < 0 or self.days < 0 or not (self.months or self.days):
            raise ValueError(f"a span must be longer than nothing; {_EXAMPLES}")
        years = self.months / _MONTHS_A_YEAR + self.days / 365
        if years > _LONGEST_YEARS:
            raise ValueError(f"a span has at most {_LONGEST_YEARS:,} years; {_EXAMPLES}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a span such as `90d`, `6mo`, `7 years` or `1y 6mo`.

        Raises:
            ValueError: It has another form; says which forms there are.
        """
        months = days = place = 0
        stripped = text.strip()
        while place < len(stripped):
            found = _PART.match(stripped, place)
            unit = _UNITS.get(found[2].lower()) if found else None
            if found is None or unit is None:
                raise ValueError(f"{text[:40]!r} is no span; {_EXAMPLES}")
            months += int(found[1]) * unit[0]
            days += int(found[1]) * unit[1]
            place = found.end()
        return cls(months=months, days=days)

    def after(self, moment: datetime) -> datetime:
        """Add the span to a moment: months first, then days.

        Args:
            moment: Aware.

        Returns:
            In UTC. The 31st plus a month is the last day of a shorter month. `NEVER` where the
            calendar ends before.
        """
        utc = moment.astimezone(UTC)
        month = utc.month - 1 + self.months
        year, month = utc.year + month // _MONTHS_A_YEAR, month % _MONTHS_A_YEAR + 1
        try:
            last_day = monthrange(year, month)[1]
            shifted = utc.replace(year=year, month=month, day=min(utc.day, last_day))
            return shifted + timedelta(days=self.days)
        except (OverflowError, ValueError):
            return NEVER

    def __str__(self) -> str:
        years, months = divmod(self.months, _MONTHS_A_YEAR)
        parts = ((years, "year"), (months, "month"), (self.days, "day"))
        return " ".join(
            f"{count:,} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count
        )
