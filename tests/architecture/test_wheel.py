"""The wheel holds what the package reads at run time, and its command starts."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source_tree import PACKAGE, ROOT

DATA = [
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.sql", "*.yaml", "*.mako")
    for path in sorted(PACKAGE.rglob(pattern))
]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once with the build backend of the environment: no download."""
    directory = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    (path,) = directory.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content in a directory that stands before the checkout on the path."""
    directory = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(directory)
    return directory


@pytest.mark.parametrize("name", DATA)
def test_wheel_holds_data_file(unpacked: Path, name: str) -> None:
    assert (unpacked / name).is_file()


def test_package_has_data_files_of_each_kind() -> None:
    kinds = {Path(name).suffix for name in DATA}

    assert {".sql", ".yaml"} <= kinds
    assert "audit_platform/local/dagster.yaml" in DATA


def test_wheel_holds_neither_tests_nor_caches(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir()}

    assert {name for name in tops if not name.endswith(".dist-info")} == {"audit_platform"}
    assert not list(unpacked.rglob("__pycache__"))


def test_command_of_the_wheel_starts(unpacked: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(unpacked)!r})
import audit_platform.cli.app as app
assert app.__file__.startswith({str(unpacked)!r}), app.__file__
sys.argv = ["audit-platform", "--help"]
app.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True, cwd=tmp_path
    )

    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
