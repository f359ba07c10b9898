"""What the input chain costs: the probe on real images alone, by size and colour."""

import time

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from fsl_utils.classifier import features, probe
from fsl_utils.classifier.training import TrainingSet
from fsl_utils.data.tasks import FewShotTask

SIZES = (64, 128, 224)  # pixels; colour is seen at the last, where there is any


def costs(task: FewShotTask, device: str = "cpu") -> pd.DataFrame:
    """The arm `real` with the probe, one row a chain: size, channels, pr_auc, rare, seconds.

    Scored on the draw's validation images, of which `rare` are rare. seconds: of decoding,
    features and fit now, next to nothing where the store remembers them.
    """
    domain, draw = task.domain, task.draw
    development, rows = domain.rows("development"), []
    for size in SIZES:
        channels = domain.channels if size == SIZES[-1] else 1
        begin = time.perf_counter()
        # The very features that a cell of this size and these channels takes.
        source = {"data": domain.data_hash, "image_size": size, "partition": "development"}
        pixels = domain.images(size, channels)[development]
        seen = np.full(len(domain.table), -1)
        seen[development] = np.arange(len(development))
        x = features.extract(
            pixels, source | {"channels": channels}, device, progress=False, view=probe.view(size)
        )
        training, validation = seen[task.training], seen[draw.validation]
        labels, groups = draw.labels[task.training], draw.groups[task.training]
        fitted = probe.fit(TrainingSet(x[training], labels, groups))
        truth = draw.labels[draw.validation]
        row = {"size": size, "channels": channels, "rare": int(truth.sum())}
        row["pr_auc"] = average_precision_score(truth, fitted.score(x[validation]))
        rows.append(row | {"seconds": round(time.perf_counter() - begin, 1)})
    return pd.DataFrame(rows)
