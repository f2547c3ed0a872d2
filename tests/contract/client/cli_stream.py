"""Reads what the SDK wrote with the wheel's `redis-cli`, a client that is not ours."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

ENTRY_ID = re.compile(r"\d+-\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class CliEntry:
    """One entry of a stream: its fields as text, `events` as its lines."""

    fields: dict[str, str]
    lines: tuple[str, ...]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, decoded."""
        return [json.loads(line) for line in self.lines]

    @property
    def numbers(self) -> range:
        """The sequence numbers that the stamp gives to the events."""
        first = int(self.fields["s"])
        return range(first, first + int(self.fields["n"]))


def read_stream(cli: Callable[..., str], key: str) -> list[CliEntry]:
    """Read all entries of a stream, oldest first."""
    output = iter(cli("xrange", key, "-", "+").split("\n"))
    entries: list[CliEntry] = []
    name = next(output, "")
    while ENTRY_ID.fullmatch(name):
        fields, lines, name = _read_entry(output)
        entries.append(CliEntry(fields=fields, lines=lines))
    return entries


def _read_entry(output: Iterator[str]) -> tuple[dict[str, str], tuple[str, ...], str]:
    fields: dict[str, str] = {}
    lines: tuple[str, ...] = ()
    for name in output:
        if not name or ENTRY_ID.fullmatch(name):
            return fields, lines, name
        if name == "events":
            lines = tuple(next(output) for _ in range(int(fields["n"])))
        else:
            fields[name] = next(output)
    return fields, lines, ""


def read_events(cli: Callable[..., str], key: str) -> list[dict[str, Any]]:
    """Read all events of a stream in the order of their entries."""
    return [event for entry in read_stream(cli, key) for event in entry.events]
