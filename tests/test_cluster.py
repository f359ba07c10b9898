"""Whom the engine lets work: shares of a machine, running clusters, and nobody else."""

import gc
import json
import time

import dask
import dummies
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from engines import client, notebooks  # noqa: F401

from fsl_utils import StudyError
from fsl_utils.study import engine, grid, worker


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
            # Collected while the next client starts, in that one's thread, it would wait for a
            # lock that the start holds.
            gc.collect()
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
