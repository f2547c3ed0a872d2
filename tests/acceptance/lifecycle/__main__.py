"""`make e2e-lifecycle`: forty days of rows through their whole life, on a platform of its own."""

import argparse
import os
import random
import sys
import time
from datetime import UTC, datetime

from tests.acceptance.conftest import running_stack
from tests.acceptance.lifecycle.life import live
from tests.acceptance.lifecycle.plan import small_plan, whole_plan
from tests.acceptance.lifecycle.report import table


def main() -> None:
    """Drive, print the table; exit status 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows stored in bulk")
    parser.add_argument("--days", type=int, default=40, help="days that they are spread over")
    parser.add_argument("--seed", type=int, default=None, help="of rows and searches")
    parser.add_argument("--small", action="store_true", help="the plan of make test")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 30) if arguments.seed is None else arguments.seed
    for name in [name for name in os.environ if name.startswith("AUDIT_")]:
        del os.environ[name]  # the platform of this drive, not the developer's
    now = datetime.now(UTC)
    if arguments.small:
        plan = small_plan(now=now, seed=seed)
    else:
        plan = whole_plan(rows=arguments.rows, days=arguments.days, now=now, seed=seed)
    began_s = time.monotonic()
    say(f"{plan.rows:,} rows over {plan.days} days, seed {seed}")
    with running_stack() as stack:
        say(f"platform ready: {time.monotonic() - began_s:.1f} s")
        try:
            outcome = live(stack, plan, say)
        except AssertionError as exc:
            say(f"FAIL it could not go on: {exc}")
            raise
    say(f"\n{table(outcome)}")
    sys.exit(bool(outcome.failures))


def say(line: str) -> None:
    """Print at once: it takes minutes."""
    print(f"{datetime.now(UTC):%H:%M:%S} {line}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
