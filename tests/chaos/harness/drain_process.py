"""A process that drains shard 0 for as long as it lives, as one Dagster run after another would.

Run by `kept.py` with `-m`. Each process has one run id, so that its successor can name it as dead.
"""

from audit_platform.events.drain import run_drain
from audit_platform.events.tally import DrainReport, EndReason
from audit_platform.settings import load_settings
from tests.chaos.harness.orders import Orders

BETWEEN_RUNS_S = 0.1


def main() -> None:
    """Drain until SIGTERM or the order to end."""
    drain_until_end(Orders())


def drain_until_end(orders: Orders) -> None:
    """One run after another under one run id."""
    config = orders.config
    settings = load_settings(**config["settings"])
    name, start = config["name"], config["start"]
    while not orders.end.is_set():
        summary = run_drain(
            settings,
            shard=0,
            run_id=f"{name}-{start}",
            dead_run_id=f"{name}-{start - 1}" if start else None,
            report=_ignore,
        )
        if summary.ended_because is EndReason.STOP:
            return
        orders.end.wait(BETWEEN_RUNS_S)


def _ignore(_report: DrainReport) -> None:
    """Nobody reads the observations here."""


if __name__ == "__main__":
    main()
