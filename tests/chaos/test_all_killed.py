"""F22: every process dies by SIGKILL at one moment; they come back in each of six orders."""

import time

import pytest

from tests.chaos.harness.extent import amount, start_number
from tests.chaos.harness.fast_stack import fast_stack
from tests.chaos.harness.kills import RESTART_ORDERS, kill_everything
from tests.chaos.harness.report import publish, result_of

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

ORDERS = amount(RESTART_ORDERS[:1], RESTART_ORDERS)
RECOVERY_LIMIT_S = 90.0


def test_everything_killed_at_once_comes_back_in_any_order() -> None:
    seed, began_s = start_number(), time.monotonic()
    with fast_stack(seed=seed, producers=2) as stack:
        for order in ORDERS:
            fault = stack.recoveries.begin(f"everything, {' '.join(order)}"[:34])
            hit = kill_everything(stack, order)
            fault.is_proved, fault.kills = hit.is_proved, hit.kills
            assert stack.recoveries.wait_until_all(within_s=RECOVERY_LIMIT_S), order
        verdict = stack.settle(within_s=90)
        seen = stack.reader.stop()
        publish(
            result_of(
                "all killed",
                versions=stack.services.versions(),
                seed=seed,
                seconds=time.monotonic() - began_s,
                verdict=verdict,
                faults=stack.recoveries.faults,
                seen=seen,
            )
        )

        assert all(fault.is_proved for fault in stack.recoveries.faults)
        assert verdict.problems() == []
        assert (seen.duplicates, seen.vanished) == (0, 0)
