"""What a data set holds, in words: parts, classes, devices, lengths, and classes that a part is without."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from system.data.decoding import seconds_of
from system.dataset import PARTS, PreparedData, Segments
from system.progress import progress


def overview(data: PreparedData, paths: Mapping[str, Path]) -> Iterator[str]:
    """Lines for a person. `paths`: file name -> the recording, whose header tells how long it is."""
    yield f"{data.name}: {len(data.classes)} classes ({', '.join(data.classes)})"
    yield f"  checksum {data.checksum}"
    for name in PARTS:
        part = getattr(data, name)
        devices = ", ".join(f"{device} {part.device.count(device)}" for device in sorted(set(part.device)))
        yield (f"  {name}: {len(part)} segments of {len(set(part.filename))} clips, {len(set(part.source))} sources; "
               f"devices: {devices}")  # fmt: skip
    seconds = lengths(data, paths)
    yield f"  {sum(seconds) / 60:.1f} minutes in all, in clips of {min(seconds):.4g} to {max(seconds):.4g} s"
    if data.events is not None:
        annotated = [event for events in data.events.values() for event in events]
        what = "annotated events" if all(math.isfinite(event.offset) for event in annotated) else "tags without a time"
        without = sum(not events for events in data.events.values())
        yield f"  {len(annotated)} {what}, {without} clips without any"
    if data.skipped:
        yield f"  {data.skipped} damaged recordings left out"
    wide = max(map(len, ("clips of", *data.classes)))
    yield f"  {'clips of':{wide}}" + "".join(f"{name:>12}" for name in PARTS)
    counts = [clips_of(data, getattr(data, name)) for name in PARTS]
    for label in data.classes:
        yield f"  {label:{wide}}" + "".join(f"{count[label]:12}" for count in counts)
    yield from (f"  {line}" for line in absences(data))


def lengths(data: PreparedData, paths: Mapping[str, Path]) -> list[float]:
    """Seconds of each clip that is in a part."""
    names = sorted({name for part in PARTS for name in getattr(data, part).filename})
    seconds = []
    with progress("measuring clips", len(names), unit="clips") as step:
        for name in names:
            seconds.append(seconds_of(paths[name]))
            step(1)
    return seconds


def clips_of(data: PreparedData, part: Segments) -> Counter[str]:
    """How many clips of a part have each class."""
    if data.events is None:
        of_clip = {name: {data.classes[index]} for name, index in zip(part.filename, part.label.tolist(), strict=True)}
    else:
        of_clip = {name: {event.label for event in data.events[name]} for name in part.filename}
    return Counter(label for labels in of_clip.values() for label in labels)


def absences(data: PreparedData) -> Iterator[str]:
    """A line for each class that a part is without: nothing is chosen, or known, by how it is recognized."""
    for name, part in {"validation part": data.validation, "test fold": data.test}.items():
        counts = clips_of(data, part)
        for label in data.classes if len(part) else ():
            if not counts[label]:
                yield f"class {label!r} is not in the {name}"
