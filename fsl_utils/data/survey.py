"""What each image file of a folder holds: every picture is looked at once, and remembered."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageChops

from fsl_utils import store
from fsl_utils.data import cache, decoding, images

_VERSION = 1  # raised when `_facts` says something else of the same file
_SIGNED = 32768
FEW = 8  # grey levels that a mask may have: none, a defect, its kinds
_SHADE = 31  # grey level up to which a mask with shades marks nothing
_TINT = 16  # of 255: what the channels of a grey photo may differ by after JPEG


def of(root: Path, names: list[str]) -> pd.DataFrame:
    """The files `names` below `root`, one row each, in their order.

    Columns: image, path, format ('' or that of a file that is not read: then the rest is missing),
    width and height in pixels as seen, content (hash of the picture), colour, grey16, deep,
    low and high (grey levels, of 16-bit files unscaled), inverted, turned, see_through (as in
    `decoding.Picture`), levels (distinct grey ones), middle (share of pixels of a middle grey),
    marked (share that it marks if it is a mask).
    Raises one StudyError that counts and names damaged files.
    """
    memo = store.opened() / "surveys" / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()}"
    known = cache.recall(memo) or {}
    known = known.get("files", {}) if known.get("version") == _VERSION else {}
    stamps = {name: cache.stamp(root / name) for name in names}
    rows = {name: known[name][1] for name in names if known.get(name, [None])[0] == stamps[name]}
    new = [name for name in names if name not in rows]

    def look(name):
        rows[name] = _facts(root / name)

    images.each(look, new, "looking at every image", progress=len(new) > 1000)
    settled = {name: (stamps[name], rows[name]) for name in names if cache.settled(stamps[name])}
    if new and settled:
        cache.remember(memo, {"version": _VERSION, "files": settled})
    frame = pd.DataFrame([rows[name] for name in names], columns=_COLUMNS)
    return frame.assign(image=names, path=[str(root / name) for name in names])


_COLUMNS = (
    *("format", "width", "height", "content", "colour", "grey16", "deep", "low", "high"),
    *("inverted", "turned", "see_through", "levels", "middle", "marked"),
)


def _facts(path: Path) -> dict:
    try:
        found = decoding.picture(path)
    except decoding.OtherFormat as error:
        return {"format": error.format}
    image, colour = found.image, not found.grey16 and _coloured(found.image)
    if not found.grey16:
        image = image.convert("RGB" if colour else "L")
    counts = _histogram(image if found.grey16 else image.convert("L"))
    levels = np.flatnonzero(counts) - _SIGNED
    middle = counts[_SIGNED + 64 : _SIGNED + 192].sum() / counts.sum()
    head = f"{image.mode} {image.size}".encode()
    return {
        "format": "",
        "width": image.width,
        "height": image.height,
        "content": hashlib.sha256(head + image.tobytes()).hexdigest()[:32],
        "colour": colour,
        "grey16": found.grey16,
        "deep": found.deep,
        "low": int(levels[0]),
        "high": int(levels[-1]),
        "inverted": found.inverted,
        "turned": found.turned,
        "see_through": found.see_through,
        "levels": len(levels),
        "middle": round(float(middle), 4),
        "marked": round(float(marked(found).mean()), 4),
    }


def marked(found: decoding.Picture) -> np.ndarray:
    """Where a picture marks a defect if it is a mask, bool [H, W]: where it is not black.

    A mask with shades marks from a dark grey on.
    """
    array = np.asarray(found.image if found.grey16 else found.image.convert("L"))
    return array > (0 if array.max() <= FEW else _SHADE)


def _histogram(image: Image.Image) -> np.ndarray:
    """How many pixels have each grey level, from -32768 to 65535."""
    size = _SIGNED + 65536
    parts = (strip.astype(int).ravel() + _SIGNED for _, strip in decoding.strips(image))
    return sum(np.bincount(part, minlength=size) for part in parts)


def _coloured(image: Image.Image) -> bool:
    if len(image.getbands()) == 1 and image.mode != "P":
        return False
    red, green, blue = image.convert("RGB").split()
    apart = (ImageChops.difference(red, green), ImageChops.difference(green, blue))
    return max(channel.getextrema()[1] for channel in apart) > _TINT
