"""The picture of which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from system.files import write_with


def plot_confusion(scores: Mapping[str, Any], path: Path) -> None:
    """Draw the confusion matrix of `scores` in percent of each true class; the format is `path`'s suffix."""
    from matplotlib.figure import Figure

    classes = scores["confusion"]["classes"]
    counts = np.array(scores["confusion"]["matrix"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.5 * len(classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
    # a class may be named with dollar signs
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"{scores['split']}: macro accuracy {100 * scores['accuracy']:.1f} %, n = {scores['n']:,}")
    for row, column in np.ndindex(*shares.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="% of the true class")
    write_with(path, lambda part: figure.savefig(part, dpi=120))
