"""The roadmap's table and picture: Table 1 of the KT report (paper 002) beside what was trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from system.dataset import PreparedData
from system.files import read_json, write_csv, write_json, write_text, write_with
from system.models.catalog import CATALOG
from system.models.entry import agrees
from system.models.kt import Step
from system.models.network import complexity
from system.spec import ExperimentSpec

Row = dict[str, Any]
METRICS = ("accuracy", "log_loss")
COLUMNS = (
    "step", "label", "adopted", "params_published", "params", "params_apart", "macs_published", "macs", "macs_apart",
    "accuracy_published", "accuracy", "accuracy_low", "accuracy_high", "accuracy_spread",
    "log_loss_published", "log_loss", "log_loss_low", "log_loss_high", "log_loss_spread", "seeds", "seconds",
)  # fmt: skip


class Training(NamedTuple):
    """One step with one seed, and its run folder."""

    step: Step
    spec: ExperimentSpec
    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / "best"

    @property
    def finished(self) -> bool:
        return (self.best / "scores.json").is_file()


def rows_of(trainings: Sequence[Training], classes: int) -> list[Row]:
    """One row per step, in order; what is not trained yet has None for scores.

    Scores are means over the seeds. Intervals are the 95 % bootstrap over sources (scores.json), their ends averaged
    over seeds; the spread is the standard deviation over seeds, None for a single one. Accuracies are shares.
    """
    by_step: dict[str, list[Training]] = {}
    for training in trainings:
        by_step.setdefault(training.step.name, []).append(training)
    return [_row(group[0].step, group, classes) for group in by_step.values()]


def _row(step: Step, group: Sequence[Training], classes: int) -> Row:
    entry, published = CATALOG[step.name], step.published
    assert entry.spec is not None
    cost = complexity(entry.spec, entry.shape, entry.classes, "train")
    spec = group[0].spec
    here = {form: complexity(spec.model, spec.input_shape(), classes, form) for form in ("train", "deploy")}
    row: Row = {
        "step": step.name,
        "label": step.label,
        "adopted": step.adopted,
        "change": {key: value for key, value in step.change.items() if key not in ("width", "stages")},
        "widths": list(spec.model.widths()),
        "params_published": published.params,
        "params": cost.params,
        "params_apart": _apart(cost.params, published.params),
        "macs_published": published.macs,
        "macs": cost.macs_torchinfo,
        "macs_apart": _apart(cost.macs_torchinfo, published.macs),
        "trained": {form: {"params": c.params, "macs": c.macs} for form, c in here.items()},
        "accuracy_published": None if published.accuracy is None else published.accuracy / 100,
        "log_loss_published": published.log_loss,
    }
    scores = [read_json(t.best / "scores.json", "system/run.py roadmap") for t in group if t.finished]
    for metric in METRICS:
        values = [score[metric] for score in scores]
        row[metric] = fmean(values) if values else None
        for end, name in enumerate(("low", "high")):
            row[f"{metric}_{name}"] = fmean(score["interval"][metric][end] for score in scores) if scores else None
        row[f"{metric}_spread"] = stdev(values) if len(values) > 1 else None
        row[f"{metric}_by_seed"] = values
    row["seeds"] = len(scores)
    row["seconds"] = fmean(score["train_seconds"] for score in scores) if scores else None
    return row


def _apart(found: int, published: int | None) -> float | None:
    """The relative difference; none where it is less than the digits that were printed."""
    return None if published is None else 0.0 if agrees(found, published) else found / published - 1


def write_roadmap(run: Path, trainings: Sequence[Training], data: PreparedData) -> list[Row]:
    """Write roadmap.json, roadmap.csv, roadmap.md and roadmap.png into `run`; returns the rows."""
    rows = rows_of(trainings, len(data.classes))
    spec = trainings[0].spec
    settings = {
        "data": spec.data.plain(), "train": spec.train.plain(), "test_segments": len(data.test),
        "seeds": sorted({training.spec.seed for training in trainings}), "data_checksum": data.checksum,
    }  # fmt: skip
    write_json(run / "roadmap.json", {"settings": settings, "rows": rows})
    write_csv(run / "roadmap.csv", COLUMNS, [["" if row[key] is None else row[key] for key in COLUMNS] for row in rows])
    write_text(run / "roadmap.md", "\n".join(markdown(rows)) + "\n")
    name = Path(spec.data.root).name if spec.data.root else data.name
    title = f"KT roadmap on {name}, fold {spec.data.fold}: {spec.train.epochs} epochs, seeds {settings['seeds']}"
    write_with(run / "roadmap.png", lambda path: plot(rows, title, path))
    return rows


def markdown(rows: Sequence[Row]) -> list[str]:
    """The table of docs/networks.md: published and ours side by side. MACs in the report's view, of the train form."""
    lines = [
        "| step | parameters, published | ours | MMACs, published | ours | accuracy, published | ours [95 % interval] "
        "| log loss, published | ours [95 % interval] | seconds |",
        "|---|---:|---:|---:|---:|---:|---|---:|---|---:|",
    ]
    for row in rows:
        name = row["label"] if row["adopted"] else f"*{row['label']}*"
        cells = (
            name, _number(row["params_published"], ","), _beside(row, "params", f"{row['params']:,}"),
            _number(row["macs_published"], ".3f", 1e-6), _beside(row, "macs", f"{row['macs'] * 1e-6:.3f}"),
            _number(row["accuracy_published"], ".3f"), _measured(row, "accuracy"),
            _number(row["log_loss_published"], ".3f"), _measured(row, "log_loss"), _number(row["seconds"], ".0f"),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _number(value: float | None, spec: str, scale: float = 1) -> str:
    return "" if value is None else f"{value if scale == 1 else value * scale:{spec}}"


def _beside(row: Row, key: str, text: str) -> str:
    return text if row[f"{key}_apart"] is None else f"{text} ({row[f'{key}_apart']:+.2%})"


def _measured(row: Mapping[str, Any], metric: str) -> str:
    if row[metric] is None:
        return ""
    text = f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]"
    return text if row[f"{metric}_spread"] is None else f"{text} ± {row[f'{metric}_spread']:.3f}"


def plot(rows: Sequence[Row], title: str, path: Path) -> None:
    """Log loss and accuracy by step, published and ours; adopted steps are joined, alternatives are hollow."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    for axes, metric, label in zip(
        figure.subplots(2, 1, sharex=True), ("log_loss", "accuracy"), ("log loss [nats]", "macro accuracy"), strict=True
    ):
        _series(axes, rows, f"{metric}_published", "s", "#8a8a8a", "published, TAU 2022 Mobile (development set)", -0.1)
        _series(axes, rows, metric, "o", "#1b6ca8", "here, bar: 95 % bootstrap over sources", 0.1)
        for index, row in enumerate(rows):
            if row[metric] is not None:
                axes.vlines(index + 0.1, row[f"{metric}_low"], row[f"{metric}_high"], color="#1b6ca8", linewidth=2.5,
                            alpha=0.5)  # fmt: skip
        several = [(index + 0.25, row[f"{metric}_by_seed"]) for index, row in enumerate(rows) if row["seeds"] > 1]
        seeds = [(x, value) for x, values in several for value in values]
        if seeds:
            axes.scatter(*zip(*seeds, strict=True), s=8, color="#d1495b", zorder=3, label="here, each seed")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    axes.set_xticks(range(len(rows)), [row["label"] for row in rows], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_xlabel("step of the roadmap (joined: adopted; hollow: an alternative)")
    figure.suptitle(title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)  # the same for both
    figure.savefig(path, dpi=130)


def _series(axes: Any, rows: Sequence[Row], key: str, marker: str, colour: str, label: str, shift: float) -> None:
    known = [(index + shift, row[key], row["adopted"]) for index, row in enumerate(rows) if row[key] is not None]
    joined = [(x, y) for x, y, adopted in known if adopted]
    if joined:
        axes.plot(*zip(*joined, strict=True), marker=marker, color=colour, label=label, linewidth=1, markersize=5)
    aside = [(x, y) for x, y, adopted in known if not adopted]
    if aside:
        axes.plot(*zip(*aside, strict=True), marker=marker, color=colour, markerfacecolor="none", linestyle="none",
                  markersize=5)  # fmt: skip
