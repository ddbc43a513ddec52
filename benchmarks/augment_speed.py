#!/usr/bin/env python3
"""What an augmentation costs: milliseconds per batch, beside a training step of the DCASE 2024 baseline network.

    python benchmarks/augment_speed.py                      # on an otherwise idle machine
    python benchmarks/augment_speed.py --threads 1
    python benchmarks/augment_speed.py --device cuda --batch 256

Batches of one-second segments of noise in the baseline's front end (32 kHz, 256 bands, 65 frames); all rows take turns
within one process, and medians over the rounds are told. Samples are read from memory, not from a disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import system  # noqa: I001  (before torch: it sets how OpenMP threads wait)
import numpy as np
import torch
import torchaudio

from system.augment.table import AUGMENTATIONS, NOTHING, Around, Batch
from system.augment.waveform import Devices
from system.data.recordings import Recordings, runs
from system.learning.inputs import CLIPS_AT_ONCE, Inputs
from system.features import LogMel
from system.models.catalog import model_spec
from system.models.network import build
from system.spec import ExperimentSpec, FeatureSpec
from system.learning.layout import memory_format

FEATURES = FeatureSpec(sample_rate=32000, n_fft=4096, win_length=3072, hop_length=500, n_mels=256)
EVERYTHING = NOTHING.changed(
    **{key: value for row in AUGMENTATIONS.values() for key, value in row.usual.items()},
).changed(frequency_masks=1, frequency_mask_bands=48, speed=(0.5, 1.5), impulse_response_p=0.6)  # as for 256 bands
CLIPS, SEGMENTS, CLASSES, RESPONSES = 200, 5, 10, 40


def cases(batch: int, device: str) -> dict[str, Callable[[], object]]:
    """What is timed, by name: a training step first."""
    spec = ExperimentSpec(features=FEATURES, augment=EVERYTHING, model=model_spec("dcase2024_baseline"))
    generator = np.random.default_rng(0)
    size = FEATURES.sample_rate
    noise = generator.standard_normal((CLIPS * SEGMENTS, size), dtype=np.float32)
    keys = [(clip, segment) for clip in range(CLIPS) for segment in range(SEGMENTS)]
    numbers = np.arange(len(keys))
    recordings = Recordings(noise, numbers, *runs(keys), np.zeros(len(keys), np.int64))
    taps = generator.standard_normal((RESPONSES, 4128), dtype=np.float32)
    devices = Devices(taps / np.linalg.norm(taps, axis=1, keepdims=True), 32, size).to(device)
    mean, std = np.zeros(FEATURES.n_mels, np.float32), np.ones(FEATURES.n_mels, np.float32)
    inputs = Inputs(spec, "scene", CLASSES, mean, std, LogMel(FEATURES), devices).to(device)
    around = Around(spec, inputs.mean, 1, RESPONSES)

    chosen = generator.permutation(len(keys))[:batch].tolist()
    label = torch.from_numpy(numbers[:batch] % CLASSES).to(device)
    target = torch.nn.functional.one_hot(label, CLASSES).float()
    samples = torch.from_numpy(recordings.read(chosen)).to(device)
    heard = (torch.arange(batch, device=device) % 5 < 3).long()  # six tenths of the clips through a response
    of_samples = Batch(samples, target, torch.zeros_like(label))
    of_features = Batch(inputs.heard(of_samples._replace(device=torch.zeros_like(label))), target)

    torch.manual_seed(0)
    network = build(spec.model, spec.input_shape(), CLASSES)
    network = network.to(device, memory_format=memory_format(network, device)).train()
    optimizer = torch.optim.AdamW(network.parameters())
    x = inputs.standardized(of_features.x)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def crop() -> np.ndarray:
        return recordings.crop(chosen, recordings.offsets(chosen, np.random.default_rng(0)))

    found: dict[str, Callable[[], object]] = {"training step": step}
    for name, row in AUGMENTATIONS.items():
        if row.apply is not None:
            seen = of_features if row.stage == "spectrogram" else of_samples
            found[name] = lambda row=row, seen=seen: row.apply(seen, around)
    found["device impulse responses"] = lambda: devices(samples, heard)  # the convolution, not the draw
    found["random crops"] = crop
    found["  whole segments instead"] = lambda: recordings.read(chosen)
    found["log-mel in the loop"] = lambda: inputs.heard(of_samples)
    theirs = torchaudio.transforms.MelSpectrogram(
        FEATURES.sample_rate, FEATURES.n_fft, FEATURES.win_length, FEATURES.hop_length, n_mels=FEATURES.n_mels,
        norm="slaney", mel_scale="slaney",
    ).to(device)  # fmt: skip
    found["  torchaudio's instead"] = lambda: [theirs(some) for some in samples.split(CLIPS_AT_ONCE)]
    found["all of it"] = lambda: inputs((torch.from_numpy(crop()).to(device), torch.zeros_like(label), label))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    assert system.__version__
    torch.set_num_threads(args.threads)
    timed = cases(args.batch, args.device)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(args.rounds + 2):
        for name, run in timed.items():
            started = time.perf_counter()
            run()
            if args.device == "cuda":
                torch.cuda.synchronize()
            if turn >= 2:
                times[name].append(1e3 * (time.perf_counter() - started))
    whole = statistics.median(times["training step"])
    print(f"milliseconds per batch of {args.batch}, {args.device}, {args.threads} threads (median; fastest)")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{name:28s} {median:8.2f} {min(values):8.2f}   {median / whole:6.1%} of a training step")


if __name__ == "__main__":
    main()
