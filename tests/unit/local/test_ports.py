"""Ports: free, taken, chosen."""

import socket
from random import Random

import pytest

from audit_platform.errors import PortTaken
from audit_platform.local.ports import HIGHEST_PORT, LOWEST_PORT, claim_port, free_port, is_free

HOST = "127.0.0.1"


def test_listening_server_takes_its_port() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]

        assert not is_free(HOST, port)
    assert is_free(HOST, port)


def test_server_on_all_addresses_takes_the_port_too() -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - what is tested
        assert not is_free(HOST, server.getsockname()[1])


def test_chosen_port_lies_below_the_ephemeral_range() -> None:
    chosen = {free_port(HOST, taken=set(), random=Random(seed)) for seed in range(20)}

    assert all(LOWEST_PORT <= port <= HIGHEST_PORT < 32_768 for port in chosen)
    assert len(chosen) > 15


def test_chosen_port_avoids_those_already_taken() -> None:
    first = free_port(HOST, taken=set(), random=Random(1))

    second = free_port(HOST, taken={first}, random=Random(1))

    assert second != first


def test_taken_port_names_service_and_setting() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]

        with pytest.raises(PortTaken) as refused:
            _claim(port)

    assert str(port) in refused.value.message
    assert "AUDIT_REDIS_PORT" in refused.value.message
    assert "redis" in refused.value.message


def test_two_services_cannot_claim_one_port() -> None:
    port = free_port(HOST, taken=set(), random=Random(7))

    with pytest.raises(PortTaken):
        _claim(port, taken={port})


def test_zero_claims_any_free_port_and_remembers_it() -> None:
    taken: set[int] = set()

    port = claim_port(
        HOST, 0, setting="AUDIT_REDIS_PORT", service="redis", taken=taken, random=Random(3)
    )

    assert taken == {port}


def test_unknown_address_names_its_setting() -> None:
    with pytest.raises(PortTaken, match="AUDIT_HOST"):
        is_free("no-such-host.invalid", 1)


def _claim(port: int, *, taken: set[int] | None = None) -> int:
    return claim_port(
        HOST,
        port,
        setting="AUDIT_REDIS_PORT",
        service="redis",
        taken=set() if taken is None else taken,
        random=Random(0),
    )
