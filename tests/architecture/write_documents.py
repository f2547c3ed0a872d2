"""`make docs`: writes the documents that are rendered from code and catalog.

Run as `python -m tests.architecture.write_documents`. Repeating it changes nothing.
"""

import tempfile
from pathlib import Path

from audit_platform.db import migrate
from audit_platform.local.ports import any_free_port
from audit_platform.local.postgres import PostgresConfig, PostgresServer, remove
from tests.architecture import data_document, env_example
from tests.architecture.source_tree import ROOT


def main() -> None:
    """Write `.env.example` and `docs/data.md`; name what changed."""
    _write(ROOT / ".env.example", env_example.render())
    _write(ROOT / "docs" / "data.md", _data_document())


def _data_document() -> str:
    """Render the catalog of a database that exists for this call only."""
    with tempfile.TemporaryDirectory(prefix="audit-docs-") as directory:
        place = Path(directory)
        place.chmod(0o711)  # the server does not run as root
        config = PostgresConfig(
            data_dir=place, port=any_free_port(), password="docs", is_durable=False
        )
        server = PostgresServer(config)
        server.start()
        try:
            migrate.migrate(config.url("postgres"))
            return data_document.render(data_document.read_catalog(config.url("postgres")))
        finally:
            server.stop()
            remove(config)


def _write(path: Path, text: str) -> None:
    is_changed = not path.exists() or path.read_text(encoding="utf-8") != text
    path.write_text(text, encoding="utf-8")
    print(f"{path.relative_to(ROOT)}: {'written' if is_changed else 'unchanged'}")  # noqa: T201


if __name__ == "__main__":
    main()
