"""`make bench`: every figure as a ratio of two sides measured in one run; a table, and build/bench.json."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
BENCHMARKS = (
    "start",
    "rebuild",
    "validation",
    "lsp",
    "wire",
    "serving",
    "soak",
    "watching",
    "package",
    "upload",
    "conversion",
    "emulator",
    "listener",
    "records",
    "transform",
    "pipe",
    "training",
    "differential",
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; 1 when a figure misses its target."""
    console = Console(highlight=False)
    sys.path.insert(0, str(Path(__file__).parent))
    table = Table("figure", "ours ms", "other ms", "ratio", "target", "", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    rows = []
    for name in names or BENCHMARKS:
        with console.status(f"{name} ..."):
            rows += importlib.import_module(name).run()
    for row in rows:
        mark = "" if not row["target"] else "[green]ok[/green]" if row["ok"] else "[red]missed[/red]"
        figures = (f"{row[key]:.3f}" for key in ("ours_ms", "other_ms"))
        table.add_row(row["name"], *figures, f"{row['ratio']:.2f}", row["target"], mark)
    console.print(table)
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(rows, indent=1) + "\n")
    console.print(f"written to {target.relative_to(ROOT)}")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
