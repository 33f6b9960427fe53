"""Two set-ups at a time: the second waits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class TestLock:
    HOLD = (
        "import sys; sys.path.insert(0, {scripts!r});"
        "from pathlib import Path; from luna_command.lock import exclusive\n"
        "with exclusive(Path({path!r}), 'waiting'):\n"
        "    print('held', flush=True); {body}"
    )

    def start(self, root: Path, path: Path, body: str) -> subprocess.Popen[str]:
        script = self.HOLD.format(scripts=str(root / "scripts"), path=str(path), body=body)
        return subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def test_the_second_waits_until_the_first_is_done(self, tmp_path, root):
        path = tmp_path / "state" / "setup.lock"
        with self.start(root, path, "sys.stdin.read()") as first:
            assert first.stdout.readline() == "held\n"
            with self.start(root, path, "pass") as second:
                assert second.stdout.readline() == "waiting\n"
                first.stdin.close()
                assert second.stdout.readline() == "held\n"
                second.stdin.close()

    def test_a_killed_holder_leaves_nothing_behind(self, tmp_path, root):
        path = tmp_path / "setup.lock"
        with self.start(root, path, "sys.stdin.read()") as first:
            assert first.stdout.readline() == "held\n"
            first.kill()
            first.wait()
            with self.start(root, path, "pass") as second:
                assert second.stdout.readline() == "held\n"
                second.stdin.close()
