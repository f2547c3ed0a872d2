"""N11: a TLS handshake that stalls, and a wrong certificate: refused, 0 clear-text bytes.

The bundled servers are built without TLS, so a front of ours ends it; what is tested is our side:
certificates are checked, silence ends, and nothing leaves before the handshake is over.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from audit_platform.client import AuditClient
from audit_platform.db.pool import connect
from audit_platform.errors import DatabaseUnavailable, QueueUnavailable
from audit_platform.events.stream import Appender
from audit_platform.local.redis import RedisUser
from tests.chaos.harness.fault_proxy import Direction, FaultProxy
from tests.chaos.harness.tls_front import Opening, TlsFront, write_certificate
from tests.chaos.harness.traffic import Traffic
from tests.conftest import Database, RedisSpace
from tests.integration.events.shard import Shard

pytestmark = pytest.mark.chaos

SEED = 11
SECRETS = (b"XADD", b"AUTH", b"producer", b"writer", b"password", b"select")


@dataclass(frozen=True, slots=True, kw_only=True)
class Secured:
    """Both services behind TLS, with what passed in the clear."""

    redis_front: TlsFront
    postgres_front: TlsFront
    redis_line: FaultProxy
    postgres_line: FaultProxy
    trusted: Path

    def redis_url(self, space: RedisSpace, user: RedisUser = "producer") -> str:
        url = self.redis_line.url(space.url(user)).replace("redis://", "rediss://", 1)
        return f"{url}?ssl_ca_certs={self.trusted}"

    def postgres_url(self, url: str) -> str:
        led = self.postgres_line.url(url)
        return f"{led}?sslmode=verify-full&sslrootcert={self.trusted}"

    def clear_text(self) -> list[bytes]:
        sent = b"".join(
            bytes(line.seen[Direction.TO_SERVER]) for line in (self.redis_line, self.postgres_line)
        )
        return [secret for secret in SECRETS if secret in sent]


@contextmanager
def secured(
    space: RedisSpace, database: Database, certificate: Path, trusted: Path, *, is_stalled: bool
) -> Iterator[Secured]:
    postgres_port = urlsplit(database.admin_url).port
    assert postgres_port is not None
    with ExitStack() as stack:
        redis_front = stack.enter_context(
            TlsFront(
                space.config.port, certificate, opening=Opening.TLS_AT_ONCE, is_stalled=is_stalled
            )
        )
        postgres_front = stack.enter_context(
            TlsFront(postgres_port, certificate, opening=Opening.POSTGRES, is_stalled=is_stalled)
        )
        yield Secured(
            redis_front=redis_front,
            postgres_front=postgres_front,
            redis_line=stack.enter_context(FaultProxy("127.0.0.1", redis_front.port, seed=SEED)),
            postgres_line=stack.enter_context(
                FaultProxy("127.0.0.1", postgres_front.port, seed=SEED)
            ),
            trusted=trusted,
        )


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "server.pem")


@pytest.fixture
def other_certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "other.pem")


def test_with_the_right_certificate_events_arrive_and_nothing_is_readable(
    shard: Shard, redis_space: RedisSpace, database: Database, certificate: Path
) -> None:
    traffic = Traffic()
    traffic.add(shard)
    with secured(redis_space, database, certificate, certificate, is_stalled=False) as line:
        settings = shard.settings.model_copy(
            update={
                "redis_consumer_url": SecretStr(line.redis_url(redis_space, "consumer")),
                "redis_janitor_url": SecretStr(line.redis_url(redis_space, "janitor")),
                "writer_url": SecretStr(line.postgres_url(database.writer_url)),
            }
        )
        Shard(settings=settings, redis=shard.redis, sql=shard.sql, key=shard.key).drain()

        assert line.redis_front.secured >= 1
        assert line.postgres_front.secured >= 1
        assert line.clear_text() == []
    traffic.check(shard)


def test_a_wrong_certificate_is_refused_before_anything_is_said(
    redis_space: RedisSpace, database: Database, certificate: Path, other_certificate: Path
) -> None:
    with secured(redis_space, database, other_certificate, certificate, is_stalled=False) as line:
        with (
            Appender(line.redis_url(redis_space), key_prefix=redis_space.prefix) as appender,
            pytest.raises(QueueUnavailable),
        ):
            appender.append_event(0, b"{}")
        with pytest.raises(DatabaseUnavailable):
            connect(line.postgres_url(database.writer_url), application="tests")

        assert line.redis_front.accepted >= 1
        assert line.postgres_front.accepted >= 1
        assert line.redis_front.secured == line.postgres_front.secured == 0
        assert line.clear_text() == []


def test_a_stalled_handshake_ends_by_a_time_out(
    redis_space: RedisSpace, database: Database, certificate: Path
) -> None:
    with secured(redis_space, database, certificate, certificate, is_stalled=True) as line:
        begin_s = time.monotonic()
        with (
            Appender(
                line.redis_url(redis_space), key_prefix=redis_space.prefix, timeout_ms=300
            ) as appender,
            pytest.raises(QueueUnavailable),
        ):
            appender.append_event(0, b"{}")
        with pytest.raises(DatabaseUnavailable):
            connect(
                line.postgres_url(database.writer_url), application="tests", connect_timeout_s=2
            )

        assert time.monotonic() - begin_s < 30
        assert line.redis_front.accepted >= 1
        assert line.postgres_front.accepted >= 1
        assert line.clear_text() == []


def test_a_producer_keeps_its_events_from_a_server_it_does_not_trust(
    redis_space: RedisSpace,
    database: Database,
    certificate: Path,
    other_certificate: Path,
    tmp_path: Path,
) -> None:
    with secured(redis_space, database, other_certificate, certificate, is_stalled=False) as line:
        client = AuditClient.from_env(redis_url=line.redis_url(redis_space), data_dir=tmp_path)
        client.log("user.suspend", entity=("user", "42"))

        assert not client.flush(1)
        assert client.stats().sent == 0
        assert line.redis_front.accepted >= 1
        assert line.clear_text() == []
        client.close(0)


def test_control_without_tls_everything_is_readable(
    redis_space: RedisSpace, database: Database
) -> None:
    postgres_port = urlsplit(database.admin_url).port
    assert postgres_port is not None
    with (
        FaultProxy("127.0.0.1", redis_space.config.port, seed=SEED) as redis_line,
        FaultProxy("127.0.0.1", postgres_port, seed=SEED) as postgres_line,
    ):
        url = redis_line.url(redis_space.url("producer"))
        with Appender(url, key_prefix=redis_space.prefix) as appender:
            appender.append_event(0, b"{}")
        connect(postgres_line.url(database.writer_url), application="tests").close()

        seen = redis_line.seen[Direction.TO_SERVER] + postgres_line.seen[Direction.TO_SERVER]
        assert {secret for secret in SECRETS if secret in seen} >= {b"XADD", b"AUTH", b"writer"}
