"""Whatever dies, and whenever: the tables are those of an undisturbed run, nothing is lost, done
twice or left running. On Linux: which processes are a store's is told by their environment.

CI kills a few times. After a change of store or engine, for 100 rounds with stand-ins in about ten
minutes (then 25 with `-k notebooks`): `FSL_KILLS=100 pytest -m slow -s tests/test_kills.py -k ins`
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import dummies
import psutil
import pytest

from fsl_utils import ROOT

KINDS = ("driver", "worker", "kernel", "group")
GONE = 5  # seconds after which nothing of a killed driver may run, where the machine is idle

TINY = """
name: tiny
defaults: {n_real: 6, adapter_steps: 4, steps: 2, filter_steps: 2, ratios: [1], image_size: 64}
sweep: [{draw: [0, 1], arms: [real, lora]}]
"""


def belonging(root: Path) -> list[psutil.Process]:
    """The running processes whose FSL_STORE is `root`."""
    running = []
    for process in psutil.process_iter():
        try:
            own = process.environ().get("FSL_STORE") == str(root)
            if own and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        except psutil.Error:
            pass
    return running


def kind(process: psutil.Process) -> str:
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return "gone"
    if "ipykernel_launcher" in words:
        return "kernel"
    return "worker" if "spawn_main" in words or "forkserver" in words else "other"


def kill(victim: str, driver: subprocess.Popen, root: Path, rng: random.Random) -> bool:
    """SIGKILL one kind of process, as soon as there is one; False where the driver ends before."""
    if victim == "driver":
        driver.kill()
    elif victim == "group":
        os.killpg(driver.pid, signal.SIGKILL)
    while victim in ("worker", "kernel") and driver.poll() is None:
        there = [process for process in belonging(root) if kind(process) == victim]
        with suppress(psutil.NoSuchProcess, IndexError):
            rng.choice(there).kill()
            return True
        time.sleep(rng.random())
    return victim in ("driver", "group")


def patience() -> float:
    """GONE seconds, longer in proportion where others use the machine."""
    return GONE * max(1.0, os.getloadavg()[0] / psutil.cpu_count())


def finished(root: Path) -> dict[Path, int]:
    """When each finished thing was finished."""
    return {path: path.stat().st_mtime_ns for path in root.glob("*/*/manifest.json")}


class Runs:
    """Drivers of one grid, one after the other, over stores that begin empty."""

    def __init__(self, folder: Path, command, tables, pause: float):
        self.folder, self.command, self.tables, self.pause = folder, command, tables, pause
        self.number, self.longest = 0, 0.0

    @property
    def root(self) -> Path:
        return self.folder / f"store{self.number}"

    def start(self) -> subprocess.Popen:
        own = {
            "FSL_STORE": str(self.root),
            "PYTHONPATH": str(ROOT),
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "100",
        }
        return subprocess.Popen(
            self.command(self.folder / f"out{self.number}"),
            stdout=subprocess.DEVNULL,
            stderr=open(self.folder / "said.txt", "w"),
            env=os.environ | own,
            cwd=ROOT,
            start_new_session=True,
        )

    def assert_gone(self) -> None:
        """Nothing of the store runs any more, after a while."""
        begin = time.monotonic()
        while (left := belonging(self.root)) and time.monotonic() - begin < patience():
            time.sleep(0.1)
        self.longest = max(self.longest, time.monotonic() - begin)
        assert not left, [kind(process) for process in left]

    def refused(self, driver: subprocess.Popen) -> bool:
        """Whether a driver asked to be started again: its workers died before they ran."""
        said = (self.folder / "said.txt").read_text()
        return driver.returncode != 0 and "no worker could start" in said

    def ended(self, driver: subprocess.Popen, expected):
        """A driver that ended by itself: it succeeded, its tables are the same, nothing runs."""
        assert driver.returncode == 0, (self.folder / "said.txt").read_text()[-2000:]
        got = self.tables(self.root, self.folder / f"out{self.number}")
        assert expected is None or got == expected
        return got

    def disturbed(self, rounds: int, rng: random.Random) -> dict[str, int]:
        """Kill something `rounds` times; returns how often each kind was killed."""
        driver = self.start()
        driver.wait()
        expected = self.ended(driver, None)
        self.number, killed, before, driver = 1, dict.fromkeys(KINDS, 0), {}, None
        begun = False  # and not ended: what was killed last is finished too
        try:
            while sum(killed.values()) < rounds or begun:
                driver, begun = driver or self.start(), True
                try:
                    driver.wait(self.pause * rng.random())
                except subprocess.TimeoutExpired:
                    if sum(killed.values()) < rounds:
                        victim = rng.choice(KINDS)
                        killed[victim] += kill(victim, driver, self.root, rng)
                        if victim in ("driver", "group"):
                            driver.wait()
                            self.assert_gone()
                            driver = None
                    after = finished(self.root)
                    assert before.items() <= after.items(), "lost or done twice"
                    before = after
                    continue
                assert before.items() <= finished(self.root).items(), "lost or done twice"
                self.assert_gone()
                if self.refused(driver):
                    driver = None
                    continue
                self.ended(driver, expected)
                self.number, before, driver, begun = self.number + 1, {}, None, False
        finally:
            for process in belonging(self.root):
                process.kill()
        return killed


def of_stand_ins(folder: Path) -> Runs:
    notebooks = dummies.write(folder / "notebooks", pause=0.1)
    script = str(ROOT / "tests" / "dummies.py")
    return Runs(
        folder,
        lambda out: [sys.executable, script, str(notebooks), "3", "processes"],
        lambda root, out: dummies.table(root),
        pause=12,
    )


def of_notebooks(folder: Path) -> Runs:
    (folder / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-m", "fsl_utils", "grid", str(folder / "tiny.yaml")]

    def tables(root, out):
        rows = [line.split(",") for line in (out / "tables/cells.csv").read_text().splitlines()]
        measured = rows[0].index("train_seconds")
        others = ("scores.parquet", "pools.csv", "determinants.parquet")
        return (
            [row[:measured] + row[measured + 1 :] for row in rows],
            *[(out / "tables" / name).read_bytes() for name in others],
        )

    return Runs(
        folder,
        lambda out: [*command, "--workers", "2", "--threads", "1", "--out", str(out)],
        tables,
        pause=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("of, few", [(of_stand_ins, 8), (of_notebooks, 4)])
def test_kills_at_random_moments(tmp_path, of, few):
    seed, rounds = random.randrange(10**6), int(os.environ.get("FSL_KILLS", few))
    print(f"seed {seed}")
    runs = of(tmp_path)
    killed = runs.disturbed(rounds, random.Random(seed))
    print(
        f"killed: {killed}; {runs.number - 1} grids ended in the same tables; the last process of "
        f"a driver was gone after {runs.longest:.1f} s at most"
    )
    assert sum(killed.values()) == rounds
