"""Do published sets pass validation at the defaults, and what of them is in quarantine?

    python benchmarks/published.py --polyrefuse FOLDER --multijail FILE.csv

Each set is imported as a user imports it and validated with params.yaml as it is. Some of its rows, drawn by a seed,
are the alignment set, for which every served language is needed; all others are the evaluation set, which the tables
are about. Texts are never printed.
"""

# ruff: noqa: E402  (imports from the checkout)
from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mlc.errors import QualityError
from mlc.paths import Paths
from mlc.prompts.schema import languages_of, read_prompts, write_prompts
from mlc.quality import stage
from mlc.quality.limits import share_bounds
from mlc.settings import Languages, load_settings
from mlc.text import with_interval

SOURCE = "en"


def validated(layout: str, published: Path, alignment: int, transfer: tuple[str, ...]) -> tuple[dict[str, Any], bool]:
    """``metrics.json`` of a set, and whether it passed."""
    settings = load_settings(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        paths.params.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
        mlc = [sys.executable, "-c", "from mlc.cli import main; main()"]
        command = [*mlc, "import", layout, str(published.resolve()), "--into", "whole.jsonl"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)
        rows = read_prompts(paths.root / "whole.jsonl")
        tags = languages_of(paths.root / "whole.jsonl")[1]
        random.Random(0).shuffle(rows)
        write_prompts(paths.data / "alignment.jsonl", rows[:alignment])
        write_prompts(paths.data / "evaluation.jsonl", rows[alignment:])
        served = (SOURCE, *sorted(tags - {SOURCE, *transfer}))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(QualityError):
            stage.run(Languages(source=SOURCE, served=served, transfer=transfer), settings.validate_, paths)
        metrics: dict[str, Any] = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    return metrics, bool(metrics["passed"])


def table(metrics: dict[str, Any]) -> str:
    limits = {(limit["set"], limit["language"], limit["check"]): limit["failed"] for limit in metrics["limits"]}
    lines = [
        "| language | texts | in quarantine | share (95% interval) | limit of 2% | for |",
        "|---|---|---|---|---|---|",
    ]
    for tag, of in metrics["evaluation"].items():
        low, high = share_bounds(of["quarantined"], of["variants"])
        share = with_interval({"value": of["quarantined"] / of["variants"], "low": low, "high": high})
        failed = limits.get(("evaluation", tag, "quarantined"))
        word = "passed" if failed is None else "failed" if failed else "warned"
        reasons = ", ".join(f"{check} {n}" for check, n in sorted(of["reasons"].items(), key=lambda item: -item[1]))
        lines.append(f"| {tag} | {of['variants']} | {of['quarantined']} | {share} | {word} | {reasons} |")
    return "\n".join(lines)


def main(
    polyrefuse: Annotated[Path | None, typer.Option(help="its folder, as published")] = None,
    multijail: Annotated[Path | None, typer.Option(help="its CSV file")] = None,
) -> None:
    """Prints a table of each set in Markdown."""
    # Harmless Chinese does not exist, so Chinese cannot be served: half of it is missing.
    for name, published, alignment, transfer in (
        ("polyrefuse", polyrefuse, 29, ("zh",)),
        ("multijail", multijail, 15, ()),
    ):
        if published is not None:
            metrics, passed = validated(name, published, alignment, transfer)
            rows = metrics["rows"]["evaluation"]
            word = "passes" if passed else "fails"
            print(f"\n{name} {word}: {rows['clean']} of {rows['read']} rows clean\n\n{table(metrics)}")


if __name__ == "__main__":
    typer.run(main)
