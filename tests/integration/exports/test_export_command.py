"""`audit-platform export` as a person types it; killed and begun again."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from audit_platform.settings import Settings
from tests.conftest import Database
from tests.integration.exports.stored import recent, store_events

pytestmark = pytest.mark.integration

COMMAND = str(Path(sys.executable).with_name("audit-platform"))


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """The services of this test, as a shell beside the platform would find them."""
    urls = ("maint_url", "reader_url", "redis_url")
    found = {f"AUDIT_{name.upper()}": getattr(settings, name).get_secret_value() for name in urls}
    found |= {"AUDIT_KEY_PREFIX": settings.key_prefix, "AUDIT_DATA_DIR": str(settings.data_dir)}
    return dict(os.environ) | found


def command(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_writes_files_and_says_where(
    database: Database, environment: dict[str, str], tmp_path: Path
) -> None:
    ids = store_events(database, recent(10))

    made = command(environment, "export", "-f", "ndjson", "--tenant", "acme", "--name", "a")

    assert made.returncode == 0, made.stderr
    assert exported_ids(tmp_path / "exports" / "a", "ndjson") == ids
    assert made.stdout.startswith("10 events in 1 file, ")
    manifest = tmp_path / "exports" / "a" / "manifest.json"
    assert f"{manifest.as_uri()}  sha256 " in made.stdout
    assert made.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-f", "xlsx"), "use csv, ndjson, parquet"),
        (("-f", "csv", "--since", "soon"), "since 'soon' is no time"),
        (("-f", "csv", "--name", "../x"), "cannot be used"),
        (("-f", "csv", "--rows-per-file", "0"), "rows per file"),
        (("-f", "csv", "--to", "ftp://x/y"), "ftp://x/y"),
    ],
)
def test_wrong_option_is_one_line_and_exit_code_2(
    environment: dict[str, str], arguments: tuple[str, ...], words: str
) -> None:
    refused = command(environment, "export", *arguments)

    assert refused.returncode == 2
    assert words in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_killed_export_goes_on_and_holds_each_event_once(
    database: Database, environment: dict[str, str], tmp_path: Path, form: str
) -> None:
    ids = store_events(database, recent(12_000))
    arguments = ["export", "-f", form, "--name", "a", "--rows-per-file", "700"]
    place = tmp_path / "exports" / "a"
    process = subprocess.Popen([COMMAND, *arguments], env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(place.glob("events.0003.*")):
        assert process.poll() is None, "it ended before the kill"
        assert time.monotonic() < deadline
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    assert not (place / "manifest.json").exists()

    again = command(environment, *arguments)

    assert again.returncode == 0, again.stderr
    assert exported_ids(place, form) == ids
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=place, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    assert sorted(path.name for path in place.iterdir())[:2] == [
        "SHA256SUMS",
        f"events.0000.{form}",
    ]
    assert not list(place.glob("*.tmp")) + list(place.glob("progress.json"))


def exported_ids(place: Path, form: str) -> list[str]:
    """Ids of all files, in order."""
    found: list[str] = []
    for path in sorted(place.glob("events.*")):
        if form == "parquet":
            found += [str(one) for one in pq.read_table(path).column("id").to_pylist()]
        elif form == "csv":
            text = io.StringIO(path.read_bytes().decode(), newline="")
            found += [line["id"] for line in csv.DictReader(text)]
        else:
            found += [json.loads(line)["id"] for line in path.read_bytes().splitlines()]
    return found
