"""Labels by an ONNX file: recordings, folders of them, or raw samples from standard input.

Of two kinds: a file from the waveform to probabilities, which its metadata describes (quant/run.py export --whole);
and an integer or float network from features to logits, described by the run whose folder it is in.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from system.checkpoint import Checkpoint, load_checkpoint
from system.data.audio import cut
from system.data.decoding import Damaged, OnDamage, read_mono, recordings_in, refuse
from system.data.folds import LABEL_SEPARATOR
from system.errors import ConfigError, RunError
from system.features import LogMel
from system.onnx_float import INPUT, OUTPUT
from system.prediction import recorded
from system.prediction.label_lines import as_field, labelling
from system.prediction.raw_stream import Pcm, stream_blocks
from system.scoring.events import event_probabilities, over_time
from system.scoring.predictions import probabilities_of

WAVEFORM, PROBABILITIES = "waveform", "probabilities"  # of a whole file
SUFFIXES = (".onnx", ".ort")
STREAM = Path("-")  # raw samples from standard input
FLOAT = "float"  # name of the float network's file, beside those of its integers
BATCH = 16
KEY = "tinyscene.description"


@dataclass(frozen=True)
class Description:
    """What one must know to use a file: written into its metadata as JSON."""

    classes: tuple[str, ...]
    sample_rate: int
    segment_samples: int
    thresholds: tuple[float, ...] | None  # of each class, where a segment may have several or none
    temperature: float  # in the graph already
    features: dict[str, Any]  # of the front end, in the graph already
    median_window: int = 1  # segments that probabilities are compared with the thresholds over, not in the graph

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Description:
        spec = checkpoint.spec
        return cls(
            classes=checkpoint.classes,
            sample_rate=spec.features.sample_rate,
            segment_samples=spec.segment_samples(),
            thresholds=checkpoint.thresholds,
            temperature=checkpoint.temperature,
            features=spec.features.plain(),
            median_window=checkpoint.median_window,
        )

    def metadata(self) -> dict[str, str]:
        return {KEY: json.dumps(self.__dict__)}

    @classmethod
    def read(cls, text: str, path: Path) -> Description:
        """Raises RunError for metadata that are damaged or contradict themselves."""
        try:
            values = json.loads(text)
            found = cls(**{**values, "classes": tuple(values["classes"])})
            sound = min(found.sample_rate, found.segment_samples, len(found.classes), found.median_window) > 0
            sound = sound and found.median_window % 2 == 1
            sound = sound and (found.thresholds is None or len(found.thresholds) == len(found.classes))
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{path}: its metadata {KEY} cannot be read ({error}); export it anew") from None
        if not sound:
            raise RunError(f"{path}: its metadata {KEY} contradicts itself: {text[:200]}")
        return found


@dataclass(frozen=True)
class Classifier:
    """(n, samples) -> (n, classes), and what the numbers mean."""

    about: Description
    probabilities: Callable[[np.ndarray], np.ndarray]

    def label(self, p: np.ndarray) -> tuple[str, float]:
        """The most probable class and its probability; of events, all that are above their thresholds."""
        names, thresholds = self.about.classes, self.about.thresholds
        if thresholds is None:
            return names[int(p.argmax())], float(p.max())
        active = [name for name, value, least in zip(names, p, thresholds, strict=True) if value >= least]
        return LABEL_SEPARATOR.join(active) or "-", float(p.max())


def open_session(path: Path) -> Any:
    """An ONNX Runtime session on one thread. Raises RunError for a file that is missing or not a whole model."""
    import onnxruntime

    if not path.is_file():
        raise RunError(f"{path} does not exist; python quant/run.py export --run RUN --whole makes it")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no public base
        raise RunError(f"{path} is not a whole model of ONNX Runtime: {str(error).splitlines()[0]}") from None


def open_classifier(path: Path, run: Path | None = None) -> Classifier:
    """Raises RunError for a file that is damaged, or that neither its metadata nor a run describes."""
    session = open_session(path)
    names = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
    metadata = session.get_modelmeta().custom_metadata_map
    if names == [INPUT, OUTPUT]:
        return of_run(path, session, run)
    if KEY not in metadata:
        raise RunError(
            f"{path}: expected a file that python quant/run.py export --whole wrote, or a network from {INPUT} to "
            f"{OUTPUT} in its run folder; found one of {', '.join(names)}, without the metadata {KEY}"
        )
    about = Description.read(metadata[KEY], path)
    shapes = [value.shape[1:] for value in (*session.get_inputs(), *session.get_outputs())]
    expected = [[about.segment_samples], [len(about.classes)]]
    if names != [WAVEFORM, PROBABILITIES] or shapes != expected:
        raise RunError(f"{path}: its metadata say {WAVEFORM}, {PROBABILITIES} of {expected}; found {names} of {shapes}")
    return Classifier(about, lambda samples: session.run([PROBABILITIES], {WAVEFORM: samples})[0])


def of_run(path: Path, session: Any, run: Path | None) -> Classifier:
    """A network from features to logits, with the front end of the run RUN/quant/BACKEND/FILE.onnx is in."""
    folder = run or Path(*path.resolve().parts[:-3])
    if not (folder / "best" / "model.safetensors").is_file():
        raise RunError(
            f"{path} starts from features: its run folder must say how they are made, and {folder} is none; "
            f"give --run, or export the whole by python quant/run.py export --run RUN --whole"
        )
    checkpoint = load_checkpoint(folder / "best" / "model.safetensors")
    if path.stem != FLOAT:
        home = recorded.folder_of(path, folder)
        checkpoint = replace(
            recorded.with_decoding(home, checkpoint), temperature=recorded.temperature(home, checkpoint)
        )
    spec = checkpoint.spec
    shapes = [value.shape[1:] for value in (*session.get_inputs(), *session.get_outputs())]
    expected, classes = list(spec.input_shape()), len(checkpoint.classes)
    if shapes[0] != expected or shapes[1] not in ([classes], [None]):
        raise RunError(f"{path}: expected the network of {folder}, {expected} to [{classes}], found {shapes}")
    return Classifier(Description.of(checkpoint), lambda batch: path_probabilities(session, checkpoint, batch))


def path_probabilities(
    session: Any, checkpoint: Checkpoint, samples: np.ndarray, number: torch.dtype = torch.float32
) -> np.ndarray:
    """(n, samples) -> (n, classes) by the python front end, whose spectra are in `number`, and a network's session."""
    with torch.inference_mode():
        log_mel = LogMel(checkpoint.spec.features).to(number)(torch.from_numpy(samples).to(number)).float().numpy()
    logits = session.run([OUTPUT], {INPUT: checkpoint.standardize(log_mel)})[0]
    if checkpoint.thresholds is not None:
        return event_probabilities(logits)
    return probabilities_of(logits, checkpoint.temperature)


def predict(
    model: Path, sources: Iterable[Path], run: Path | None, hop: float | None, pcm: Pcm | None,
    damaged: OnDamage = refuse,
) -> None:  # fmt: skip
    """Print `source, seconds, label, probability, ms per second of audio` for each window, as soon as it is known.

    `hop` (seconds) is from one window to the next; None: windows follow each other as in training. The probabilities
    of events in a file are then medians over time, once it is heard to its end; a stream has no end, a hop other times.
    A damaged recording is left out if `damaged` does not raise.
    """
    classifier, given = open_classifier(model, run), list(recordings_in(sources))
    about = classifier.about
    step = about.segment_samples
    if hop is not None:
        step = round(hop * about.sample_rate) if math.isfinite(hop) else 0
    if not 0 < step <= about.segment_samples:
        raise ConfigError(
            f"--hop: expected seconds up to a segment's {about.segment_samples / about.sample_rate:g}, found {hop:g}"
        )
    with labelling(len(given), shown=STREAM not in given) as done:
        for source in given:
            try:
                if source == STREAM:
                    windows, batch = stream_windows(pcm or Pcm(), about, step), 1
                else:
                    windows, batch = file_windows(source, about, hop, step), BATCH
            except Damaged as damage:
                damaged(damage)
                done(1)
                continue
            found = timed(classifier, windows, batch)
            if hop is None and source != STREAM and about.median_window > 1:
                found = smoothed(found, about.median_window)
            for start, p, seconds in found:
                name, probability = classifier.label(p)
                cost = 1e3 * seconds / (step / about.sample_rate)
                told = (as_field(source), f"{start / about.sample_rate:g}", name, f"{probability:.4f}", f"{cost:.2f}")
                print("\t".join(told), flush=batch == 1)
            done(1)


Window = tuple[int, np.ndarray]  # first sample, (samples,) float32


def timed(classifier: Classifier, windows: Iterable[Window], batch: int) -> Iterator[tuple[int, np.ndarray, float]]:
    """First sample, probabilities (classes,) and seconds of computing of each window."""
    waiting: list[Window] = []

    def run() -> Iterator[tuple[int, np.ndarray, float]]:
        samples = np.stack([window for _, window in waiting])
        started = time.perf_counter()
        found = classifier.probabilities(samples)
        seconds = (time.perf_counter() - started) / len(waiting)
        yield from ((start, p, seconds) for (start, _), p in zip(waiting, found, strict=True))
        waiting.clear()

    for window in windows:
        waiting.append(window)
        if len(waiting) == batch:
            yield from run()
    if waiting:
        yield from run()


def smoothed(found: Iterable[tuple[int, np.ndarray, float]], window: int) -> Iterator[tuple[int, np.ndarray, float]]:
    """What `timed` found in the whole of a recording, with its probabilities over time."""
    start, probabilities, seconds = zip(*found, strict=True)
    yield from zip(start, over_time(np.array(probabilities), window), seconds, strict=True)


def file_windows(path: Path, about: Description, hop: float | None, step: int) -> Iterator[Window]:
    """Without `hop`, the segments of training; silence is kept."""
    samples = read_mono(path, about.sample_rate)[0]
    if hop is None:
        segments, index = cut(samples, about.segment_samples, 0.0)
        return iter([(int(i) * step, segment) for i, segment in zip(index, segments, strict=True)])
    return slide([samples], about.segment_samples, step)


def slide(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[Window]:
    """Windows of `length` samples, `step` apart, as soon as they are full, holding no more than a window and a block.

    At the end a window of at least half its length is padded by zeros; so is a shorter one if it is the first.
    """
    kept, start = np.zeros(0, np.float32), 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) >= length:
            yield start, kept[:length]
            kept, start = kept[step:], start + step
    new = len(kept) - (length - step if start else 0)  # samples that no window had
    if len(kept) and (start == 0 or (new > 0 and 2 * len(kept) >= length)):
        yield start, np.pad(kept, (0, length - len(kept)))


def stream_windows(pcm: Pcm, about: Description, step: int) -> Iterator[Window]:
    return slide(stream_blocks(pcm, about.sample_rate, step), about.segment_samples, step)
