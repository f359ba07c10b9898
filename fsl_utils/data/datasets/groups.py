"""Which images of a user's folder show one object: `groups.csv` or a pattern in names says so."""

import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from fsl_utils import StudyError
from fsl_utils.data.datasets.tables import read_csv, some

PATTERN_SECONDS = 10  # a pattern that backtracks would search for ever
NOT_JUDGED = "if one object stands in several images, the split leaks"

# A separator and a last part, or a last letter: what often tells the images of one object apart.
_USUAL = (
    r"(.+)[ _.-][^ _.-]+\.\w+$",
    r"(.*\d)[A-Za-z]\.\w+$",
    r"(.+)[ _.-][^ _.-]+[ _.-][^ _.-]+\.\w+$",
)


def of(names: pd.Series, root: Path, pattern: str) -> tuple[pd.Series, list[str]]:
    """Group of each image ('class/name.png' or deeper), and notes.

    Blanks at the ends of a group's name, doubled or not breaking, and another case do not make
    another group. Raises StudyError where an image has no group, or both ways are given.
    """
    table = root / "groups.csv"
    if table.exists() and pattern:
        raise StudyError(
            f"group_pattern '{pattern}' stands beside {table}: which of them counts? Drop one"
        )
    given, notes, why = names, [], "no groups.csv and no group_pattern"
    if table.exists() or pattern:
        given, notes = (
            _from_table(names, table) if not pattern else (_from_pattern(names, pattern), [])
        )
        given, more = _spelt(given)
        notes, why = notes + more, table.name if not pattern else f"group_pattern '{pattern}'"
    if given.nunique() == len(names):
        notes.append(f"{why}: every image is its own group, so {NOT_JUDGED}{suggestion(names)}")
    return given, notes


def _from_table(names: pd.Series, path: Path) -> tuple[pd.Series, list[str]]:
    table = files_of(path, ["group"])
    twice = table["file"][table["file"].duplicated()]
    if len(twice):
        raise StudyError(
            f"{path}: {len(twice)} files stand there more than once (first: {twice.iloc[0]})"
        )
    found = names.map(table.set_index("file")["group"]).fillna("")
    extra = sorted(set(table["file"]) - set(names))
    if len(extra) == len(table):
        raise StudyError(
            f"{path} fits no image: it says {extra[0]}, where an image is {min(names)}; "
            "file is the path below the folder, class included"
        )
    _need_all(names[found == ""], names, f"{path} gives no group to")
    return found, noted("rows of groups.csv have no image", extra)


def noted(what: str, names: Iterable[str]) -> list[str]:
    """A note that counts and names, none where there is nothing to name."""
    names = sorted(names)
    return [f"{len(names)} {what}: {some(names)}"] if names else []


def files_of(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table beside the images: file, spelt as images are, and `columns`, as text."""
    if not path.is_file():
        raise StudyError(f"{path}: not a file; it should be a table with file,{','.join(columns)}")
    table = read_csv(path, ["file", *columns])
    missing = [c for c in ("file", *columns) if c not in table.columns]
    if missing:
        raise StudyError(
            f"{path}: the columns {missing} are missing; expected file,{','.join(columns)}"
        )
    spelt = table["file"].map(lambda f: unicodedata.normalize("NFC", f).strip().replace("\\", "/"))
    return table.assign(file=spelt.str.removeprefix("./"))


def _from_pattern(names: pd.Series, pattern: str) -> pd.Series:
    """What a pattern finds in file names or, if it does not fit all, in paths below the class."""
    paths = [name.split("/", 1)[1] for name in names]
    found = _search(pattern, [PurePosixPath(path).name for path in paths])
    if "" in found and "" not in (below := _search(pattern, paths)):
        found = below
    found = pd.Series(found, names.index)
    _need_all(names[found == ""], names, f"group_pattern '{pattern}' finds no group in")
    return found


def _need_all(lost: pd.Series, names: pd.Series, what: str) -> None:
    if len(lost):
        raise StudyError(f"{what} {len(lost)} of {len(names)} images: {some(sorted(lost))}")


_SEARCH = """
import json, re, sys
pattern, texts = json.load(sys.stdin)
try:
    matches = map(re.compile(pattern).search, texts)
    print(json.dumps([m and (m[1] if m.re.groups else m[0]) or "" for m in matches]))
except Exception as error:
    print(json.dumps(str(error)))
"""


def _search(pattern: str, texts: list[str]) -> list[str]:
    """The first group, or all, of what a regular expression finds in each text, '' where nothing.

    In a process of its own: nothing stops a search that backtracks.
    """
    try:
        run = subprocess.run(
            [sys.executable, "-ISc", _SEARCH],
            input=json.dumps([pattern, texts]),
            capture_output=True,
            text=True,
            timeout=PATTERN_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise StudyError(
            f"group_pattern '{pattern}' searches for more than {PATTERN_SECONDS} s: it backtracks; "
            "do not nest + and *"
        ) from error
    found = json.loads(run.stdout)
    if isinstance(found, str):
        raise StudyError(f"group_pattern '{pattern}' is no regular expression: {found}")
    return found


def _spelt(groups: pd.Series) -> tuple[pd.Series, list[str]]:
    """Groups whose names differ in blanks or case alone become one, spelt as the first of them."""
    tidy = groups.map(lambda g: " ".join(re.sub(r"[\u200b\u2060\ufeff]", "", g).split()))
    folded = tidy.str.casefold()
    first = tidy.groupby(folded).transform("min")
    cases = tidy[tidy != first].unique()
    return first, noted("groups differ from another in case alone and are one with it", cases)


def joined(groups: pd.Series, *shared: pd.Series) -> pd.Series:
    """Groups, of which those become one whose images have an entry of a series in common."""
    before = None
    while before is None or not groups.equals(before):
        before = groups
        for entries in shared:
            groups = groups.groupby(entries).transform("min")
            groups = groups.groupby(before).transform("min")
    return groups


def suggestion(names: Iterable[str]) -> str:
    """A group_pattern that names with shared beginnings suggest, to end a sentence with; or ''."""
    files = [PurePosixPath(name).name for name in names]
    for pattern in _USUAL:
        expression = re.compile(pattern)
        found = [m[1] for m in map(expression.match, files) if m]
        sizes = pd.Series(found, dtype=str).value_counts()
        if len(found) == len(files) and 5 < len(sizes) <= 0.7 * len(files):
            return (
                f"; names share beginnings: group_pattern '{pattern}' would make {len(sizes)} "
                f"groups of {len(files)} images, of up to {sizes.max()}"
            )
    return ""
