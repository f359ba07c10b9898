"""YAML files that people write: read without code, without bombs, refused in one line."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fsl_utils import StudyError, params
from fsl_utils.params import shown

LARGEST = 1_000_000  # bytes
VALUES = 100_000  # with every alias written out


def read(path: Path) -> Any:
    """The content of a YAML file. Raises StudyError where it is no file, no YAML or too large."""
    try:
        if not path.exists():
            raise StudyError(f"{path}: no such file; those that ship are in notebooks/grids/")
        if not path.is_file():
            raise StudyError(f"{path}: not a plain file")
        if path.stat().st_size > LARGEST:
            raise StudyError(f"{path}: larger than {LARGEST:,} bytes")
        loader = yaml.SafeLoader(path.read_text())
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > VALUES:
            raise StudyError(f"{path}: its aliases stand for more than {VALUES:,} values")
        return loader.construct_document(node)
    except RecursionError as error:
        raise StudyError(f"{path}: nested too deep, or an alias that holds itself") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        words = " ".join(str(error).split())[:200]
        raise StudyError(f"{path}: not YAML ({words})") from error
    except OSError as error:
        raise StudyError(f"{shown(str(path))}: not readable ({error.strerror})") from error


def checked(path: Path, kind: type[params.Model]) -> params.Model:
    """A YAML map as a `kind`. Raises StudyError for an unknown name or a wrong value."""
    content = read(path) or {}
    with named(path):
        if not isinstance(content, dict):
            raise StudyError(f"a search file is a map of {', '.join(kind.model_fields)}")
        return params.checked(kind, content, "key")


@contextmanager
def named(place: Path | str) -> Iterator[None]:
    """A StudyError of a file's content names the file, or the place in it."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{place}: {error}") from error


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Values under a node, aliases written out. Raises ValueError for a key given twice."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in sizes:
        children = list(node.value)
        if isinstance(node, yaml.MappingNode):
            names = [key.value for key, _ in children if isinstance(key, yaml.ScalarNode)]
            if twice := [name for name, times in Counter(names).items() if times > 1]:
                line = node.start_mark.line + 1
                raise ValueError(f"{shown(twice[0])} is given twice in the map of line {line}")
            children = [part for pair in children for part in pair]
        sizes[id(node)] = 1 + sum(_size(child, sizes) for child in children)
    return sizes[id(node)]
