#!/usr/bin/env python3
"""Write a submission package: python submission/pack.py --edition E --run R --people FILE.yaml --eval-root DIR

R/submission/ gets LABEL.zip (output.csv and meta.yaml as the edition asks for), complexity.json and complexity.md.
The zip is reopened and validated before it takes its name; a refused package leaves nothing behind.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import ConfigError, guarded


def named_run(text: str) -> tuple[str, Path]:
    """`split_5=runs/A` -> ("split_5", path); `runs/A` -> ("", path). A folder of that very name comes first."""
    part, equals, folder = text.partition("=")
    return (part, Path(folder)) if equals and "/" not in part and not Path(text).exists() else ("", Path(text))


def parser() -> argparse.ArgumentParser:
    from system.options import add_common_options

    options = argparse.ArgumentParser(prog="submission/pack.py", description="Write and validate a submission package.")
    options.add_argument("--edition", required=True, metavar="E", help="2022, or own for any data set")
    options.add_argument(
        "--run", required=True, action="append", type=named_run, metavar="[PART=]R", help="a quantized run"
    )
    options.add_argument("--backend", default="brevitas", help="which R/quant/BACKEND is packed (default brevitas)")
    options.add_argument("--people", type=Path, metavar="FILE.yaml", help="authors and what no measurement can tell")
    options.add_argument("--label", help="submission label; default: from the corresponding author")
    options.add_argument("--eval-root", type=Path, metavar="DIR", help="folder of the evaluation set")
    options.add_argument("--label-map", type=Path, metavar="FILE.yaml", help="class of the run: class of the edition")
    options.add_argument("--draft", action="store_true", help="fill in missing people and rows, and mark the package")
    options.add_argument("--out", type=Path, metavar="DIR", help="default R/submission")
    add_common_options(options)
    return options


def main(argv: Sequence[str]) -> int:
    args = parser().parse_args(argv)
    from submission.package import Request, pack

    parts = [part for part, _ in args.run]
    if len(set(parts)) != len(parts):
        raise ConfigError(f"--run: the same part twice among {', '.join(part or 'R' for part in parts)}")
    done = pack(
        Request(
            edition=args.edition,
            runs=dict(args.run),
            backend=args.backend,
            people=args.people,
            label=args.label,
            eval_root=args.eval_root,
            label_map=args.label_map,
            draft=args.draft,
            out=args.out,
        )
    )
    for warning in done.warnings:
        print(f"note: {warning}", file=sys.stderr)
    print(f"{done.zip_path}: {done.rows:,} rows, validated{', a draft' if done.draft else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
