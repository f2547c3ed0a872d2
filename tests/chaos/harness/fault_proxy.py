"""A TCP proxy that damages the traffic between two of our processes, and counts each damage.

Here: one listening port in front of one server, faults per direction, counters. Not here: TLS
(`tls_front.py`), disks and system calls (`syscall_faults.py`).
Guarantee: every fault that happened is in `counters`; jitter and the times of resets follow from
one seed.

The proxy runs in a thread of its own; each public method may be called from any other thread and
returns when the change is in force.

Length: the faults, their counters and the one place where each strikes are read together.
"""

import asyncio
import random
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Self
from urllib.parse import urlsplit

_CHUNK: Final = 16_384
# Longer than any pattern here; a pattern that two reads share is found with it.
_TAIL: Final = 64
_LAST_TURNS: Final = 3
_LAST_TURN_S: Final = 0.01
# Small, so that a thin line is felt by who writes into it.
_QUEUE: Final = 16
_KEPT: Final = 65_536
_RST: Final = struct.pack("ii", 1, 0)


class Direction(StrEnum):
    """Which way bytes go."""

    TO_SERVER = "to_server"
    TO_CLIENT = "to_client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What one direction of every connection suffers; the default is a good line."""

    latency_s: float = 0.0
    jitter_s: float = 0.0
    """Added or taken away, evenly spread; the order of bytes stays."""
    bytes_per_s: float | None = None
    cut_after_bytes: int | None = None
    """The connection is reset when so many bytes of it have passed this way."""
    cut_at: "re.Pattern[bytes] | None" = None
    """The connection is reset when this would pass; the bytes read with it do not pass."""
    cuts: int = 1
    """How many times `cut_at` strikes before the line is good again."""
    is_stalled: bool = False
    """Half open: bytes wait here, nobody is told."""
    is_black_hole: bool = False
    """Bytes are taken and thrown away; such connections are reset when the fault ends."""
    close_delay_s: float = 0.0
    """The end of a connection is passed on so much later."""


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened, proof of the injection."""

    accepted: int = 0
    forwarded_bytes: int = 0
    delayed_chunks: int = 0
    delayed_s: float = 0.0
    throttled_s: float = 0.0
    cut: int = 0
    reset: int = 0
    stalled_chunks: int = 0
    swallowed_bytes: int = 0
    late_closes: int = 0
    refused: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class _Link:
    """One client connection and the connection to the server that belongs to it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    is_holed: bool = False

    def sever(self) -> None:
        """Reset both sides."""
        self.closed.set()
        for writer in (self.client, self.server):
            if writer is None:
                continue
            with suppress(OSError, AttributeError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, _RST
                )
            writer.transport.abort()


class FaultProxy:
    """A proxy in front of `host:port`; use it as a context manager."""

    def __init__(self, host: str, port: int, *, seed: int) -> None:
        """Remember the server and take a free port; `start` begins.

        Args:
            host: Of the server.
            port: Of the server.
            seed: Jitter and the times of resets follow from it.
        """
        self.counters = Counters()
        self.seen = {direction: bytearray() for direction in Direction}
        """First bytes that arrived from each side, for questions about their form."""
        self._target = (host, port)
        self._random = random.Random(seed)
        self._faults = dict.fromkeys(Direction, Fault())
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        """Start to listen."""
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Reset every connection and end the thread."""
        self._do(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def url(self, url: str) -> str:
        """The same URL with the proxy's address instead of the server's."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    def retarget(self, host: str, port: int) -> None:
        """Lead new connections to another server; existing ones stay."""
        self._target = (host, port)

    def set(self, direction: Direction, fault: Fault) -> None:
        """Damage one direction from now on."""
        self._change({direction: fault})

    def set_both(self, fault: Fault) -> None:
        """Damage both directions from now on."""
        self._change(dict.fromkeys(Direction, fault))

    def heal(self) -> None:
        """Make the line good; connections that lost bytes in a black hole are reset."""
        self._change(dict.fromkeys(Direction, Fault()))

    def refuse(self) -> None:
        """Close the port and reset all connections: the next one is refused by the system."""
        self._do(self._close_port)
        with socket.socket() as probe:
            self.counters.refused += probe.connect_ex(("127.0.0.1", self.port)) != 0

    def listen_again(self) -> None:
        """Accept connections on the same port again."""
        self._do(self._listen)

    def reset_connections(self) -> int:
        """Reset all connections now; returns how many there were."""
        return self._do(self._reset_all)

    def reset_every(self, least_s: float, most_s: float, *, stop: threading.Event) -> None:
        """Reset all connections at random times until told to stop; blocks."""
        while not stop.wait(self._random.uniform(least_s, most_s)):
            self.reset_connections()

    def _do(self, act: "Callable[[], Awaitable[int | None]]") -> int:
        async def run() -> int:
            return await act() or 0

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=10)

    def _change(self, faults: dict[Direction, Fault]) -> None:
        async def change() -> None:
            self._faults.update(faults)
            if not any(fault.is_black_hole for fault in self._faults.values()):
                for link in [link for link in self._links if link.is_holed]:
                    link.sever()
            self._wake()

        self._do(change)

    def _wake(self) -> None:
        """Let everyone who waits for a fault to end look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close_port(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset_all()

    async def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.sever()
        self._wake()
        self.counters.reset += len(links)
        return len(links)

    async def _stop(self) -> None:
        await self._close_port()
        # A connection accepted a moment ago becomes a task only now, and a transport that was
        # aborted closes its socket in a later turn of the loop.
        for _ in range(_LAST_TURNS):
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), _LAST_TURN_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counters.accepted += 1
        link = _Link(client=writer)
        self._links.add(link)
        try:
            server_reader, link.server = await asyncio.open_connection(*self._target)
            await asyncio.gather(
                self._carry(link, Direction.TO_SERVER, reader, link.server),
                self._carry(link, Direction.TO_CLIENT, server_reader, writer),
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            link.sever()
            self._links.discard(link)

    async def _carry(
        self,
        link: _Link,
        direction: Direction,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Carry one direction: what is read waits its latency, then is delivered."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE)

        async def read() -> None:
            due_s = 0.0
            while True:
                data = await reader.read(_CHUNK)
                seen = self.seen[direction]
                seen += data[: _KEPT - len(seen)]
                # Never before the bytes ahead: jitter must not change the order.
                due_s = max(due_s, self._loop.time() + self._latency_s(direction, data))
                await queue.put((due_s, data))
                if not data:
                    return

        async def deliver() -> None:
            line = _Line(link=link, direction=direction, writer=writer)
            while not link.closed.is_set():
                due_s, data = await queue.get()
                await _pause(link, due_s - self._loop.time())
                if not data:
                    await self._pass_end(link, direction, writer)
                    return
                await self._pass(line, data)

        await asyncio.gather(read(), deliver())

    def _latency_s(self, direction: Direction, data: bytes) -> float:
        fault = self._faults[direction]
        if not data or not (fault.latency_s or fault.jitter_s):
            return 0.0
        delay_s = fault.latency_s + self._random.uniform(-fault.jitter_s, fault.jitter_s)
        self.counters.delayed_chunks += 1
        self.counters.delayed_s += max(0.0, delay_s)
        return max(0.0, delay_s)

    async def _pass(self, line: "_Line", data: bytes) -> None:
        if self._faults[line.direction].is_stalled:
            self.counters.stalled_chunks += 1
        while self._faults[line.direction].is_stalled and not line.link.closed.is_set():
            await self._changed.wait()
        fault = self._faults[line.direction]
        if fault.is_black_hole:
            line.link.is_holed = True
            self.counters.swallowed_bytes += len(data)
            return
        if self._strikes(line, fault, data):
            self._cut(line.link)
            return
        room = len(data)
        if fault.cut_after_bytes is not None:
            room = max(0, fault.cut_after_bytes - line.passed_bytes)
        await self._write(line, data[:room], fault.bytes_per_s)
        if room < len(data):
            self._cut(line.link)

    def _strikes(self, line: "_Line", fault: Fault, data: bytes) -> bool:
        if fault.cut_at is None or fault.cuts <= 0:
            return False
        is_found = fault.cut_at.search(line.tail + data) is not None
        line.tail = (line.tail + data)[-_TAIL:]
        if is_found:
            self._faults[line.direction] = replace(fault, cuts=fault.cuts - 1)
        return is_found

    def _cut(self, link: _Link) -> None:
        self.counters.cut += 1
        link.sever()

    async def _write(self, line: "_Line", data: bytes, bytes_per_s: float | None) -> None:
        # A tenth of a second's worth at a time, so that the rate is even.
        step = len(data) if bytes_per_s is None else max(1, int(bytes_per_s / 10))
        waiting = deque(data[start : start + step] for start in range(0, len(data), step or 1))
        while waiting and not line.link.closed.is_set():
            part = waiting.popleft()
            line.writer.write(part)
            await line.writer.drain()
            line.passed_bytes += len(part)
            self.counters.forwarded_bytes += len(part)
            if bytes_per_s is not None:
                self.counters.throttled_s += len(part) / bytes_per_s
                await _pause(line.link, len(part) / bytes_per_s)

    async def _pass_end(
        self, link: _Link, direction: Direction, writer: asyncio.StreamWriter
    ) -> None:
        while self._faults[direction].is_stalled and not link.closed.is_set():
            await self._changed.wait()
        fault = self._faults[direction]
        if fault.is_black_hole:
            # The end is lost as well: the other side stays half open.
            link.is_holed = True
            await link.closed.wait()
        if fault.close_delay_s:
            self.counters.late_closes += 1
            await _pause(link, fault.close_delay_s)
        if not link.closed.is_set():
            with suppress(OSError, RuntimeError):
                writer.write_eof()


@dataclass(slots=True, kw_only=True, eq=False)
class _Line:
    """One direction of one connection."""

    link: _Link
    direction: Direction
    writer: asyncio.StreamWriter
    passed_bytes: int = 0
    tail: bytes = b""


async def _pause(link: _Link, seconds: float) -> None:
    """Wait, but not longer than the connection lives."""
    if seconds > 0:
        with suppress(TimeoutError):
            await asyncio.wait_for(link.closed.wait(), seconds)
