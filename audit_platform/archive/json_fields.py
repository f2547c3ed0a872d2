"""Reads the fields of a JSON object strictly: each once, of its form, none unknown (pure).

Here: the form of numbers, texts, digests, ids and moments in manifests. Not here: which fields
there are (`archive/manifest.py`, `archive/match_filter.py`).
Guarantee: a value of another form is an `ArchiveDamaged` that names the field, never a guess.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, cast
from uuid import UUID

from audit_platform.errors import ArchiveDamaged

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def format_moment(moment: datetime) -> str:
    """Write an aware moment as UTC with microseconds and `Z`.

    Raises:
        ValueError: It has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone; pass an aware datetime")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Fields:
    """The fields of one object, taken one after the other."""

    def __init__(self, value: object, *, where: str) -> None:
        """Take the object.

        Raises:
            ArchiveDamaged: It is no object.
        """
        self._where = where
        if not isinstance(value, Mapping):
            raise self._damaged("the whole", "an object")
        self._left = dict(cast("Mapping[str, Any]", value))

    def optional(self, name: str) -> object:
        """Any value; None where it is absent or null."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """A text that is not empty."""
        value = self.optional(name)
        if not isinstance(value, str) or not value:
            raise self._damaged(name, "a text")
        return value

    def count(self, name: str) -> int:
        """An integer from 0."""
        value = self.optional(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._damaged(name, "a number from 0")
        return value

    def digest(self, name: str) -> bytes:
        """32 bytes, written as 64 lower-case hexadecimal digits."""
        value = self.text(name)
        if not _DIGEST.fullmatch(value):
            raise self._damaged(name, "64 lower-case hexadecimal digits")
        return bytes.fromhex(value)

    def uuid(self, name: str) -> UUID:
        """A UUID in lower case with dashes."""
        value = self.text(name)
        if not _UUID.fullmatch(value):
            raise self._damaged(name, "a UUID")
        return UUID(value)

    def optional_uuid(self, name: str) -> UUID | None:
        """A UUID, or None."""
        return None if self._left.get(name) is None else self.uuid(name)

    def moment(self, name: str) -> datetime:
        """A moment in UTC with microseconds."""
        value = self.text(name)
        if not _MOMENT.fullmatch(value):
            raise self._damaged(name, "a moment such as 2026-01-31T12:00:00.000000Z")
        try:
            return datetime.fromisoformat(value)
        except ValueError as exc:
            raise self._damaged(name, "a moment of the calendar") from exc

    def optional_moment(self, name: str) -> datetime | None:
        """A moment, or None."""
        return None if self._left.get(name) is None else self.moment(name)

    def items(self, name: str) -> list[object]:
        """The items of a list."""
        value = self.optional(name)
        if not isinstance(value, list):
            raise self._damaged(name, "a list")
        return cast("list[object]", value)

    def refuse_others(self) -> None:
        """Refuse what was not taken and is not null: a reader that ignores it could be wrong.

        Raises:
            ArchiveDamaged: Names one such field.
        """
        for name, value in self._left.items():
            if value is not None:
                raise self._damaged(name, "absent: this program does not know it")

    def _damaged(self, name: str, wanted: str) -> ArchiveDamaged:
        message = (
            f"{self._where}: {name} should be {wanted}; take the manifest from the second copy, "
            "or use the release that wrote it"
        )
        return ArchiveDamaged(message, where=self._where, field=name)
