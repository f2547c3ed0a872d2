"""Path 1 on the real stack: from `log()` in another process to a row, through sensor and run."""

import pytest

from tests.acceptance.conftest import Stack
from tests.acceptance.dagster_api import eventually
from tests.acceptance.load import loaded

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.timeout(240),
]


def test_an_event_logged_by_another_process_stands_in_the_table_within_seconds(
    stack: Stack,
) -> None:
    with loaded(stack.data_dir, rate=5) as load:
        # From idle the design allows 5 s on an idle machine; tests share theirs.
        eventually(lambda: stack.stored(load.action), within_s=30, what="a row of the application")


def test_everything_an_application_logged_is_stored_once(stack: Stack) -> None:
    with loaded(stack.data_dir, rate=200) as load:
        eventually(
            lambda: len(stack.stored(load.action)) > 400, within_s=60, what="400 stored events"
        )
        report = load.end()

    eventually(
        lambda: len(stack.stored(load.action)) == report.accepted, within_s=30, what="all stored"
    )
    assert report.accepted == report.called == report.sent
    assert set(stack.stored(load.action).values()) == {1}


def test_the_ledger_adds_up_and_names_the_dagster_run(stack: Stack) -> None:
    event_id = stack.send(action="acceptance.ledger")

    run_id = eventually(lambda: stack.storing_run(event_id), within_s=60, what="the event")

    assert stack.api.run(run_id).job == "ingest"
    uneven = "select 1 from audit.ingest_batch where n_read <> n_new + n_dup + n_late + n_bad"
    assert stack.ask(uneven) == []
