"""The engine on notebooks that do next to nothing (see dummies.py), each in a real kernel."""

import ast
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import dummies
import nbformat
import pandas as pd
import psutil
import pytest
from distributed import Client, LocalCluster, Security

from fsl_utils import ROOT, StudyError, store
from fsl_utils.generator import settings
from fsl_utils.study import engine, grid, progress, worker
from fsl_utils.study import notebooks as nbs
from fsl_utils.study.runs import RunRequest, finished


@pytest.fixture
def notebooks(tmp_path, own_store):
    store.opened()
    with dummies.taken(dummies.write(tmp_path / "notebooks")) as _:
        yield tmp_path / "notebooks"


@pytest.fixture(scope="module")
def client():
    """Two workers in this process: quick to start."""
    with Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


def run(nodes, client, **options) -> dict:
    *_, ended = engine.run(nodes, client, **{"threads": 1} | options)
    return ended


def execute(node, **options) -> str:
    request = RunRequest.of(node)
    given = {"root": str(store.root()), "threads": 1, "timeout": None} | options
    worker.execute(request, str(nbs.snapshot(request.notebook)), needs=[], **given)
    return str(request.place)


def tidy(root: Path) -> bool:
    """No marker, no record and no scratch folder is left."""
    return not any((root / "running").glob("*")) and not any((root / "tmp").glob("*"))


def test_a_failure_stops_its_descendants_alone_and_a_second_run_does_the_rest(
    notebooks, own_store, client
):
    nodes = dummies.nodes([0, 1])
    (own_store / "fail-adapter-1").touch()
    ended = run(nodes, client)
    good = [node for node in nodes if node.values["draw"] == 0]
    assert (
        all(isinstance(ended[node], Path) == (node in good) for node in nodes) and len(ended) == 8
    )
    [(node, error)] = [(node, error) for node in nodes if (error := progress.failure(node, ended))]
    assert (
        node.stage == "adapter"
        and node.values["draw"] == 1
        and isinstance(error, StudyError)
        and "this draw was told to fail" in str(error)
    )
    kept = str(error).split("[notebook: ")[1].rstrip("]").split(", traceback: ")
    assert "StudyError" in Path(kept[1]).read_text() and nbformat.read(kept[0], 4).cells
    assert tidy(own_store) and "FSL_RECORD" not in os.environ
    [said] = [error for node in nodes if (error := progress.failure(node, progress.states(nodes)))]
    assert kept[1] in str(said)

    record = store.manifest(ended[good[2]])
    assert (
        good[2].stage == "cells"
        and record["made"][0].startswith("cell/")
        and len(record["things"]) == 2
        and record["cpu_seconds"] > 0
    )
    executed = nbformat.read(ended[good[2]] / "04_classifier_sweep.ipynb", 4)
    nbformat.validate(executed)
    shown = ast.literal_eval(executed.cells[-1].outputs[0].data["text/plain"])
    assert shown == ("1", str(notebooks))  # its own threads and folder, not this process's
    assert Path.cwd() != notebooks

    (own_store / "fail-adapter-1").unlink()
    before = {path: path.stat().st_mtime_ns for path in own_store.glob("*/*/manifest.json")}
    again = run(nodes, client)
    assert all(isinstance(again[node], Path) for node in nodes) and not list(
        (own_store / "failed").iterdir()
    )
    assert all(
        path.stat().st_mtime_ns == then for path, then in before.items()
    )  # nothing was done twice


def test_what_the_file_lists_first_is_done_first(notebooks, monkeypatch):
    """Reports come last, though each is ready long before the last adapter; a worker is at most
    one adapter ahead."""
    nodes, log = dummies.nodes(range(6)), notebooks / "begun"

    def noted(request, *_):
        with open(log, "a") as file:
            file.write(f"{request.notebook}\n")
        time.sleep(0.05)

    monkeypatch.setattr(worker, "execute", noted)
    with (
        dask.config.set(engine.SETTINGS),
        Client(
            processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as client,
    ):
        run(nodes, client)
    stage = {notebook: stage for stage, notebook in grid.STAGES.items()}
    begun = [stage[line] for line in log.read_text().split()]
    assert len(begun) == len(nodes) == 24 and begun[-6:] == ["report"] * 6
    assert all(begun[:i].count("adapter") <= begun[:i].count("cells") + 3 for i in range(18))


def test_a_cell_that_hangs_is_stopped(notebooks, own_store):
    (own_store / "hang-adapter-0").touch()
    with pytest.raises(StudyError, match=r"not done after 2 s.*--timeout"):
        execute(dummies.nodes([0])[0], timeout=2)
    assert tidy(own_store)


def test_a_kernel_that_dies_is_started_again_and_given_up_in_words(
    notebooks, own_store, monkeypatch
):
    monkeypatch.setattr(worker, "DEATHS", 2)
    first, second = (dummies.nodes([draw])[0] for draw in (0, 1))
    (own_store / "die_once-adapter-0").touch()
    assert store.damage(Path(execute(first))) is None
    (own_store / "die-adapter-1").touch()
    with pytest.raises(StudyError, match=r"its kernel died 2 times.*memory"):
        execute(second)
    assert tidy(own_store)


def test_a_full_disk_in_a_notebook_is_explained(notebooks, own_store):
    (own_store / "full-adapter-0").touch()
    with pytest.raises(StudyError, match=r"disk full.*FSL_STORE"):
        execute(dummies.nodes([0])[0])
    assert tidy(own_store) and not list(own_store.glob("run/*"))


def test_a_full_disk_under_the_executed_copy_is_explained(notebooks, own_store, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker.papermill, "execute_notebook", full)
    with pytest.raises(StudyError, match=r"disk full.*FSL_STORE"):
        execute(dummies.nodes([0])[0])
    assert tidy(own_store)


def test_braces_in_paths_are_no_places_for_parameters(tmp_path, monkeypatch):
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "a {draw} store"))
    with dummies.taken(dummies.write(tmp_path / "{none} notebooks")):
        assert store.damage(Path(execute(dummies.nodes([0])[0]))) is None
    assert sorted(os.listdir(tmp_path)) == ["a {draw} store", "{none} notebooks"]


def test_links_in_a_shared_store_overwrite_nothing(notebooks, own_store, tmp_path):
    node = dummies.nodes([0])[0]
    theirs = tmp_path / "theirs.txt"
    theirs.write_text("theirs")
    name = RunRequest.of(node).name
    for link in (f"running/{name}", f"failed/{name}.txt", f"failed/{name}.ipynb"):
        (own_store / link).parent.mkdir(exist_ok=True)
        (own_store / link).symlink_to(theirs)
    (own_store / "fail-adapter-0").touch()
    with pytest.raises(StudyError, match="told to fail"):
        execute(node)
    assert theirs.read_text() == "theirs" and tidy(own_store)
    assert "StudyError" in (own_store / "failed" / f"{name}.txt").read_text()


def test_a_worker_with_another_store_is_refused(notebooks):
    with pytest.raises(StudyError, match=r"start it with FSL_STORE=/elsewhere"):
        execute(dummies.nodes([0])[0], root="/elsewhere")


def test_a_grid_runs_what_it_began_with(notebooks, client):
    """Notebooks that are opened, run, saved, edited or broken meanwhile change nothing of it."""
    nodes = dummies.nodes([0])
    states = engine.run(nodes, client, threads=1)
    next(states)
    for path in notebooks.iterdir():
        path.write_text("{}")
    *_, ended = states
    assert all(isinstance(ended[node], Path) for node in nodes)


def test_what_jupyter_saves_changes_no_run(notebooks):
    [*_, node] = dummies.nodes([0])
    path, before = nbs.source(grid.STAGES[node.stage]), RunRequest.of(node)
    book = nbformat.read(path, 4)
    output = nbformat.v4.new_output("stream", text="seen")
    for cell in book.cells:
        cell |= {"id": f"x{cell['id']}", "execution_count": 7, "outputs": [output]}
    book.cells[0].source = book.cells[0].source.replace("draw = 0", "draw = 5")
    book.cells.append(nbformat.v4.new_markdown_cell("a note"))
    book.metadata["language_info"] = {"name": "python", "version": "3.12"}
    nbformat.write(book, path)
    assert RunRequest.of(node) == before
    book.cells[1].source += "\n"
    nbformat.write(book, path)
    assert RunRequest.of(node).key != before.key


def test_other_settings_of_fine_tuning_are_another_run(notebooks, monkeypatch):
    node = dummies.nodes([0])[0]
    before = RunRequest.of(node).key
    monkeypatch.setitem(settings.BACKBONES, "mini", (settings.FineTuning, {"rank": 8}))
    assert RunRequest.of(node).key != before


def test_two_runs_of_one_node_leave_one_whole_result(notebooks, own_store):
    node, results = dummies.nodes([0])[0], []
    threads = [threading.Thread(target=lambda: results.append(execute(node))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(results) == 2 and len(set(results)) == 1 and store.damage(Path(results[0])) is None
    assert len(list(own_store.glob("run/*"))) == len(
        list(own_store.glob("adapter/*"))
    ) == 1 and tidy(own_store)


def test_results_that_were_harmed_are_made_again(notebooks, own_store, client):
    nodes = dummies.nodes([0])[:3]
    ended = run(nodes, client)
    whole = dummies.table(own_store)
    cell = next(own_store.glob("cell/*"))
    for harm in (
        lambda: (cell / "0.txt").write_text("x" * 64),
        lambda: (cell / "1.txt").write_text(""),
        (cell / "manifest.json").unlink,
        (ended[nodes[2]] / "04_classifier_sweep.ipynb").unlink,
        next(own_store.glob("adapter/*/2.txt")).unlink,
    ):
        harm()
        with pytest.warns(UserWarning, match=r"damaged"):
            assert len(finished(nodes)) in (
                1,
                2,
            )  # what made it, and for the adapter also the pool that used it
            ended = run(nodes, client)
        assert len(finished(nodes)) == 3 and dummies.table(own_store) == whole


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_a_node_that_kills_workers_given_up(
    notebooks, own_store
):
    nodes = dummies.nodes([0, 1])
    (own_store / "kill-adapter-1").touch()
    (own_store / "hang-adapter-0").touch()
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        engine.cluster(2) as client,
    ):
        states = engine.run(nodes, client, threads=1)
        while not any("02_lora" in name for name in progress.alive()):
            next(states)
        (own_store / "hang-adapter-0").unlink()
        *_, ended = states
    assert all(isinstance(ended[node], Path) for node in nodes if node.values["draw"] == 0)
    [error] = [error for node in nodes if (error := progress.failure(node, ended))]
    assert "its worker died 2 times" in str(error) and "--workers" in str(error)


def start(notebooks: Path, draws: int, how: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tests" / "dummies.py"), str(notebooks), str(draws), how]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def killed_at_random(tmp_path, monkeypatch, kills: int, draws: int, how: str) -> None:
    """The table after SIGKILLs at random moments is that of an undisturbed run; nothing is lost,
    nothing counted twice."""
    notebooks = dummies.write(tmp_path / "notebooks", pause=0.1)
    tables = []
    for disturbed in (False, True):
        monkeypatch.setenv("FSL_STORE", str(tmp_path / f"store-{disturbed}"))
        store.root().mkdir()
        for _ in range(kills if disturbed else 0):
            driver = start(notebooks, draws, how)
            driver.stdout.readline()  # started: from here on at any moment
            finished = set(store.root().glob("cell/*/manifest.json"))
            time.sleep(random.random() * 3)
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            assert finished <= set(store.root().glob("cell/*/manifest.json"))
        driver = start(notebooks, draws, how)
        _, err = driver.communicate(timeout=600)
        assert driver.returncode == 0, err
        tables.append(dummies.table(store.root()))
    assert tables[0] == tables[1] and len(json.loads(tables[0])) == 3 * draws


@pytest.mark.slow
def test_a_killed_driver_goes_on(tmp_path, monkeypatch):
    killed_at_random(tmp_path, monkeypatch, kills=2, draws=2, how="threads")


@pytest.mark.soak
def test_a_driver_killed_twenty_times_goes_on(tmp_path, monkeypatch):
    killed_at_random(tmp_path, monkeypatch, kills=20, draws=6, how="processes")


@pytest.mark.soak
def test_a_killed_grid_of_the_real_notebooks_ends_in_the_same_tables(tmp_path, monkeypatch):
    """With everything that runs (driver, workers, kernels) killed at random moments."""
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "{name: tiny, defaults: {n_real: 6, adapter_steps: 250, filter_steps: 10, ratios: [2]}, "
        "sweep: [{draw: [0, 1], arms: [real, lora, lora_filtered]}]}"
    )
    found = {}
    for disturbed in (False, True):
        monkeypatch.setenv("FSL_STORE", str(tmp_path / f"store-{disturbed}"))
        out = tmp_path / f"out-{disturbed}"
        command = [
            sys.executable,
            "-m",
            "fsl_utils",
            "grid",
            str(file),
            "--out",
            str(out),
            "--workers",
            "2",
            "--threads",
            "1",
        ]
        for _ in range(5 if disturbed else 0):
            driver = subprocess.Popen(
                command,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            time.sleep(20 + random.random() * 60)
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        cells = pd.read_csv(out / "tables" / "cells.csv").drop(columns="train_seconds")
        found[disturbed] = (
            cells.to_csv(),
            (out / "tables" / "scores.parquet").read_bytes(),
            (out / "tables" / "pools.csv").read_bytes(),
        )
    assert found[False] == found[True] and len(cells) == 6


def test_two_drivers_on_one_grid(tmp_path, monkeypatch):
    notebooks = dummies.write(tmp_path / "notebooks")
    monkeypatch.setenv("FSL_STORE", str(tmp_path / "store"))
    store.root().mkdir()
    drivers = [start(notebooks, 2, "threads") for _ in range(2)]
    said = [driver.communicate(timeout=600)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    assert (
        len(json.loads(dummies.table(store.root()))) == 2 * 3
        and len(list(store.root().glob("run/*"))) == 8
        and tidy(store.root())
    )


@pytest.mark.parametrize(
    "cores, gigabytes, draws, expected",
    [
        (2, 24, 1, (1, 2)),
        (2, 24, 10, (2, 1)),
        (16, 64, 4, (4, 4)),
        (16, 8, 40, (4, 4)),
        (1, 1, 3, (1, 1)),
    ],
)
def test_cores_and_memory_are_shared_out(notebooks, monkeypatch, cores, gigabytes, draws, expected):
    monkeypatch.setattr(engine, "CPU_COUNT", cores)
    monkeypatch.setattr(engine, "MEMORY_LIMIT", gigabytes * 2**30)
    nodes = dummies.nodes(range(draws))
    assert engine.share(nodes) == expected
    on_gpu = grid.Node("pool", json.dumps(nodes[1].values | {"device": "cuda"}))
    assert engine.share([*nodes, on_gpu]) == (1, cores)


def test_a_running_cluster_is_taken(client):
    with engine.cluster(0, client.scheduler.address) as other:
        assert (
            other.scheduler.address == client.scheduler.address
            and other.submit(lambda: 7).result() == 7
        )
    assert client.submit(lambda: 8).result() == 8  # it is left running


def test_a_lost_scheduler_is_said(notebooks, client, monkeypatch):
    monkeypatch.setattr(worker, "execute", lambda *_: time.sleep(1))
    with (
        Client(client.scheduler.address) as other,
        pytest.raises(StudyError, match=r"scheduler is lost.*same command"),
    ):
        states = engine.run(dummies.nodes([0]), other, threads=1)
        next(states)
        other.close()  # as a client does whose scheduler went away
        for _ in states:
            pass


def test_work_goes_on_when_the_scheduler_comes_back(notebooks, client, monkeypatch):
    monkeypatch.setattr(worker, "execute", lambda *_: time.sleep(1))
    with Client(client.scheduler.address) as other:
        states = engine.run(dummies.nodes([0]), other, threads=1)
        next(states)
        other.sync(other.scheduler_comm.comm.close)  # as when the connection broke off
        assert len(list(states)[-1]) == 4


def listening() -> set:
    """Addresses at which this process and its children listen."""
    me = psutil.Process()
    return {
        port.laddr
        for process in (me, *me.children(recursive=True))
        for port in process.net_connections("inet")
        if port.status == psutil.CONN_LISTEN
    }


def test_another_user_of_the_machine_gets_nowhere():
    """Without the certificate nobody connects, with another neither; all ports are loopback's."""
    before = listening()
    with engine.cluster(1) as client:
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        plain, stranger = Security(), Security.temporary()
        for other, where in (
            (plain, address.replace("tls", "tcp")),
            (plain, address),
            (stranger, address),
        ):
            with pytest.raises((OSError, TypeError)):
                Client(where, security=other, timeout="2s").close()
        opened = listening() - before
        assert opened and {address.ip for address in opened} <= {"127.0.0.1", "::1"}
        assert client.submit(lambda: 7).result() == 7


def test_a_cluster_with_certificates_is_taken(tmp_path):
    """As in notebooks/grids/README.md: files that Dask's settings name."""
    made, settings = Security.temporary(), {"distributed.comm.require-encryption": True}
    for name, text in (("key", made.tls_client_key), ("cert", made.tls_client_cert)):
        (tmp_path / name).write_text(text)
        for role in ("client", "scheduler", "worker"):
            settings[f"distributed.comm.tls.{role}.{name}"] = str(tmp_path / name)
    settings["distributed.comm.tls.ca-file"] = str(tmp_path / "cert")
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1, processes=False, protocol="tls://", dashboard_address=None
        ) as running,
        engine.cluster(0, running.scheduler_address) as client,
    ):
        assert client.submit(lambda: 7).result() == 7


def test_a_worker_that_cannot_start_is_said(monkeypatch):
    deadly = ["import os; os.kill(os.getpid(), 9)"]
    monkeypatch.setitem(engine.SETTINGS, "distributed.worker.preload", deadly)
    with (
        pytest.raises(StudyError, match=r"no worker could start.*same command"),
        engine.cluster(1),
    ):
        pass


def test_no_scheduler_is_said(monkeypatch):
    monkeypatch.setattr(engine, "ANSWER", "1s")
    with (
        pytest.raises(StudyError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"),
        engine.cluster(1, "tcp://127.0.0.1:1"),
    ):
        pass
