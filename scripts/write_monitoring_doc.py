"""Write the table of docs/monitoring.md anew from luna_daemon/monitoring/metric_families.py; the rest stays.

Run it with the interpreter of .venv: python scripts/write_monitoring_doc.py
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = re.compile(r"^\| metric \|.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Write the file."""
    sys.path.insert(0, str(ROOT / "luna_daemon"))
    importlib.import_module("package_alias").load_package()
    families = importlib.import_module("luna_collection.luna_daemon.monitoring.metric_families")
    page = ROOT / "docs" / "monitoring.md"
    text = page.read_text("utf-8").rstrip("\n")
    page.write_text(TABLE.sub(lambda _: families.metrics_table(), text, count=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
