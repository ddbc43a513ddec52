"""YAML in, validated specification out. Every fault is reported at once, with its dotted path."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from system.errors import ConfigError


class Spec(BaseModel):
    """A frozen piece of configuration: unknown keys are refused, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def changed(self: S, **changes: Any) -> S:
        """The same specification with some fields replaced, validated again."""
        return type(self).model_validate({**self.model_dump(), **changes})

    def plain(self) -> dict[str, Any]:
        """Lists, numbers and strings only: what is written to YAML and JSON."""
        return self.model_dump(mode="json")


S = TypeVar("S", bound=Spec)


class YamlLoader(yaml.SafeLoader):
    """Safe, and with the line of a value that is not what its tag says: PyYAML lets bare errors of Python through."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError) as error:
            kind = node.tag.rpartition(":")[2]
            reason = str(error) if type(error) is ValueError else f"{_short(node.value)} is no {kind}"
            raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark) from None


class UniqueKeyLoader(YamlLoader):
    """Refuses a key that is given twice: of two values a reader sees one, and the last would win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            name = (key.tag, key.value)
            if name in lines:
                reason = f"{_short(key.value)} was given before, in line {lines[name]}"
                raise yaml.constructor.ConstructorError(None, None, reason, key.start_mark)
            lines[name] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one mapping from a YAML file. Raises ConfigError naming the file and the line."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # a letter that is none, deep nesting
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(value).__name__}")
    return value


def override(config: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply `section.key=value` settings (values are YAML) to a copy of `config`.

    Raises ConfigError for a setting that is not of this form.
    """
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in config.items()}
    for setting in settings:
        path, equals, text = setting.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {setting}: expected section.key=value, such as train.epochs=10")
        try:
            value = yaml.load(text, Loader=UniqueKeyLoader) if text else None
        except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
            value = text
        node = result
        for key in keys[:-1]:
            child = node.get(key)
            node[key] = dict(child) if isinstance(child, dict) else {}
            node = node[key]
        node[keys[-1]] = value
    return result


def parse(spec: type[S], value: Any, origin: str) -> S:
    """Validate a mapping. Raises ConfigError listing every fault: `origin: train.epochs: ... found ...`"""
    try:
        return spec.model_validate(value)
    except ValidationError as error:
        faults = [_explain(fault, spec) for fault in error.errors() if not _of_its_items(fault, error.errors())]
        raise ConfigError(f"{origin}: " + "; ".join(faults)) from None


def _of_its_items(fault: Any, faults: Sequence[Any]) -> bool:
    """Whether a list is said to be too short for its items have faults, which are told: pydantic leaves them out."""
    where = fault["loc"]
    return fault["type"] == "too_short" and any(other["loc"][: len(where)] == where != other["loc"] for other in faults)


def _explain(fault: Any, spec: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in fault["loc"]) or "(top level)"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(spec, fault["loc"][:-1])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else f" (known here: {', '.join(known)})"
        return f"{where}: unknown key{hint}"
    message = fault["msg"].removeprefix("Value error, ")
    found = "" if fault["type"] == "missing" else f", found {_short(fault['input'])}"
    return f"{where}: {message}{found}"


def _known_keys(spec: type[BaseModel], path: Sequence[Any]) -> list[str]:
    for part in path:
        field = spec.model_fields.get(part) if isinstance(part, str) else None
        inner = _types(field.annotation) if field else []
        if not inner:
            break
        spec = inner[0]
    return sorted(spec.model_fields)


def _types(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [t for arg in getattr(annotation, "__args__", ()) for t in _types(arg)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
