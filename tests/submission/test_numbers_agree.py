"""Numbers, weights and lists of a package with code: by themselves they agree, and with --run they are the run's."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from submission import archive
from submission.checks.fault import Fault
from submission.checks.meta import Document, check_measured
from submission.packing.systems import SystemRequest
from submission.validate import validate
from system.editions import EDITIONS
from tests.submission.conftest import Example, Examples

Change = Callable[[bytes], bytes | None]  # of a file's content; None: the file is not there


def faults(example: Example, name: str, change: Change, path: Path, runs: bool) -> list[Fault]:
    changed = change(example.members[name])
    members = {**example.members, name: changed or b""}
    archive.write_zip(path, {key: value for key, value in members.items() if key != name or changed is not None})
    return validate(path, example.edition, example.eval_root, runs=[SystemRequest(example.runs)] if runs else [])


def told(key: str, value: str) -> Change:
    """Another number after every such key of a YAML or JSON file."""
    return lambda content: re.sub(rf'({key}"?: )[\d.]+'.encode(), rf"\g<1>{value}".encode(), content)


def zeroed(content: bytes) -> bytes:
    """Other tensors behind the same header."""
    start = 8 + int.from_bytes(content[:8], "little")
    return content[:start] + bytes(len(content) - start)


def resaved(content: bytes, change: Change = bytes, **extra: bytes) -> bytes:
    """A file of `torch.save` as another version of PyTorch writes it; `change`: of its first tensor."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if "/data" in name:
                text = old.read(name)
                new.writestr(name, (change(text) or b"") if name.endswith("data/0") else text)
        for name, text in extra.items():
            new.writestr(f"archive/{name}", text)
    return buffer.getvalue()


def packed(content: bytes) -> bytes:
    """A zip of compressed files, which PyTorch never writes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("archive/data.pkl", bytes(1000))
    return buffer.getvalue()


def other_tensor(content: bytes) -> bytes:
    return resaved(content, lambda text: bytes(byte ^ 1 for byte in text))


MADE = {  # edition, ending of the file, change, what is said of it, without any run
    "MACs below the devices'": ("2025", "meta.yaml", told("macs", "5"), "macs: expected at least the max_MACs of"),
    "bytes below the devices'": ("2025", "meta.yaml", told("total_model_size", "5"), "at least the max_Params of"),
    "a checkpoint cut short": ("2025", "_1.safetensors", lambda content: content[:-8], "is not a safetensors file"),
    "costs that are a list": ("2025", "/complexity.json", lambda content: b"[1]", "a JSON object, found list"),
    "a list without rows": ("2025", "test.csv", lambda content: b"filename\tscene_label\n", "at least one row"),
    "a list of empty lines": ("2025", "test.csv", lambda content: b"filename\tscene_label\n \n\n", "at least one row"),
    "a recording that is none": ("2025", "dummy.wav", lambda content: b"no", "expected a recording"),
    "weights that are none": ("2025", "state_dict.pt", lambda content: b"x", "is not a file of saved weights"),
    "another size": ("biodcase2026", "meta.yaml", told("size_inference_bytes", "5"), r"expected the [\d,]+ bytes of"),
    "a size of 6000 digits": (
        "biodcase2026", "meta.yaml", told("size_inference_bytes", "0x" + "f" * 5000), "found a number of too many",
    ),
    "a model that is none": ("biodcase2026", ".pth", lambda content: b"no", "is not a file of saved weights"),
    "settings that are none": ("biodcase2026", "config_submission.yaml", lambda content: b"[", "not valid YAML"),
}  # fmt: skip
OF_RUN = {  # the same, with the runs
    "other MACs": (
        "2025",
        "/complexity.json",
        told("MACs", "1"),
        r"per_device\.a\.MACs: expected \d+ as measured, found 1",
    ),
    "another accuracy": ("2025", "accuracy.json", told("Test Accuracy", "99.99"), "as measured, found 99.99"),
    "other weights": ("2025", "_1.safetensors", zeroed, "is not what the run writes"),
    "no checkpoint": ("2025", "_1.safetensors", lambda content: None, "is missing"),
    "another test list": ("2025", "test.csv", lambda content: content.rpartition(b"\naudio")[0], "is not what the run"),
    "another state": ("2025", "state_dict.pt", other_tensor, "does not hold the tensors"),
    "a state that cannot be compared": ("2025", "state_dict.pt", packed, "does not hold the tensors"),
    "other tensors": ("biodcase2026", ".pth", other_tensor, "does not hold the tensors"),
    "an accuracy of 0.99": ("biodcase2026", "meta.yaml", told("accuracy_inference", "0.99"), "as measured, found 0.99"),
    "an area of 0.99": ("biodcase2026", "meta.yaml", told("auc_inference", "0.99"), "as measured, found 0.99"),
}
FINE = {
    "a README": ("2025", "README.md", lambda content: b"mine"),
    "a function of its own": ("2025", "_task1_1.py", lambda content: content + b"\nMINE = 1\n"),
    "a list with other line ends": ("2025", "test.csv", lambda content: content.replace(b"\n", b"\r\n")),
    "weights saved by another PyTorch": ("2025", "state_dict.pt", lambda content: resaved(content, version=b"9")),
}


@pytest.mark.parametrize("name", MADE)
def test_files_agree_with_each_other(name: str, examples: Examples, tmp_path: Path) -> None:
    edition, ending, change, words = MADE[name]
    file = examples[edition].file(ending)
    found = faults(examples[edition], file, change, tmp_path / "x.zip", runs=False)
    assert [fault for fault in found if fault.file == file and re.search(words, fault.message)], found


@pytest.mark.parametrize("name", OF_RUN)
def test_files_are_those_of_the_run(name: str, examples: Examples, tmp_path: Path) -> None:
    edition, ending, change, words = OF_RUN[name]
    file = examples[edition].file(ending)
    found = faults(examples[edition], file, change, tmp_path / "x.zip", runs=True)
    assert [fault for fault in found if fault.file == file and re.search(words, fault.message)], found


def test_a_fault_of_a_device_is_told_with_its_line(examples: Examples, tmp_path: Path) -> None:
    file = examples["2025"].file("/complexity.json")
    lines = examples["2025"].members[file].decode().splitlines()
    found = faults(examples["2025"], file, told("MACs", "0"), tmp_path / "x.zip", runs=False)
    told_of = {device: fault.line for device in EDITIONS["2025"].complexity_devices for fault in found
               if fault.message.startswith(f"per_device.{device}.MACs")}  # fmt: skip
    assert set(told_of) == set(EDITIONS["2025"].complexity_devices)
    assert all(f'"{device}"' in lines[(line or 0) - 1] for device, line in told_of.items())


def test_a_meta_yaml_that_cannot_be_read_is_not_compared(examples: Examples, tmp_path: Path) -> None:
    file = examples["2022"].file("meta.yaml")
    (found,) = faults(examples["2022"], file, lambda content: b"submission: [", tmp_path / "x.zip", runs=True)
    assert (found.file, "is not valid YAML" in found.message) == (file, True)


@pytest.mark.parametrize("name", FINE)
def test_what_may_be_edited(name: str, examples: Examples, tmp_path: Path) -> None:
    edition, ending, change = FINE[name]
    file = examples[edition].file(ending)
    assert change(examples[edition].members[file]) != examples[edition].members[file]
    assert faults(examples[edition], file, change, tmp_path / "x.zip", runs=True) == []


@pytest.mark.parametrize(
    ("measured", "told", "wrong"),
    [
        (29.4123, [29.4123, 29.412, 29.41, 29.4], [29.3, 29.5, 29.42, 29, 30, "29.4", None]),
        (119.8124, [119.81, 119.8, 120, 1.2e2], [119, 119.7, 119.9, 1.1e2]),
        (1.31249, [1.3125, 1.31], [1.3, 1.32, 1]),
        (119_812, [119_812], [119_810, 1.2e5, 120_000]),
    ],
)
def test_a_number_may_be_told_rounded(measured: float, told: list[object], wrong: list[object]) -> None:
    def fault(value: object) -> list[Fault]:
        return check_measured("meta", Document({"a": value}, {"a": 1}), {"a": measured})

    assert [value for value in told if fault(value)] == []
    assert [value for value in wrong if not fault(value)] == []
