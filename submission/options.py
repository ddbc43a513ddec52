"""The options that every script of TinyScene has, where they change nothing."""

from __future__ import annotations

import argparse


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """--device and --seed, so that one set of options fits every script."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="as in every script; here it changes nothing: integer models run on the processor",
    )
    parser.add_argument("--seed", type=int, default=0, help="as in every script; nothing here is random")
