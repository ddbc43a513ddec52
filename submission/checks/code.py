"""Is the packaged code what its edition asks for? Read, never run."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Sequence
from typing import Any

from safetensors import SafetensorError, deserialize

from submission.archive import Members
from submission.checks.contents import bytes_of, json_of, line_of
from submission.checks.fault import Fault
from submission.checks.kinds import check_kind
from submission.checks.meta import read_meta
from submission.schema import PackageFormat, team_of
from system.budget import Budget
from system.editions import Edition

LISTED = 20  # strange devices told one by one
COSTS = {"MACs": ("macs", "MACs"), "Params": ("bytes", "bytes")}  # key of complexity.json -> limit, unit


def check_code(
    label: str, members: Members, layout: PackageFormat, rules: Edition, classes: Sequence[str]
) -> list[Fault]:
    """Faults of a system's further files: missing ones, functions, costs per device, accuracy, list of classes."""

    def place(text: str) -> str:
        return text.format(label=label, team=team_of(label))

    faults = [Fault(place(name), None, "is missing") for name in layout.needed if place(name) not in members]
    for pattern in layout.single:
        wanted = pattern.format(label=re.escape(label), team=re.escape(team_of(label)))
        found = [name for name in members if re.fullmatch(wanted, name)]
        if len(found) != 1:
            faults.append(Fault(label, None, f"expected exactly one file {place(pattern)}, found {len(found)}"))
        faults += [fault for name in found for fault in check_kind(name, members)]
    faults += [fault for name in map(place, layout.needed) if name in members for fault in check_kind(name, members)]
    for name in (name for name in layout.functions if place(name) in members):
        faults += _check_functions(place(name), members, layout.functions[name])
    if layout.device_costs and place(layout.device_costs) in members:
        faults += _check_costs(place(layout.device_costs), members, rules, label)
    if layout.accuracy and place(layout.accuracy) in members:
        faults += _check_accuracy(place(layout.accuracy), members)
    if layout.class_numbers and place(layout.class_numbers) in members:
        faults += _check_class_numbers(place(layout.class_numbers), members, classes)
    return faults


def _check_functions(name: str, members: Members, wanted: Sequence[str]) -> list[Fault]:
    faults: list[Fault] = []
    content = bytes_of(name, members, faults)
    if content is None:
        return faults
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file, and with its own words
            # As Python reads it, by the encoding that the file tells; the parser alone passes over wrong letters.
            content.decode(tokenize.detect_encoding(io.BytesIO(content).readline)[0])
            tree = ast.parse(content)
    except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        return [*faults, Fault(name, getattr(error, "lineno", None), f"is not valid Python: {reason}")]
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    imported = {alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom)
                for alias in node.names}  # fmt: skip
    missing = [function for function in wanted if function not in defined | imported]
    return [*faults, *(Fault(name, None, f"does not define the function {function}") for function in missing)]


def _check_costs(name: str, members: Members, rules: Edition, label: str) -> list[Fault]:
    """MACs and bytes of each device's model, their largest, and the bytes of the checkpoints they are told of."""
    faults: list[Fault] = []
    told = json_of(name, members, faults)
    if told is None:
        return faults
    per_device = told.get("per_device")
    if not isinstance(per_device, dict):
        return [*faults, Fault(name, 1, f"per_device: expected a mapping of {', '.join(rules.complexity_devices)}")]
    limits = Budget.parse(rules.limits).limits() if rules.limits else {}
    for device in rules.complexity_devices:
        if device not in per_device:
            faults.append(Fault(name, 1, f"per_device: device {device} is missing"))
    strange = [device for device in per_device if device not in rules.complexity_devices]
    for device in strange[:LISTED]:
        line = line_of(name, members, json.dumps(device))
        faults.append(Fault(name, line, f"per_device.{device}: expected one of {', '.join(rules.complexity_devices)}"))
    if len(strange) > LISTED:
        faults.append(Fault(name, 1, f"per_device: {len(strange) - LISTED:,} more devices that are not asked for"))
    known = {device: per_device[device] for device in rules.complexity_devices if device in per_device}
    for device, costs in known.items():
        line = line_of(name, members, json.dumps(device))
        for key, (quantity, unit) in COSTS.items():
            value = costs.get(key) if isinstance(costs, dict) else None
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                why = "; packed parameters are not counted by the official checker" if value == 0 else ""
                faults.append(
                    Fault(
                        name, line, f"per_device.{device}.{key}: expected a whole number above 0, found {value!a}{why}"
                    )
                )
            elif value > limits.get(quantity, value):
                over = f"{value:,} {unit} of {limits[quantity]:,} allowed ({value - limits[quantity]:,} too many)"
                faults.append(Fault(name, line, f"per_device.{device}.{key}: {over}"))
        if isinstance(costs, dict):
            faults += _check_checkpoint(label, device, members, costs.get("Params"), Fault(name, line, ""))
    for key in COSTS:
        values = [costs[key] for costs in known.values() if isinstance(costs, dict) and isinstance(costs.get(key), int)]
        if values and told.get(f"max_{key}") != max(values):
            line = line_of(name, members, f"max_{key}")
            faults.append(
                Fault(name, line, f"max_{key}: expected the largest of the devices, {max(values):,}, found "
                                  f"{told.get(f'max_{key}')!a}")
            )  # fmt: skip
    return faults


def _check_checkpoint(label: str, device: str, members: Members, told: Any, at: Fault) -> list[Fault]:
    """The bytes told of a device must be those of the network in its safetensors file, where the package has one."""
    folder = f"{team_of(label)}/ckpts/{label}"
    name = next((name for name in (f"{folder}.{device}.safetensors", f"{folder}.safetensors") if name in members), None)
    content = members.read(name) if name else None
    if name is None or content is None:
        return []
    try:
        tensors = deserialize(content)
    except SafetensorError as error:
        return [Fault(name, None, f"is not a safetensors file: {error}")]
    stored = sum(len(entry["data"]) for tensor, entry in tensors if not tensor.startswith("features."))
    if stored != told:
        return [
            Fault(at.file, at.line, f"per_device.{device}.Params: expected the {stored:,} of {name}, found {told!a}")
        ]
    return []


def _check_accuracy(name: str, members: Members) -> list[Fault]:
    faults: list[Fault] = []
    told = json_of(name, members, faults)
    if told is not None:
        value = told.get("Test Accuracy")
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 100:
            faults.append(Fault(name, 1, f"Test Accuracy: expected a number from 0 to 100, found {value!a}"))
    return faults


def _check_class_numbers(name: str, members: Members, classes: Sequence[str]) -> list[Fault]:
    """`label_dict`: each class and its position."""
    content = members.read(name)
    if content is None:
        return []
    document, faults = read_meta(name, content)
    if document is not None and document.value.get("label_dict") != {label: i for i, label in enumerate(classes)}:
        faults.append(Fault(name, 1, f"label_dict: expected {', '.join(classes)}, numbered from 0"))
    return faults
