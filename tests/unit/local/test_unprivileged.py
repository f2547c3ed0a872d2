"""Root writes below /var/tmp only where nobody else can have laid a trap."""

from pathlib import Path

import pytest

from audit_platform.errors import StartRefused
from audit_platform.local.unprivileged import require_trustworthy


def test_own_closed_directory_is_trusted(tmp_path: Path) -> None:
    directory = tmp_path / "own"
    directory.mkdir(mode=0o755)

    require_trustworthy(directory)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(mode)

    with pytest.raises(StartRefused, match="not safe"):
        require_trustworthy(directory)


def test_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / "link"
    link.symlink_to(target)

    with pytest.raises(StartRefused, match="AUDIT_DATA_DIR"):
        require_trustworthy(link)
