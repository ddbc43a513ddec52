#!/usr/bin/env python3
"""Clips per second of training: from cached features, from samples, and the way of the DCASE 2024 baseline.

    python benchmarks/training_speed.py                          # on an otherwise idle machine
    python benchmarks/training_speed.py --workers 2              # loaders of the baseline's way
    python benchmarks/training_speed.py --device cuda --epoch 139620 --peak 67    # one epoch, the card's peak in TFLOPS

The same network, the DCASE 2024/25 baseline, and its augmentation by these ways, which take turns, each time in a
process of its own:

- baseline's way: every epoch reads each wav file of 44.1 kHz, and every batch is resampled to 32 kHz and turned into
  log-mel by torchaudio in the loop; PyTorch's default memory layout, OpenMP's and malloc's defaults;
- the same, our process: with the settings of system/__init__.py, which any command of this project has;
- cached features: what system/training.py does where no augmentation needs samples;
- from samples: what it does where crops or speeds are random: log-mel in the loop, but no resampling.

Medians over the rounds; the share of a way's time that is not the network's is told too. Recordings are noise, written
to a temporary folder. With --epoch, features and labels are made up and kept in memory, and whole epochs are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import system  # noqa: I001  (before torch: it sets how OpenMP threads wait)
import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from system.augment.spectrogram import freq_mixstyle, keep_mask
from system.dataset import PreparedData, prepare
from system.learning.batches import EpochOrder, statistics as band_statistics
from system.learning.inputs import training_data
from system.models.network import build, complexity
from system.progress import progress
from system.runs import load_experiment
from system.spec import ExperimentSpec
from system.learning.layout import memory_format, torch_device
from system.training import fit

CONFIG = Path(__file__).resolve().parents[1] / "system" / "configs" / "dcase2024_baseline.yaml"
RATE, CLASSES = 44100, 10  # of TAU's recordings
WAYS: dict[str, dict[str, str]] = {  # name -> environment of its process
    "baseline's way": {"TINYSCENE_ALLOCATOR": "system", "OMP_WAIT_POLICY": ""},
    "the same, our process": {},
    "cached features": {},
    "from samples": {},
}
BASELINE_S = tuple(WAYS)[:2]
Batches = Iterator[tuple[Tensor, Tensor]]


class Files(Dataset):
    """One file after the other, as the baseline's data set gives them: rolled, mono."""

    def __init__(self, files: list[Path], label: np.ndarray) -> None:
        self.files, self.label = files, label

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        samples, _ = soundfile.read(self.files[index], dtype="float32")
        shift = int(torch.randint(-RATE // 10, RATE // 10 + 1, ()))
        return torch.from_numpy(samples).roll(shift), int(self.label[index])


def baseline_way(
    spec: ExperimentSpec, data: PreparedData, root: Path, workers: int, device: str
) -> Callable[[], Batches]:
    """Read, resample and transform in the loop, with the augmentation of the baseline's training."""
    features, augment = spec.features, spec.augment
    resample = torchaudio.transforms.Resample(RATE, features.sample_rate).to(device)
    mel = torchaudio.transforms.MelSpectrogram(
        features.sample_rate, features.n_fft, features.win_length, features.hop_length, n_mels=features.n_mels
    ).to(device)
    files = Files([root / name for name in data.train.filename], data.train.label)
    loader = DataLoader(files, spec.train.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def batches() -> Batches:
        for samples, label in loader:
            with torch.no_grad():
                power = mel(resample(samples.to(device)))  # (B, F, T)
                keep = keep_mask(len(power), power.shape[1], 1, augment.frequency_mask_bands, power.device)
                x = torch.log(power * keep[:, :, None] + features.log_floor)
                x = freq_mixstyle(x, augment.mixstyle_p, augment.mixstyle_alpha)
            target = torch.nn.functional.one_hot(label, CLASSES).float()
            yield x[:, None], target.to(device)

    return batches


def our_way(spec: ExperimentSpec, data: PreparedData, device: str) -> Callable[[], Batches]:
    mean, std = band_statistics(data.train)
    epoch = [0]
    batches, inputs = training_data(spec, data, mean, std, lambda: epoch[0], device)
    inputs = inputs.to(device)
    order = EpochOrder(len(data.train), spec.train.batch_size, 0, lambda: epoch[0])
    loader = DataLoader(batches, batch_sampler=order, collate_fn=lambda batch: batch)

    def run() -> Batches:
        epoch[0] += 1
        for batch in loader:
            x, target, _ = inputs([part.to(device) for part in batch])
            yield x, target

    return run


def made(spec: ExperimentSpec, device: str, ours: bool) -> torch.nn.Module:
    """The network, in our memory layout or PyTorch's default."""
    torch.manual_seed(0)
    network = build(spec.model, spec.input_shape(), CLASSES)
    layout = memory_format(network, device) if ours else torch.contiguous_format
    return network.to(device, memory_format=layout).train()


def recordings(root: Path, clips: int) -> None:
    """A csv folder of one-second recordings of noise; a sixth of them, twice, is not trained on."""
    generator = np.random.default_rng(0)
    lines = ["filename,label,fold"]
    for number in range(clips):
        soundfile.write(root / f"{number}.wav", 0.1 * generator.standard_normal(RATE), RATE, subtype="PCM_24")
        lines.append(f"{number}.wav,class{number % CLASSES},{1 + number // CLASSES % 6}")
    (root / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def one_way(args: argparse.Namespace) -> None:
    """In a process of its own: clips per second and the share of the time before the network, of one epoch."""
    torch.set_num_threads(args.threads)
    spec = load_experiment(CONFIG)
    spec = spec.changed(
        data=spec.data.changed(dataset="csv", root=str(args.root)), train=spec.train.changed(batch_size=args.batch)
    )
    data = prepare(spec.data, spec.features, spec.seed)
    device = torch_device(args.device)
    if args.way in BASELINE_S:
        way = baseline_way(spec, data, args.root, args.workers, device)
    elif args.way == "from samples":
        several = spec.augment.changed(random_crop=True, speed=(1.0, 1.0 + 1e-9))
        way = our_way(spec.changed(augment=several.plain()), data, device)
    else:
        way = our_way(spec, data, device)
    ours = args.way not in BASELINE_S
    network = made(spec, device, ours)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True if ours and device == "cuda" else None)
    for _ in range(2):  # the first to warm up
        clips, waited = 0, 0.0
        began = last = time.perf_counter()
        for x, target in way():
            if device == "cuda":
                torch.cuda.synchronize()
            waited += time.perf_counter() - last
            loss = torch.nn.functional.cross_entropy(network(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clips += len(x)
            if device == "cuda":
                torch.cuda.synchronize()
            last = time.perf_counter()
    print(json.dumps([clips / (last - began), waited / (last - began), clips]))


def compare(args: argparse.Namespace) -> None:
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    shares: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder, progress("timing", args.rounds * len(WAYS), unit="epochs") as step:
        root = Path(folder)
        recordings(root, args.clips)
        same = ["--batch", args.batch, "--workers", args.workers, "--threads", args.threads, "--device", args.device]
        for _ in range(args.rounds):
            for name, settings in WAYS.items():
                words = [sys.executable, __file__, "--way", name, "--root", folder, *map(str, same)]
                environment = {**os.environ, "TINYSCENE_CACHE": str(root / "cache"), **settings}
                done = subprocess.run(words, capture_output=True, text=True, env=environment)
                if done.returncode:
                    sys.exit(done.stderr)
                rate, share, clips = json.loads(done.stdout.splitlines()[-1])
                rates[name].append(rate)
                shares[name].append(share)
                step(1)
    first = statistics.median(rates[next(iter(WAYS))])
    print(
        f"clips per second, {torch_device(args.device)}, batches of {args.batch}, {args.threads} threads, "
        f"{args.workers} loaders of the baseline's way; medians of {args.rounds} epochs, {clips} clips each"
    )
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:21s} {median:8.1f} ({median / first:.2f}x), {min(values):.1f} to {max(values):.1f}; "
              f"{statistics.median(shares[name]):.0%} of the time before the network")  # fmt: skip


def epoch(args: argparse.Namespace) -> None:
    """Whole epochs of system/training.py, features made up."""
    from system.dataset import Segments

    spec = load_experiment(CONFIG)
    spec = spec.changed(train=spec.train.changed(batch_size=args.batch, epochs=args.rounds + 1))
    shape = (spec.features.n_mels, spec.features.frames(1.0))
    base = np.random.default_rng(0).standard_normal((min(args.epoch, 4096), *shape), dtype=np.float32)
    names = tuple(map(str, range(args.epoch)))
    label = np.arange(args.epoch, dtype=np.int64) % CLASSES
    blank = ("",) * args.epoch
    train = Segments(np.resize(base, (args.epoch, *shape)), label, names, np.zeros(args.epoch, np.int64), blank, names)
    rest = replace(train, features=base[:0], label=label[:0], filename=(), segment=label[:0], device=(), source=())
    data = PreparedData("made up", tuple(map(str, range(CLASSES))), {}, train, rest, rest, "", 0)
    history = fit(spec, data, device=args.device).history
    seconds = statistics.median(row.seconds for row in history[1:])
    macs = complexity(spec.model, spec.input_shape(), CLASSES, "train").macs_exact
    print(f"an epoch of {args.epoch:,} clips: {seconds:.2f} s, {args.epoch / seconds:,.0f} clips/s, "
          f"{macs / 1e6:.1f} MMACs forward")  # fmt: skip
    if args.peak:
        used = 3 * 2 * macs * args.epoch / seconds / 1e12  # backward costs twice the forward; two operations a MAC
        print(f"{used:.2f} TFLOPS, {used / args.peak:.1%} of the peak of {args.peak:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=480)
    parser.add_argument("--batch", type=int, default=256, help="default: 256, the baseline's")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="loaders of the baseline's way (default: none)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--epoch", type=int, metavar="CLIPS", help="time whole epochs of so many made-up clips instead")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of the device, for the share of it that is used")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    assert system.__version__
    (one_way if args.way else epoch if args.epoch else compare)(args)


if __name__ == "__main__":
    main()
