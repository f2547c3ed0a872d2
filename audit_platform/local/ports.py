"""Ports of the embedded services: is one free, which one to take.

Here: asking the kernel by binding, and choosing. Not here: which setting names which port
(`platform_plan.py`).
Guarantee: a chosen port was free at that moment; the process that binds it later may still lose
it to another program and then says so.
"""

import socket
from random import Random, SystemRandom
from typing import Final

from audit_platform.errors import PortTaken

# Chosen ports stay below the ephemeral range (32768 on Linux), so that no outgoing connection
# holds one of them by chance; above 20000 few services have a registered home.
LOWEST_PORT: Final = 20_000
HIGHEST_PORT: Final = 32_767
TRIES: Final = 200


def is_free(host: str, port: int) -> bool:
    """Say whether a server could listen on `host:port` now.

    Raises:
        PortTaken: `host` is no address of this machine, so no port of it can be taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a connection of the last run that still waits for its end is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except socket.gaierror as exc:
            message = (
                f"Address {host} is not known here: set AUDIT_HOST to an address of this machine."
            )
            raise PortTaken(message, setting="AUDIT_HOST") from exc
        except OSError:
            return False
    return True


def free_port(host: str, *, taken: set[int], random: Random) -> int:
    """Choose a free port between `LOWEST_PORT` and `HIGHEST_PORT`.

    Args:
        host: Address the server will listen on.
        taken: Ports chosen already for servers that have not started; not changed.
        random: Source of the choice; two platforms that start at once must not agree.

    Raises:
        PortTaken: `TRIES` ports in a row were in use.
    """
    for _ in range(TRIES):
        port = random.randint(LOWEST_PORT, HIGHEST_PORT)
        if port not in taken and is_free(host, port):
            return port
    message = (
        f"No free port found on {host} between {LOWEST_PORT} and {HIGHEST_PORT}: "
        "set AUDIT_HOST or the ports."
    )
    raise PortTaken(message, setting="AUDIT_HOST")


def any_free_port() -> int:
    """Choose a free port on loopback for a server that starts now, as tests and benchmarks do.

    Raises:
        PortTaken: `TRIES` ports in a row were in use.
    """
    return free_port("127.0.0.1", taken=set(), random=SystemRandom())


def claim_port(
    host: str, wanted: int, *, setting: str, service: str, taken: set[int], random: Random
) -> int:
    """Return the port a service shall use: the wanted one, or any free one for 0.

    Args:
        host: Address the server will listen on.
        wanted: The setting's value; 0 means any free port.
        setting: Name of the setting, for the message.
        service: Name of the service, for the message.
        taken: Ports chosen already; the result is added.
        random: Source of the choice for 0.

    Raises:
        PortTaken: The wanted port is in use, or no free one was found.
    """
    port = wanted or free_port(host, taken=taken, random=random)
    if wanted and (wanted in taken or not is_free(host, wanted)):
        message = (
            f"Port {wanted} for {service} is in use by another program: "
            f"set {setting} to another port, or to 0 for any free one."
        )
        raise PortTaken(message, setting=setting, port=wanted)
    taken.add(port)
    return port
