"""Which systems a package holds, and which of its files belong to none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from submission.checks.fault import Fault
from submission.schema import LABEL_PART, MAX_INDEX, PackageFormat, team_of


def systems_in(layout: PackageFormat, names: Sequence[str]) -> tuple[dict[str, str], list[Fault]]:
    """(label -> its folder, faults): a folder is a system's if it holds a table, a meta.yaml or a file of its code."""
    above = re.escape(layout.folder.partition("{label}")[0]) if layout.also_in is None else f"{layout.also_in}/"
    start = f"{layout.folder}/"
    inside = [*_own_names(layout), *(text[len(start) :] for text in layout.needed if text.startswith(start))]
    files = "|".join(re.escape(text).replace(re.escape("{label}"), "[^/]+") for text in inside)
    pattern = re.compile(f"(?P<folder>{above}(?P<label>[^/]+))/({files})")
    folders: dict[str, str] = {}
    for found in filter(None, map(pattern.fullmatch, names)):
        folders.setdefault(found["label"], found["folder"])
    return folders, [fault for name in names for fault in _strays(layout, name, folders)]


def label_faults(layout: PackageFormat, folders: dict[str, str]) -> Iterator[Fault]:
    """None, too many, or badly named systems; systems of different teams."""
    if not folders:
        where = layout.folder.format(label=layout.label_example)
        yield Fault("", None, f"expected the files of a system, such as {where}/, found none")
    if len(folders) > MAX_INDEX:
        yield Fault("", None, f"expected at most {MAX_INDEX} systems, found {len(folders)}")
    for label, folder in folders.items():
        if not re.fullmatch(layout.label_pattern, label):
            yield Fault(folder, None, f"expected a label such as {layout.label_example}, found {label!a}")
    teams = dict.fromkeys(team_of(label) for label in folders)
    if len(teams) > 1:
        yield Fault("", None, f"expected the systems of one team, found those of {', '.join(map(ascii, teams))}")


def is_report(layout: PackageFormat, name: str) -> bool:
    return re.fullmatch(_report_pattern(layout), name) is not None


def _own_names(layout: PackageFormat) -> list[str]:
    return [layout.meta_name, *layout.outputs.values()]


def _report_pattern(layout: PackageFormat) -> str:
    """A report lies beside the systems or in a system's folder, whatever the team in its name."""
    top = re.escape(layout.report.rpartition("/")[0])
    top = f"({top}|{layout.also_in})" if layout.also_in else top
    return f"{top + '/' if top else ''}([^/]+/)?{LABEL_PART.replace('-]', '_-]')}\\.technical_report\\.pdf"


def _belongs(layout: PackageFormat, name: str, folders: dict[str, str]) -> bool:
    for label in folders:
        if name in [text.format(label=label, team=team_of(label)) for text in layout.needed]:
            return True
        words = {"label": re.escape(label), "team": re.escape(team_of(label))}
        if any(re.fullmatch(pattern.format(**words), name) for pattern in layout.allowed):
            return True
    return False


def _strays(layout: PackageFormat, name: str, folders: dict[str, str]) -> Iterator[Fault]:
    """A fault if a file belongs to no system: one of another name, or of another label than its folder."""
    if is_report(layout, name) or _belongs(layout, name, folders):
        return
    folder, _, base = name.rpartition("/")
    for label, own in folders.items():
        if folder == own:
            wanted = [text.format(label=label) for text in _own_names(layout)]
            if base not in wanted:
                yield Fault(name, None, f"is not part of a package; its folder may hold {', '.join(wanted)}")
            return
    expected = f"{layout.folder.format(label='LABEL')}/{layout.meta_name.format(label='LABEL')}"
    yield Fault(name, None, f"is not part of a package, whose files are {expected} and the like")
