"""How mypy sees the sources."""

from __future__ import annotations

from pathlib import Path

from luna_command import lint


class TestLint:
    def test_the_view_shows_the_sources_under_their_package_names(self, tmp_path, root):
        view = tmp_path / "view"
        lint.link_sources(root, view)
        lint.link_sources(root, view)  # again: what was there is replaced
        assert (view / "luna_collection" / "luna_daemon" / "daemon_server.py").is_file()
        assert (view / "luna_collection" / "__init__.py").is_file()
        assert (view / "luna_command" / "lint.py").is_file()

    def test_messages_name_files_of_the_checkout(self):
        view = Path(".luna") / "typecheck"
        output = (
            f"{view / 'luna_collection' / 'utils' / 'log.py'}:3: error: no\n"
            f"{view / 'luna_command' / 'lint.py'}:1: error: no\n"
        )
        assert lint.as_paths_of_checkout(output, view).splitlines() == [
            f"{Path('utils') / 'log.py'}:3: error: no",
            "scripts/luna_command/lint.py:1: error: no",
        ]
