"""network.c computes what int8.onnx computes, in the memory that it says, from samples to probabilities."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant import run as commands
from quant.deployment.c import check
from quant.deployment.c.check import check_network, compiled, compiler
from quant.deployment.c.export import quoted, write_network
from quant.deployment.c.front_end import constants, largest_factor
from quant.deployment.c.memory import ALIGNED, Buffer, placed
from quant.deployment.waveform import signals
from quant.graph import read_graph, session
from quant.graph_memory import peak_activations
from quant.program import MOVES
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.features import LogMel
from system.files import write_json
from system.prediction.onnx_file import path_probabilities
from system.runs import locked
from system.spec import ExperimentSpec, FeatureSpec, QuantSpec
from tests.models.variants import CASES as CONTRACT

from .conftest import CASES, CLASSES, Quantized, checkpoint_of, only, quantize
from .exported import exported, few_or_slow
from .light import LightBackend

STRICT = ("-Wall", "-Wextra", "-pedantic", "-Werror")
ARM = ("arm-linux-gnueabihf-gcc", "qemu-arm")  # Debian's packages gcc-arm-linux-gnueabihf and qemu-user
PIPE = """
#include <stdio.h>
#include "network.h"

int main(void)
{
    static float log_mel[TINYSCENE_MEL_BANDS * TINYSCENE_FRAMES], logits[TINYSCENE_CLASSES];
    while (fread(log_mel, sizeof log_mel, 1, stdin) == 1) {
        tinyscene_network(log_mel, logits);
        fwrite(logits, sizeof logits, 1, stdout);
    }
    return 0;
}
"""
needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


def checkpoint_for(name: str) -> Checkpoint:
    """Of a contract network, with a front end that gives maps of its size."""
    spec, (_, bands, frames), classes = CONTRACT[name]
    features = FeatureSpec(sample_rate=10 * (frames - 1), n_fft=16, win_length=16, hop_length=10, n_mels=bands)
    names = tuple(f"class {number}" for number in range(classes))
    return Checkpoint(
        ExperimentSpec(features=features, model=spec),
        names,
        np.zeros(bands, np.float32),
        np.ones(bands, np.float32),
        {},
    )


def logits_of(source: Path, log_mel: np.ndarray, classes: int, *flags: str) -> np.ndarray:
    """(n, mel bands, frames) -> (n, classes)"""
    found = np.zeros((len(log_mel), classes), np.float32)
    with compiled(source, *flags) as step:
        network = step("network")
        for one, result in zip(np.ascontiguousarray(log_mel, np.float32), found, strict=True):
            network(one, result)
    return found


@needs_compiler
@pytest.mark.parametrize("name", few_or_slow())
def test_it_computes_the_integers_of_the_runtime(name: str, folder: Path, tmp_path: Path) -> None:
    """Every contract network, compiled without a warning."""
    made = exported(name, folder)
    (tmp_path / "int8.onnx").write_bytes(made.path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of mel bands that read no bin: the network alone is asked
        memory = write_network(checkpoint_for(name), tmp_path / "int8.onnx", tmp_path)
    found = logits_of(tmp_path / "network.c", made.features[:, 0], CONTRACT[name][2], *STRICT)
    expected = session(made.path).run(None, {"features": made.features})[0]
    steps = made.steps(found, expected)
    assert (steps == 0).mean() >= 0.98, "equal but for what a norm's order of summation may round"
    assert steps.max() <= 1
    assert memory.written < 1.5 * peak_activations(read_graph(made.path)).bytes + 4 * made.features[0].size + 4096


@pytest.mark.skipif(not all(map(shutil.which, ARM)), reason=f"needs {' and '.join(ARM)}")
def test_another_processor_computes_the_same(quantized: Quantized, tmp_path: Path) -> None:
    """32-bit Arm, emulated: every logit is that of ONNX Runtime on this machine."""
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    (tmp_path / "main.c").write_text(PIPE)
    words = [ARM[0], "-std=c99", "-O2", *STRICT, "-static", "main.c", "network.c", "-lm", "-o", "network"]
    subprocess.run(words, cwd=tmp_path, check=True)
    samples = LogMel(checkpoint.spec.features)(torch.from_numpy(signals(checkpoint))).numpy()
    done = subprocess.run([ARM[1], "network"], cwd=tmp_path, input=samples.tobytes(), capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(len(samples), CLASSES)
    expected = session(quantized.path).run(None, {"features": checkpoint.standardize(samples)})[0]
    assert (found == expected).all()


@needs_compiler
def test_from_samples_to_probabilities(quantized: Quantized, tmp_path: Path) -> None:
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    memory = write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    agreement = check_network(checkpoint, tmp_path / "int8.onnx", tmp_path / "network.c", signals(checkpoint))
    assert agreement.equal == 1
    assert agreement.largest < 1e-4
    assert f"100.00% of the logits of {agreement.segments} made signals" in str(agreement)
    compile_only = [str(compiler()), "-std=c99", "-c", str(tmp_path / "network.c"), "-o", str(tmp_path / "network.o")]
    subprocess.run(compile_only, check=True)
    told = subprocess.run(["size", str(tmp_path / "network.o")], check=True, capture_output=True, text=True).stdout
    text, _, bss = map(int, told.splitlines()[1].split()[:3])
    assert memory.written <= bss < memory.written + 64, "bytes that are written while it runs"
    assert memory.network + memory.front_end < text


@needs_compiler
@pytest.mark.parametrize("how", [{"weight_bits": 4}, {"weight_bits": 4, "layer_bits": {"stem*": 8}}], ids=["4", "4, 8"])
def test_weights_of_four_bits_stay_packed(tmp_path: Path, how: dict[str, Any]) -> None:
    sizes = []
    for one in ({}, how):
        quantized = quantize(CASES["inverted"], LightBackend(), tmp_path, QuantSpec(**one))
        checkpoint = checkpoint_of(quantized)
        sizes.append(write_network(checkpoint, tmp_path / "int8.onnx", tmp_path).network)
    agreement = check_network(checkpoint, tmp_path / "int8.onnx", tmp_path / "network.c", signals(checkpoint))
    assert (agreement.equal, agreement.largest < 1e-4) == (1, True)
    wide, narrow = sizes
    weights = sum(p.numel() for p in quantized.deployed.parameters() if p.dim() == 4)
    assert weights / 3 < wide - narrow <= weights / 2


@needs_compiler
@only("inverted")
@pytest.mark.parametrize("n_fft", [512, 600, 14 * 25, 2 * 131])
def test_spectra_of_any_even_length(quantized: Quantized, tmp_path: Path, n_fft: int) -> None:
    """Powers of two, other factors, a prime; float32 as torch, and float64 to the last digit."""
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    features = checkpoint.spec.features.changed(n_fft=n_fft, win_length=n_fft - 7)
    checkpoint = replace(checkpoint, spec=checkpoint.spec.changed(features=features.plain()))
    write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    samples = signals(checkpoint)[3:13]
    expected = LogMel(features).double()(torch.from_numpy(samples).double()).numpy()
    for flags, tolerance in ((STRICT, 2e-3), ((*STRICT, "-DTINYSCENE_DOUBLE"), 1e-6)):
        found = np.zeros(expected.shape, np.float32)
        with compiled(tmp_path / "network.c", *flags) as step:
            for one, result in zip(samples, found, strict=True):
                step("log_mel")(one, result)
        assert found == pytest.approx(expected, abs=tolerance), flags


def test_an_odd_length_has_no_form(quantized: Quantized, tmp_path: Path) -> None:
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    features = checkpoint.spec.features.changed(n_fft=255)
    odd = replace(checkpoint, spec=checkpoint.spec.changed(features=features.plain()))
    with pytest.raises(RunError, match=r"features\.n_fft: expected an even number for C, found 255"):
        write_network(odd, tmp_path / "int8.onnx", tmp_path)
    assert list(tmp_path.glob("network.*")) == []


@only("inverted")
def test_a_front_end_that_hears_nothing_has_no_form(quantized: Quantized) -> None:
    """Bands that lie between two bins of the spectrum."""
    checkpoint = checkpoint_of(quantized)
    features = checkpoint.spec.features.changed(n_fft=4, win_length=4, n_mels=2, f_min=1100.0, f_max=1900.0)
    with pytest.raises(RunError, match="expected mel bands that read the spectrum, found none that does"):
        constants(replace(checkpoint, spec=checkpoint.spec.changed(features=features.plain())))


def test_factors() -> None:
    assert [largest_factor(number) for number in (1, 2, 1024, 300, 131, 2 * 131)] == [1, 2, 2, 5, 131, 131]


@needs_compiler
@only("inverted")
def test_events_have_their_own_probabilities_and_thresholds(quantized: Quantized, tmp_path: Path) -> None:
    """Those that the integers were scored with."""
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized, 1.0, (0.9,) * CLASSES)
    own = {"thresholds": dict.fromkeys(checkpoint.classes, 0.1), "median_window": 5}
    write_json(tmp_path / "scores.json", own)
    write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    header = (tmp_path / "network.h").read_text()
    assert "#define TINYSCENE_MEDIAN 5 " in header
    assert f"#define TINYSCENE_THRESHOLDS {{{', '.join(['0.1f'] * CLASSES)}}}" in header
    agreement = check_network(checkpoint, tmp_path / "int8.onnx", tmp_path / "network.c", signals(checkpoint))
    assert (agreement.equal, agreement.largest < 1e-4) == (1, True)


NAMES = ('say "hi"', "what??!", "back\\slash", "Straße 100%", "a\tb\n", "plain")


@needs_compiler
def test_names_of_classes_are_what_they_are(tmp_path: Path) -> None:
    text = f"const char *const names[] = {{{', '.join(map(quoted, NAMES))}}};\n"
    (tmp_path / "names.c").write_text(text, encoding="ascii")
    words = [str(compiler()), "-std=c99", "-trigraphs", *STRICT, "-shared", "-fPIC", "-o", str(tmp_path / "names.so")]
    subprocess.run([*words, str(tmp_path / "names.c")], check=True)
    found = (ctypes.c_char_p * len(NAMES)).in_dll(ctypes.CDLL(str(tmp_path / "names.so")), "names")
    assert tuple(name.decode() for name in found if name is not None) == NAMES


@needs_compiler
@only("inverted")
def test_the_program_of_the_documentation_labels_a_segment(quantized: Quantized, tmp_path: Path) -> None:
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    (tmp_path / "main.c").write_text(program)
    (command,) = re.findall(r"/\* cc (-std=c99 .*?);", program)
    subprocess.run([str(compiler()), *STRICT, *command.split()], check=True, cwd=tmp_path)
    samples = signals(checkpoint)[3]
    done = subprocess.run([tmp_path / "classify"], input=samples.tobytes(), capture_output=True, check=True)
    expected = path_probabilities(session(quantized.path), checkpoint, samples[None])[0]
    assert done.stdout.decode() == f"{checkpoint.classes[int(expected.argmax())]} {expected.max():.3f}\n"


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 12), st.integers(0, 5)), max_size=14))
def test_maps_that_live_at_once_lie_apart(drawn: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(size, born, born + life) for size, born, life in drawn]
    offsets, total = placed(buffers)
    taken = list(zip(offsets, buffers, strict=True))
    for number, (offset, one) in enumerate(taken):
        assert offset % ALIGNED == 0
        assert offset + one.bytes <= total
        for other_offset, other in taken[:number]:
            if one.born <= other.last and other.born <= one.last:
                assert offset + one.bytes <= other_offset or other_offset + other.bytes <= offset
    assert total <= sum(-(-one.bytes // ALIGNED) * ALIGNED for one in buffers)


def test_memory_is_what_lives_at_once_where_maps_are_alike() -> None:
    chain = [Buffer(100, step, step + 1) for step in range(10)]
    assert placed(chain)[1] == 200
    assert placed([]) == ([], 0)


@only("inverted")
def test_an_operator_without_a_form_is_refused(
    quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = read_graph(quantized.path)
    graph.model.graph.node[-1].op_type = "Einsum"
    monkeypatch.setattr("quant.deployment.c.export.read_graph", lambda path: graph)
    with pytest.raises(RunError, match=r"Einsum .* is not known without ONNX Runtime"):
        write_network(checkpoint_of(quantized), tmp_path / "int8.onnx", tmp_path)


def test_every_move_of_a_program_has_a_form() -> None:
    from quant.deployment.c.moves import MOVED

    assert {*MOVED, "Shape"} == set(MOVES)


@needs_compiler
@only("inverted")
def test_the_command_tells_what_it_tried(
    deployable: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["export", "--run", str(deployable), "--c-network"]
    commands.main(words)
    out = capsys.readouterr().out
    source = deployable / "quant/brevitas/network.c"
    assert re.search(
        rf"{source} and \.h: [\d,]+ bytes of constants, [\d,]+ of the front end, [\d,]+ of memory\n  comp", out
    )
    assert "compiled here, 100.00% of the logits of 64 made signals" in out
    with locked(deployable), pytest.raises(RunError, match="in use by another process"):
        commands.main(words)
    monkeypatch.setattr(check, "COMPILERS", ("no-such-compiler",))
    commands.main(words)
    assert "no C compiler to try it with" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"expected a C compiler to try it, found none of no-such-compiler"):
        logits_of(source, np.zeros((1, 1, 1)), 1)


@needs_compiler
@only("inverted")
def test_other_logits_are_refused(quantized: Quantized, tmp_path: Path) -> None:
    (tmp_path / "int8.onnx").write_bytes(quantized.path.read_bytes())
    checkpoint = checkpoint_of(quantized)
    write_network(checkpoint, tmp_path / "int8.onnx", tmp_path)
    source = (tmp_path / "network.c").read_text()
    every = "for (int i = 0; i < inputs;"
    assert every in source
    (tmp_path / "network.c").write_text(source.replace(every, every.replace("i = 0", "i = 1")))
    with pytest.raises(RunError, match=r"network\.c: expected the logits of .*int8\.onnx, found \d"):
        check_network(checkpoint, tmp_path / "int8.onnx", tmp_path / "network.c", signals(checkpoint))
    (tmp_path / "network.c").write_text(source + "no C\n")
    with pytest.raises(RunError, match=r"network\.c does not compile by .*: .*error"):
        check_network(checkpoint, tmp_path / "int8.onnx", tmp_path / "network.c", signals(checkpoint))
