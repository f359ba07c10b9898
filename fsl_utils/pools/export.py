"""A pool as plain files for other tools: PNG images in the folder of their class, as torchvision's
ImageFolder reads them.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fsl_utils import StudyError, files, store
from fsl_utils.data.datasets import registry
from fsl_utils.generator import sampling
from fsl_utils.generator.sampling import PoolRequest

MANIFEST = "manifest.json"


def image_folder(
    folder: Path | str, images: np.ndarray, verdicts: pd.DataFrame, pool: PoolRequest
) -> Path:
    """Write the first images of a pool, uint8 [N, C, S, S], to `folder/<rare class>/`, and what is
    known of them to manifest.json.

    verdicts: of `filters.verdicts`, one row an image. manifest.json: key and request of the pool,
    the licence of the data, and of each image file, number, source (the real image it was made
    from, if any), copied, and the filter's reason ('' for kept). Nothing is dropped. Raises
    StudyError where `folder` holds anything but an earlier export of this pool.
    """
    folder, key, domain = files.absolute(folder), pool.key, pool.task.domain
    if folder.exists() and not (
        folder.is_dir() and (not any(folder.iterdir()) or _exported(folder) == key)
    ):
        raise StudyError(
            f"{folder}: it holds something other than pool {key[:12]}: "
            "name an empty or a new folder in `export`"
        )
    made_from = sampling.sources(pool, range(len(images)))
    # An interrupted export is known as one of this pool
    _write(folder, {"pool": key, "complete": False})
    rows = []
    for i, (image, verdict) in enumerate(zip(images, verdicts.itertuples())):
        name = f"{domain.rare_class}/{key[:12]}_{verdict.number:05d}.png"
        picture = Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1))
        # `picture` is saved at once
        store.write_whole(folder / name, lambda partial: picture.save(partial, format="PNG"))  # noqa: B023
        rows.append(
            {
                "file": name,
                "number": int(verdict.number),
                "source": None if made_from is None else domain.table["image"].iloc[made_from[i]],
                "copied": verdict.reason == "copied",
                "reason": verdict.reason,
            }
        )
    _write(
        folder,
        {
            "pool": key,
            "complete": True,
            "request": pool.params(),
            "domain": domain.name,
            "rare_class": domain.rare_class,
            "licence": registry.get(domain.name).sheet.licence,
            "images": rows,
        },
    )
    return folder


def _write(folder: Path, record: dict) -> None:
    store.write_text(folder / MANIFEST, json.dumps(record, indent=1))


def _exported(folder: Path) -> str | None:
    """Key of the pool whose export a folder is, or None."""
    try:
        return json.loads((folder / MANIFEST).read_text())["pool"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
