"""Measure every device's model and write predictions/NAME_INDEX/complexity.json.

python test_complexity.py --submission_name Lastname_Institute_task1 --submission_index 1
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from complexity import MAX_MACS, MAX_PARAMS_MEMORY, get_torch_macs_memory

DEVICES = ("a", "b", "c", *(f"s{number}" for number in range(1, 11)))


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the model complexity for all devices.")
    parser.add_argument("--submission_name", required=True, help="such as Lastname_Institute_task1")
    parser.add_argument("--submission_index", required=True, type=int, help="1 to 4")
    args = parser.parse_args()
    label = f"{args.submission_name}_{args.submission_index}"
    system = importlib.import_module(f"{args.submission_name}.{label}")
    dummy = Path(str(system.__file__)).with_name("resources") / "dummy.wav"

    model = system.load_model()
    inputs = system.load_inputs([str(dummy)] * len(DEVICES), list(DEVICES), model)
    costs = {}
    for device, features in zip(DEVICES, inputs, strict=True):
        macs, size = get_torch_macs_memory(system.get_model_for_device(model, device), features.shape)
        costs[device] = {"MACs": macs, "Params": size}
        print(f"{device:>3}: {macs:>12,} MACs, {size:>9,} bytes")
    largest = {f"max_{key}": max(cost[key] for cost in costs.values()) for key in ("MACs", "Params")}
    path = Path("predictions") / label / "complexity.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"per_device": costs, **largest}, indent=2) + "\n")
    fits = largest["max_MACs"] <= MAX_MACS and largest["max_Params"] <= MAX_PARAMS_MEMORY
    print(f"{path}: {'within' if fits else 'OVER'} the limits of {MAX_MACS:,} MACs and {MAX_PARAMS_MEMORY:,} bytes")
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
