"""Runs the whole corpus of bad input in one process of little memory.

``python -m support.attempt`` prints a JSON line per case: before it, its name; after it, the
outcome and the seconds of processor time it took. A case that hangs kills the process: its name is
the last line.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from converter.sources import open_source
from facenet_common.errors import FacenetError
from support import fakes, hostile

HEADROOM = 768 << 20  # bytes of address space above what the process has at its start
LIMIT = 20.0  # seconds of processor time for one case; the slowest takes about 4 on a slow core


def main(names: list[str]) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    roof = pages * resource.getpagesize() + HEADROOM
    for name in names or list(hostile.FILES):
        with tempfile.TemporaryDirectory() as folder:
            path = hostile.FILES[name](Path(folder))
            print(json.dumps({"name": name}), flush=True)
            resource.setrlimit(resource.RLIMIT_AS, (roof, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_PROF, LIMIT)  # no handler: C loops end, too
            start = time.process_time()
            try:
                outcome = f"yielded {sorted(fakes.loaded(open_source(path)))[:3]}"
            except FacenetError as error:
                outcome = type(error).__name__
                str(error)
            except BaseException as error:
                outcome = f"raised {type(error).__name__}: {error}"[:300]
            seconds = time.process_time() - start
            signal.setitimer(signal.ITIMER_PROF, 0)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        print(json.dumps({"name": name, "outcome": outcome, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
