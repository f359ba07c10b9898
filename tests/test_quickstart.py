"""After `make study` each notebook finds its work done when it is opened with its defaults."""

from types import SimpleNamespace

import pytest

from fsl_utils import params
from fsl_utils.classifier import plan
from fsl_utils.data import partitions
from fsl_utils.data.tasks import FewShotTask
from fsl_utils.generator.adapter import AdapterRequest
from fsl_utils.study import grid, notebooks, publish


@pytest.fixture(scope="module")
def quickstart():
    """Its runs of notebooks, by stage."""
    _, runs = grid.read(notebooks.FOLDER / "grids" / "quickstart.yaml")
    found = {stage: [] for stage in grid.STAGES}
    for node in grid.nodes(runs):
        found[node.stage].append(node)
    return found


def opened(stage: str) -> grid.Node:
    """The run of a stage's notebook with its defaults; the notebooks' own are those of the table
    (`test_notebooks`)."""
    return grid._node(stage, params.Parameters().model_dump())


def keys(node: grid.Node) -> set[str]:
    """Of what a run takes from the store or makes: its adapter, its pool and filter, its cells or
    report."""
    p, domain = SimpleNamespace(**node.values), grid.task(node.values)
    task = FewShotTask(domain, partitions.draw(domain.table, p.draw, p.n_real))
    if node.stage == "adapter":
        return {AdapterRequest.of(task, p).key}
    if node.stage == "pool":
        return {plan.pools(task, p)["rare"].key, plan.screen(task, p).key}
    return set(publish.keys(node))


@pytest.mark.parametrize("stage", grid.STAGES)
def test_a_notebook_opened_by_hand_finds_its_work_done(stage, quickstart):
    made = set().union(*(keys(node) for node in quickstart[stage]))
    assert keys(opened(stage)) and keys(opened(stage)) <= made


def test_the_pool_is_as_large_as_notebook_03_shows(quickstart):
    [pool] = quickstart["pool"]
    assert opened("pool").values["n_images"] <= pool.values["n_images"]


def test_notebook_04_shows_all_that_the_tables_have_of_its_classifier(quickstart):
    probes = {
        n
        for n in quickstart["cells"]
        if n.values["classifier"] == opened("cells").values["classifier"]
    }
    assert set().union(*map(keys, probes)) == keys(opened("cells"))
