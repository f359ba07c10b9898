"""Public images that pretraining sees beside the base partitions; none is one of a study."""

from dataclasses import dataclass

import numpy as np

from fsl_utils import StudyError
from fsl_utils.data import images
from fsl_utils.data.datasets.sheet import data_root


@dataclass(frozen=True)
class Corpus:
    """A folder of images in `<data root>/corpus/`. condition: row of a mini's embedding. flips: the
    axes along which a mirrored image is still one of the corpus.
    """

    name: str
    condition: int
    flips: str
    source: str
    terms: str

    def images(self, size: int) -> np.ndarray:
        """Its images, grey, uint8 [N, 1, size, size]. Raises StudyError where there are none."""
        folder = data_root() / "corpus" / self.name
        paths = sorted(path for path in folder.glob("**/*") if path.suffix in (".jpg", ".png"))
        if not paths:
            raise StudyError(
                f"{folder}: no image there; get {self.name} from {self.source}, "
                "or pretrain without corpora"
            )
        return images.read_all(paths, size, 1)


CORPORA = (
    Corpus("dtd", 7, "hv", "https://www.robots.ox.ac.uk/~vgg/data/dtd/", "for research"),
    Corpus("neu", 8, "hv", "http://faculty.neu.edu.cn/songkechen/", "for research, citation asked"),
    Corpus("xsdd", 9, "hv", "https://github.com/Fighter20092392/X-SDD", "citation asked"),
    Corpus("kermany_normal", 10, "", "https://doi.org/10.17632/rscbjbr9sj", "CC BY 4.0"),
)
