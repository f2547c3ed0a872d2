"""The fault proxy itself: each fault does what it says, and its counter proves it."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.chaos.harness.fault_proxy import Direction, Fault, FaultProxy

pytestmark = pytest.mark.chaos

SEED = 7


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    yield listener.getsockname()[1]
    listener.close()


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with suppress(OSError), connection:
        while data := connection.recv(65_536):
            connection.sendall(data)


@pytest.fixture
def proxy(echo: int) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo, seed=SEED) as started:
        yield started


def connect(proxy: FaultProxy, *, timeout_s: float = 5) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout_s)


def receive(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (part := connection.recv(65_536)):
        received += part
    return received


def ask(connection: socket.socket, message: bytes) -> bytes:
    connection.sendall(message)
    return receive(connection, len(message))


def is_reset(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_good_line_passes_every_byte(proxy: FaultProxy) -> None:
    message = bytes(range(256)) * 4_000
    with connect(proxy) as connection:
        threading.Thread(target=connection.sendall, args=(message,), daemon=True).start()

        received = receive(connection, len(message))

    assert received == message
    assert proxy.counters.forwarded_bytes == 2 * len(message)
    assert proxy.counters.accepted == 1


def test_latency_delays_and_keeps_the_order(proxy: FaultProxy) -> None:
    proxy.set(Direction.TO_CLIENT, Fault(latency_s=0.1, jitter_s=0.1))
    with connect(proxy) as connection:
        begin_s = time.monotonic()
        answers = [ask(connection, b"%03d" % number) for number in range(5)]
        spent_s = time.monotonic() - begin_s

    assert answers == [b"%03d" % number for number in range(5)]
    assert proxy.counters.delayed_chunks == 5
    assert spent_s >= proxy.counters.delayed_s > 0


def test_jitter_follows_from_the_seed(echo: int) -> None:
    delays: list[float] = []
    for seed in (1, 1, 2):
        with FaultProxy("127.0.0.1", echo, seed=seed) as proxy, connect(proxy) as connection:
            proxy.set(Direction.TO_CLIENT, Fault(latency_s=0.01, jitter_s=0.01))
            for _ in range(3):
                ask(connection, b"x")
            delays.append(proxy.counters.delayed_s)

    assert delays[0] == delays[1] != delays[2]


def test_bandwidth_limits_the_rate(proxy: FaultProxy) -> None:
    proxy.set(Direction.TO_SERVER, Fault(bytes_per_s=20_000))
    with connect(proxy) as connection:
        begin_s = time.monotonic()
        ask(connection, b"x" * 10_000)
        spent_s = time.monotonic() - begin_s

    assert spent_s >= 0.4
    assert proxy.counters.throttled_s == pytest.approx(0.5)


def test_a_connection_is_cut_after_n_bytes(proxy: FaultProxy) -> None:
    proxy.set(Direction.TO_CLIENT, Fault(cut_after_bytes=10))
    with connect(proxy) as connection:
        connection.sendall(b"x" * 100)
        received = b""
        with suppress(ConnectionResetError):
            received = receive(connection, 100)

    assert len(received) <= 10
    assert proxy.counters.cut == 1
    assert proxy.counters.forwarded_bytes == 110


def test_a_pattern_cuts_as_often_as_asked_and_does_not_pass(proxy: FaultProxy) -> None:
    proxy.set(Direction.TO_CLIENT, Fault(cut_at=re.compile(rb"COMM\w+"), cuts=2))
    for _ in range(2):
        with connect(proxy) as connection:
            assert ask(connection, b"begin") == b"begin"
            connection.sendall(b"COMMIT")
            assert is_reset(connection)

    with connect(proxy) as connection:
        assert ask(connection, b"COMMIT") == b"COMMIT"
    assert proxy.counters.cut == 2


def test_a_stalled_line_says_nothing_and_goes_on_when_healed(proxy: FaultProxy) -> None:
    with connect(proxy, timeout_s=0.3) as connection:
        assert ask(connection, b"before") == b"before"
        proxy.set(Direction.TO_CLIENT, Fault(is_stalled=True))
        connection.sendall(b"during")
        with pytest.raises(TimeoutError):
            connection.recv(1)

        proxy.heal()

        assert receive(connection, 6) == b"during"
    assert proxy.counters.stalled_chunks == 1


def test_a_black_hole_swallows_and_its_connections_end(proxy: FaultProxy) -> None:
    with connect(proxy, timeout_s=0.3) as connection:
        proxy.set_both(Fault(is_black_hole=True))
        connection.sendall(b"x" * 50)
        with pytest.raises(TimeoutError):
            connection.recv(1)

        proxy.heal()

        connection.settimeout(5)
        assert is_reset(connection)
    assert proxy.counters.swallowed_bytes == 50
    with connect(proxy) as connection:
        assert ask(connection, b"after") == b"after"


def test_a_slow_close_arrives_late(proxy: FaultProxy) -> None:
    proxy.set_both(Fault(close_delay_s=0.2))
    with connect(proxy) as connection:
        assert ask(connection, b"x") == b"x"
        begin_s = time.monotonic()
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""

    assert time.monotonic() - begin_s >= 0.4
    assert proxy.counters.late_closes == 2


def test_a_closed_port_refuses_and_the_same_port_opens_again(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"x") == b"x"
        proxy.refuse()
        assert is_reset(connection)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)

    proxy.listen_again()

    with connect(proxy) as connection:
        assert ask(connection, b"x") == b"x"
    assert proxy.counters.refused == 1


def test_resets_reach_every_connection(proxy: FaultProxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        assert ask(first, b"x") == ask(second, b"x") == b"x"

        assert proxy.reset_connections() == 2

        for connection in (first, second):
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
    assert proxy.counters.reset == 2


def test_an_absent_server_ends_the_connection(echo: int) -> None:
    with FaultProxy("127.0.0.1", 1, seed=SEED) as proxy:
        # The end may come before the call to connect returns.
        with suppress(ConnectionResetError), connect(proxy) as connection:
            assert is_reset(connection)
        assert proxy.counters.forwarded_bytes == 0
        proxy.retarget("127.0.0.1", echo)
        with connect(proxy) as connection:
            assert ask(connection, b"x") == b"x"


def test_a_url_leads_through_the_proxy(proxy: FaultProxy) -> None:
    assert (
        proxy.url("redis://producer:s3cret@127.0.0.1:6379/0")
        == f"redis://producer:s3cret@127.0.0.1:{proxy.port}/0"
    )
