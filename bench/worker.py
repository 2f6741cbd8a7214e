"""One contestant in a process of its own: ``python -m bench.worker <contestant> <workload's folder>``.

Standard input brings the orders, standard output takes the answers of `pace.Pace`; what libraries print goes to
standard error.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

from bench.contestants import by_name
from bench.pace import Pace
from bench.workload import read_workload


def main() -> None:
    """Run the contestant until no more orders come."""
    contestant, folder = by_name(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    workload = read_workload(folder)
    pace = Pace(sys.stdin, answers, workload.warm_up, workload.steps)
    import_module(contestant.module).run(contestant, folder, pace)


if __name__ == "__main__":
    main()
