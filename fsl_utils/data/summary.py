"""Tables of notebook 01: images, groups and partitions of a domain, and what leaks."""

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from fsl_utils.data import decoding, domains, images, leaks, partitions

SIDES = ("base", "development", "training", "validation", "test", partitions.SEALED)


def title(domain: domains.Domain) -> str:
    """The task in a few words."""
    return f"{domain.name}: {domain.rare_class} against {domain.common_class}{caution(domain)}"


def caution(domain: domains.Domain) -> str:
    """What every figure of a split by image says."""
    return "   [split by image: leaks by design]" if domain.protocol == "image" else ""


def sides(domain: domains.Domain, draw: partitions.Draw | None = None) -> pd.Series:
    """Partition of each image; with a draw, development is split into training and validation."""
    side = domain.table["partition"].astype(object).copy()
    if draw is not None:
        side.iloc[np.concatenate([draw.shots, draw.more, draw.common])] = "training"
        side.iloc[draw.validation] = "validation"
    return side.rename("side")


def counts(domain: domains.Domain, draw: partitions.Draw | None = None) -> pd.DataFrame:
    """Images and groups of each side: images, rare, groups, groups_with_rare, prevalence."""
    table = domain.table.assign(
        side=sides(domain, draw), rare_group=domain.table["group"].where(domain.table["label"] == 1)
    )
    found = table.groupby("side", sort=False).agg(
        images=("image", "size"),
        rare=("label", "sum"),
        groups=("group", "nunique"),
        groups_with_rare=("rare_group", "nunique"),
        prevalence=("label", "mean"),
    )
    return found.loc[[side for side in SIDES if side in found.index]]


def groups(domain: domains.Domain, draw: partitions.Draw | None = None) -> pd.DataFrame:
    """Images of every group, a row a (side, group): n, shots, rare (other than shots), common.

    With a draw, its training and validation groups alone.
    """
    table = domain.table.assign(side=sides(domain, draw), shot=False)
    if draw is not None:
        table.iloc[draw.shots, table.columns.get_loc("shot")] = True
        table = table[table["side"].isin(["training", "validation"])]
    table = table.assign(rare=table["label"].eq(1) & ~table["shot"], common=table["label"].eq(0))
    by_group = table.groupby(["side", "group"])
    return (
        by_group[["shot", "rare", "common"]]
        .sum()
        .rename(columns={"shot": "shots"})
        .assign(n=by_group.size())
    )


def image_sizes(domain: domains.Domain) -> pd.DataFrame:
    """Width and height of every image file in pixels, from its header."""
    found = np.zeros((len(domain.table), 2), int)

    def read(i):
        found[i] = decoding.size(domain.table["path"].iloc[i])

    images.each(read, range(len(found)), "sizes", progress=False)
    return pd.DataFrame(found, columns=["width", "height"]).assign(label=domain.table["label"])


def leak_table(by_group: domains.Domain, by_image: domains.Domain) -> pd.DataFrame:
    """What a split by image gives away, a row a protocol; the rule is the likest image's label."""
    rows = []
    for domain, name in ((by_group, "by group"), (by_image, "by image")):
        rule = leaks.nearest_neighbour(domain.table, domain.images(leaks.SIZE))
        rows.append(
            {
                "split": name,
                "split groups": len(leaks.split_groups(domain.table)),
                f"test {domain.rare_class} with a sibling in development": leaks.siblings(
                    domain.table
                ),
                "1-nearest-neighbour AUROC": rule["auroc"],
                "low": rule["low"],
                "high": rule["high"],
                "recall": rule["recall"],
                "false alarms": rule["false_alarms"],
            }
        )
    return pd.DataFrame(rows).set_index("split")


def twins(domain: domains.Domain, n: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions [<= n] of random rare test images, and of the development image most like each."""
    vectors = leaks.fingerprints(domain.images(leaks.SIZE))
    test = partitions.generator("twins", seed).permutation(domain.rows("test", 1))[:n]
    development = domain.rows("development")
    nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(vectors[development])
    return test, development[nearest.kneighbors(vectors[test])[1][:, 0]]
