"""Records -> tables, figures and one page:   python -m bench.report [records=DIR[,DIR...]] [out=DIR] [...]

records     folders to read; default results/runs and every folder of results/reference
out         folder to write; default results/report
reference   the solver that ratios are over, one that there are records of; default otflow
allow       what may differ between runs in one table, and is said in each: any of bench.report.options.NAMES, as in
            allow=threads,seeds; default nothing
paper.venue neurips, icml, aaai, jmlr or tmlr: figures of its widths and fonts, as SVG and PGF too, macros.tex with the
            numbers, and paper.tex, which includes everything
only        tables or figures: these alone, in the place of those in out; a page or a paper there stays as it was

Exit code 0; 1 if there is nothing to report; 2 if a file among the records is not one (it is named and left out).
"""

import gc
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from bench.commandline import Usage
from bench.report.beside import Lost
from bench.report.options import parse


def main(arguments: Sequence[str]) -> int:
    """The command; gives its exit code."""
    if {"-h", "--help"} & set(arguments):
        Console(soft_wrap=True).print(Text(__doc__ or ""))
        return 0
    try:
        options = parse(arguments)
        from bench.report.build import report  # seconds of imports, which bad arguments do without

        return report(options)
    except (Usage, Lost, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(Text(f"bench.report: {error}"))
        return 1


if __name__ == "__main__":
    gc.set_threshold(50_000)  # records have no cycles: else all of them are gone through again and again
    sys.exit(main(sys.argv[1:]))
