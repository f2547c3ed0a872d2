"""Splits one large JSON array into its elements without reading it whole.

Here: where an element starts and ends. Not here: whether it is valid (`events/json_path.py` says
so for each element), which file holds the array (`imports/files.py`).
Guarantee: memory stays below the largest element allowed plus one chunk, whatever the file holds.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from audit_platform.errors import UnreadableFile

CHUNK_BYTES: Final = 1 << 16
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+("|\Z)|[{}\[\],]', re.DOTALL)
_WHITE: Final = b" \t\r\n"


class Element(NamedTuple):
    """One element: the line it starts on, and its bytes; None if it was too large to keep."""

    line: int
    raw: bytes | None


def split_array(
    read: Callable[[int], bytes], opening: re.Pattern[bytes], *, max_bytes: int
) -> Iterator[Element]:
    """Yield the elements of the array that a document starts with.

    Args:
        read: Reads up to so many bytes; empty at the end.
        opening: Matches everything up to and including the bracket of the array.
        max_bytes: Larger elements come without their bytes.

    Raises:
        UnreadableFile: The document starts otherwise, or ends before its array does.
    """
    head = read(CHUNK_BYTES)
    match = opening.match(head)
    if match is None:
        raise UnreadableFile("the file does not start as its format does; name the right --format")
    splitter = _Splitter(line=1 + head[: match.end()].count(b"\n"), max_bytes=max_bytes)
    chunk = head[match.end() :]
    while True:
        yield from splitter.feed(chunk)
        if splitter.is_done:
            return
        chunk = read(CHUNK_BYTES)
        if not chunk:
            raise UnreadableFile("the file ends before its list of records does; it was cut off")


class _Splitter:
    """State between two chunks: the unfinished element, how deep in it, where scanning goes on."""

    def __init__(self, *, line: int, max_bytes: int) -> None:
        self.is_done = False
        self._max_bytes = max_bytes
        self._buffer = b""
        self._scanned = 0
        self._depth = 0
        self._line = line
        self._is_oversize = False

    def feed(self, chunk: bytes) -> Iterator[Element]:
        self._buffer += chunk
        start = 0
        for match in self._tokens():
            token = match.group()
            if token in b"{[":
                self._depth += 1
            elif token in b"}]" and self._depth:
                self._depth -= 1
            elif token in b",]" and self._depth == 0:
                yield from self._element(self._buffer[start : match.start()])
                start = match.end()
                if token == b"]":
                    self.is_done = True
                    return
        self._keep(start)

    def _tokens(self) -> Iterator[re.Match[bytes]]:
        position = self._scanned
        while (match := _TOKEN.search(self._buffer, position)) is not None:
            if match.group()[:1] == b'"':
                if not match.group(1):
                    # The string goes on in the next chunk; scan it again from its start.
                    self._scanned = match.start()
                    return
                position = match.end()
                continue
            position = match.end()
            yield match
        self._scanned = len(self._buffer)

    def _element(self, raw: bytes) -> Iterator[Element]:
        leading = len(raw) - len(raw.lstrip(_WHITE))
        line = self._line + raw[:leading].count(b"\n")
        self._line += raw.count(b"\n")
        stripped = raw.strip(_WHITE)
        if self._is_oversize or len(stripped) > self._max_bytes:
            yield Element(line, None)
        elif stripped:
            yield Element(line, stripped)
        self._is_oversize = False

    def _keep(self, start: int) -> None:
        """Drop what was given out, and the scanned part of an element too large to keep."""
        if len(self._buffer) - start > self._max_bytes + CHUNK_BYTES:
            self._is_oversize = True
            self._line += self._buffer[start : self._scanned].count(b"\n")
            start = self._scanned
            if len(self._buffer) - start > self._max_bytes + CHUNK_BYTES:
                raise UnreadableFile("the file holds a text that does not end; it is damaged")
        self._buffer = self._buffer[start:]
        self._scanned -= start
