"""A producer process: logs events of mixed classes through the SDK and notes each in its history.

Run by `kept.py` with `-m`. One thread per history file, so that the order of the calls is the
order of the lines. Ends in good order on SIGTERM or by order: `close()`, exit status 0.
"""

import time
from pathlib import Path
from random import Random
from typing import Any

from audit_platform.client import AuditClient, Durability
from audit_platform.errors import AuditPlatformError
from audit_platform.settings import load_client_settings
from tests.chaos.harness.history import HistoryFile, Mark, new_event_id
from tests.chaos.harness.orders import Orders

LONGEST_PAUSE_S = 0.05
SHORTEST_PAUSE_S = 0.002


def main() -> None:
    """Log until told to end, then close."""
    log_until_ordered(Orders())


def log_until_ordered(orders: Orders) -> None:
    """Log, then settle, then close, as the orders come."""
    config = orders.config
    client = AuditClient(load_client_settings(**config["settings"]), handle_sigterm=False)
    with HistoryFile(Path(config["histories"]), config["name"], start=config["start"]) as history:
        _log_until_end(client, history, orders)
        client.close()
        history.closed()


def _log_until_end(client: AuditClient, history: HistoryFile, orders: Orders) -> None:
    config = orders.config
    rate, limit = float(config["rate"]), config.get("limit")
    classes = [Durability(name) for name in config["classes"]]
    weights = list(config["classes"].values())
    random = Random(f"{config['seed']}/{config['name']}/{config['start']}")
    number, began_s = 0, time.monotonic()
    while not orders.end.is_set():
        if orders.quiet.is_set() or (limit is not None and number >= limit):
            orders.end.wait(LONGEST_PAUSE_S)
            continue
        due_s = began_s + number / rate - time.monotonic() if rate else 0.0
        if due_s > SHORTEST_PAUSE_S:
            orders.end.wait(min(due_s, LONGEST_PAUSE_S))
            continue
        if due_s < -1:
            # A frozen process does not catch up: that would be a burst nobody asked for.
            began_s -= due_s
        _log(client, history, random.choices(classes, weights)[0], number)
        number += 1


def _log(client: AuditClient, history: HistoryFile, durability: Durability, number: int) -> None:
    event_id = new_event_id()
    arguments: dict[str, Any] = {
        "id": event_id,
        "entity": ("chaos", str(number)),
        "metadata": {"number": number, "text": "x" * (number % 200)},
        "durability": durability,
    }
    history.attempt(event_id, durability)
    try:
        client.log(f"chaos.{durability}", **arguments)
    except AuditPlatformError:
        # `durable` alone may raise; the record may be on the disk nevertheless.
        history.outcome(Mark.UNKNOWN, event_id)
    else:
        history.outcome(Mark.OK, event_id)


if __name__ == "__main__":
    main()
