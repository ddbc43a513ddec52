#!/usr/bin/env python3
"""Write a submission package: python submission/pack.py --edition E --run R --people FILE.yaml --eval-root DIR

R/submission/ gets LABEL.zip (tables, meta.yaml and code as the edition asks for), complexity.json, .md and .html, and
technical_report.md, a skeleton with every number filled in. Parts of an edition: --run split_5=R5 --run split_10=R10;
models of single devices: --run R --run a=RA; several systems in one zip: --run R1 --system --run R2.
The zip is reopened and validated before it takes its name; a refused package leaves nothing behind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import guarded


def parser() -> argparse.ArgumentParser:
    from submission.options import add_system_options
    from system.editions import EDITIONS
    from system.options import add_common_options

    options = argparse.ArgumentParser(prog="submission/pack.py", description="Write and validate a submission package.")
    options.add_argument("--edition", required=True, metavar="E", help=", ".join(EDITIONS))
    options.add_argument("--people", type=Path, metavar="FILE.yaml", help="authors and what no measurement can tell")
    options.add_argument("--eval-root", type=Path, metavar="DIR", help="folder of the evaluation set")
    options.add_argument("--report", type=Path, metavar="FILE.pdf", help="the technical report")
    options.add_argument("--draft", action="store_true", help="fill in missing people and rows, and mark the package")
    options.add_argument("--out", type=Path, metavar="DIR", help="default R/submission")
    add_system_options(options, "a quantized run; PART: a split of 2024 or a device of 2025", required=True)
    add_common_options(options)
    return options


def main(argv: Sequence[str]) -> int:
    from submission.options import system_requests

    args, systems = system_requests(parser(), argv)
    from submission.packing.package import Request, pack

    done = pack(
        Request(
            edition=args.edition,
            systems=systems,
            people=args.people,
            eval_root=args.eval_root,
            report=args.report,
            draft=args.draft,
            out=args.out,
        )
    )
    for warning in done.warnings:
        print(f"note: {warning}", file=sys.stderr)
    rows = f"{done.rows:,} rows, " if done.rows else ""
    print(f"{done.zip_path}: {', '.join(done.labels)}, {rows}validated{', a draft' if done.draft else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
