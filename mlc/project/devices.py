"""Which GPUs there are."""

from __future__ import annotations

import shutil
import subprocess


def gpus() -> list[str]:
    """Name and memory of each GPU, by nvidia-smi, which answers at once: torch takes seconds to import."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    done = subprocess.run([tool, "--query-gpu=name,memory.total", "--format=csv,noheader"],
                          capture_output=True, text=True)  # fmt: skip
    return [] if done.returncode else done.stdout.strip().splitlines()
