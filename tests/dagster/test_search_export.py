"""The job `search_export` on a real instance: what a person fills in, what it shows, going on."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from audit_platform.assets.search_exports import SEARCH_EXPORT
from audit_platform.exports.progress import ExportProgress
from audit_platform.jobs.search_export import EXPORT_OP, PROGRESS_TAG, ExportObserver
from audit_platform.settings import Settings
from tests.conftest import Database
from tests.dagster.location import location_of
from tests.factories import event
from tests.integration.events.store import frame_of, open_writer

pytestmark = [pytest.mark.dagster, pytest.mark.integration]

NOW = datetime.now(UTC)


def store(database: Database, count: int) -> list[str]:
    """Store events, newest first; returns their ids."""
    made = [event(timestamp=NOW - timedelta(seconds=n + 1)) for n in range(count)]
    writer = open_writer(database.writer_url)
    writer.save(frame_of(made))
    writer.connection.close()
    return [one["id"] for one in made]


def config(**fields: Any) -> dict[str, Any]:
    return {"ops": {EXPORT_OP: {"config": {"format": "NDJSON", **fields}}}}


def launch(
    settings: Settings, instance: dg.DagsterInstance, given: dict[str, Any], **options: Any
) -> dg.ExecuteInProcessResult:
    job = location_of(settings).resolve_job_def("search_export")
    return job.execute_in_process(instance=instance, run_config=given, **options)


def exported(settings: Settings, name: str) -> list[str]:
    files = sorted((settings.data_dir / "exports" / name).glob("events.*"))
    return [json.loads(line)["id"] for file in files for line in file.read_bytes().splitlines()]


def observations(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    found = instance.fetch_observations(dg.AssetKey(SEARCH_EXPORT), limit=50).records
    return [
        {name: value.value for name, value in record.asset_observation.metadata.items()}
        for record in reversed(found)
        if record.asset_observation is not None
    ]


def test_run_writes_the_search_and_shows_the_manifest(
    database: Database, settings: Settings, instance: dg.DagsterInstance
) -> None:
    ids = store(database, 30)

    result = launch(settings, instance, config(tenant="acme", name="march", rows_per_file=20))

    assert result.success
    assert exported(settings, "march") == ids
    (shown,) = observations(instance)
    assert (shown["export"], shown["rows"], shown["files"]) == ("march", 30, 2)
    assert shown["query"]["tenant_id"] == "acme"
    assert Path(shown["manifest"]).is_file()
    assert [record.data["rows"] for record in shown["written files"].records] == [20, 10]


def test_export_without_a_name_is_named_after_its_first_run(
    database: Database, settings: Settings, instance: dg.DagsterInstance
) -> None:
    store(database, 3)

    result = launch(settings, instance, config())

    assert len(exported(settings, f"run-{result.run_id}")) == 3


def test_failed_run_goes_on_when_it_is_executed_again(
    database: Database, settings: Settings, instance: dg.DagsterInstance
) -> None:
    """As the button "Re-execute" does: another run of the same root."""
    ids = store(database, 30)
    broken = settings.model_copy(update={"reader_url": settings.maint_url})
    failed = launch(
        broken,
        instance,
        config(tenant="acme", since="broken"),
        raise_on_error=False,
    )
    assert not failed.success

    again = launch(
        settings,
        instance,
        config(tenant="acme"),
        tags={"dagster/root_run_id": failed.run_id, "dagster/parent_run_id": failed.run_id},
    )

    assert again.success
    assert exported(settings, f"run-{_root(instance, again)}") == ids


def _root(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> str:
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run.root_run_id or run.run_id


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"since": "soon"}, "since 'soon' is no time"),
        ({"name": "../x"}, "cannot be used"),
        ({"status": "broken"}, "is not one of"),
        ({"where": ["nothing"]}, "path=value"),
        ({"rows_per_file": 0}, "rows per file is 0"),
        ({"most_rows": -1}, "most rows is -1"),
    ],
)
def test_wrong_word_fails_the_run_with_what_to_write_instead(
    settings: Settings, instance: dg.DagsterInstance, fields: dict[str, Any], words: str
) -> None:
    result = launch(settings, instance, config(**fields), raise_on_error=False)

    failure = result.failure_data_for_node(EXPORT_OP)
    assert failure is not None
    assert words in str(failure)
    assert not result.filter_events(lambda one: one.event_type_value == "STEP_UP_FOR_RETRY")
    assert not (settings.data_dir / "exports").exists()


def test_launchpad_refuses_a_form_that_it_does_not_know(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="ExportFormat got xlsx"):
        launch(settings, instance, config(format="xlsx"))


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def progress(rows: int, share: float | None) -> ExportProgress:
    return ExportProgress(rows=rows, bytes_=10 * rows, files=1, reached=NOW, share=share)


def test_observer_speaks_at_its_interval_and_tags_every_twentieth() -> None:
    told: list[dict[str, Any]] = []
    tags: list[str] = []
    clock = Clock()

    def log_event(observation: dg.AssetObservation) -> None:
        told.append({name: value.value for name, value in observation.metadata.items()})

    observer = ExportObserver(log_event, tag=tags.append, name="march", interval_s=10, clock=clock)
    for second in range(41):
        clock.now_s = 100.0 + second
        observer.report(progress(1_000 * (second + 1), second / 400))

    assert [numbers["rows"] for numbers in told] == [11_000, 21_000, 31_000, 41_000]
    assert {numbers["rows_per_s"] for numbers in told} == {1_000.0}
    assert told[-1]["percent"] == 10.0
    assert tags == ["5%, 21,000 rows", "10%, 41,000 rows"]
    assert PROGRESS_TAG == "audit/progress"


def test_speed_of_a_resumed_export_counts_its_own_rows_only() -> None:
    told: list[dict[str, Any]] = []
    clock = Clock()
    observer = ExportObserver(
        lambda observation: told.append(dict(observation.metadata)),
        tag=lambda _: None,
        name="march",
        interval_s=10,
        clock=clock,
    )

    observer.report(progress(500_000, None))
    clock.now_s += 10
    observer.report(progress(510_000, None))

    assert told[0]["rows_per_s"].value == 1_000.0
    assert "percent" not in told[0]


def test_storage_of_dagster_that_takes_nothing_does_not_end_an_export() -> None:
    clock = Clock()

    def refuse(_: dg.AssetObservation) -> None:
        raise ConnectionError("server closed the connection unexpectedly")

    observer = ExportObserver(refuse, tag=lambda _: None, name="a", interval_s=1, clock=clock)
    clock.now_s += 5

    observer.report(progress(1, None))
