"""One of several training processes: ``accelerate launch ... -m mlc.training.launch JOB``, started by the train stage.

The main process prints and writes. The others are silent, but for the traceback of a fault of their own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

from mlc.errors import MlcError


def _end_with(parent: int) -> None:
    """Ends this process when its launcher is gone: torch starts it in a session of its own, where killing the group
    does not reach it."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _end(status: int) -> NoReturn:
    """Ends this process at once, and with the trainer alive; what is to be kept is written.

    Gloo's process group may hang in its destructor: that waits, with the interpreter's lock, for a thread of its own
    that may be waiting for the interpreter's lock. It also hangs where a member of the group is gone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Trains as the file named on the command line says, and exits with 1 after an `MlcError`."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    rank = int(os.environ["RANK"])
    if rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # for as long as the process lives
    from mlc.training import stage

    try:
        _trainer = stage.fit(stage.Job.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")))
        _end(0)
    except MlcError as error:
        if rank == 0:
            print(f"error: {error}", file=sys.stderr)
        _end(1)


if __name__ == "__main__":
    main()
