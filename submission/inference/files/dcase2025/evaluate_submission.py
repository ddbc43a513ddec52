"""Test accuracy and evaluation predictions of a system, written to predictions/NAME_INDEX/.

python evaluate_submission.py --submission_name Lastname_Institute_task1 --submission_index 1
    --dev_set_dir TAU-2022-development --eval_set_dir TAU-2025-evaluation
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
from pathlib import Path
from typing import Any

import torch


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_accuracy(system: Any, folder: Path) -> float:
    """Percent of the recordings of resources/test.csv that are classified right."""
    rows = read(Path(system.__file__).with_name("resources") / "test.csv")
    device_of = {row["filename"]: row["source_label"] for row in read(folder / "meta.csv")}
    logits, classes = system.predict(
        file_paths=[str(folder / row["filename"]) for row in rows],
        device_ids=[device_of[row["filename"]] for row in rows],
        use_cuda=torch.cuda.is_available(),
    )
    right = sum(classes[int(x.argmax())] == row["scene_label"] for x, row in zip(logits, rows, strict=True))
    return 100 * right / len(rows)


def write_predictions(system: Any, folder: Path, path: Path) -> int:
    """Write output.csv for an evaluation set; returns its number of rows."""
    rows = read(folder / "evaluation_setup" / "fold1_test.csv")
    logits, classes = system.predict(
        file_paths=[str(folder / row["filename"]) for row in rows],
        device_ids=[row["device_id"] for row in rows],
        use_cuda=torch.cuda.is_available(),
    )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["filename", "scene_label", *classes])
        for row, x in zip(rows, logits, strict=True):
            shares = torch.softmax(x.double(), dim=0)
            writer.writerow([row["filename"], classes[int(shares.argmax())], *shares.tolist()])
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate a submission.")
    parser.add_argument("--submission_name", required=True)
    parser.add_argument("--submission_index", required=True, type=int)
    parser.add_argument("--dev_set_dir", required=True, type=Path)
    parser.add_argument("--eval_set_dir", required=True, type=Path)
    args = parser.parse_args()
    label = f"{args.submission_name}_{args.submission_index}"
    system = importlib.import_module(f"{args.submission_name}.{label}")
    out = Path("predictions") / label
    out.mkdir(parents=True, exist_ok=True)
    accuracy = round(test_accuracy(system, args.dev_set_dir), 2)
    (out / "test_accuracy.json").write_text(json.dumps({"Test Accuracy": accuracy}, indent=2) + "\n")
    torch.save(system.load_model().model.state_dict(), out / "model_state_dict.pt")
    rows = write_predictions(system, args.eval_set_dir, out / "output.csv")
    print(f"{label}: test accuracy {accuracy:.2f} %, {rows:,} evaluation rows in {out / 'output.csv'}")


if __name__ == "__main__":
    main()
