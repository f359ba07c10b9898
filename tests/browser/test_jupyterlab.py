"""Every notebook in JupyterLab in a headless browser: run all, no error, no stderr, a widget used.

Not part of `.[test]`. It wants Debian's chromium (`apt-get install chromium`) and `pip install
playwright`, and is skipped, loudly, without them. `pytest -m slow tests/browser` takes a quarter of
an hour with an empty store. FSL_FINISHED names a store to open the notebooks with, such as that of
`make study`; FSL_SCREENSHOTS a folder for what the browser saw and each notebook's seconds.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from fsl_utils import ROOT

try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
LACKS = [name for name, has in (("playwright", sync_playwright), ("chromium", CHROMIUM)) if not has]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(LACKS), reason=f"NOT RUN: no {' and no '.join(LACKS)}: no browser opens a notebook"
    ),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WITH_WIDGETS = ("01", "03", "05")
MINUTES = 20  # that a notebook may take
BROWSER = {"args": ["--no-sandbox"]}  # root has no other way
RUN_ALL = """() => {
    window.finished = false;
    window.jupyterapp.commands.execute("notebook:run-all-cells")
        .finally(() => { window.finished = true; });
}"""
IDLE = """() =>
    window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === "idle"
"""
CELLS = "() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
SETTINGS = {  # every cell is on the page, not those in view alone; no question of news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false"},
}
WIDGETS = ".widget-interact"
PICTURE = f"{WIDGETS} img"
STEPS_FIRST = 15  # of fine-tuning, before it is interrupted
BAR = """least => [...document.querySelectorAll(".jp-OutputArea-output pre")].some(
    pre => /^fine-tuning/.test(pre.innerText) && +(/(\\d+)\\/60/.exec(pre.innerText)?.[1]) >= least)
"""
OUTER = "document.querySelector('.jp-WindowedPanel-outer')"
SCREENS = f"() => Math.ceil({OUTER}.scrollHeight / {OUTER}.clientHeight)"
SCROLL = f"i => {OUTER}.scrollTo(0, i * {OUTER}.clientHeight)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks; `{}` is where a file's name goes."""
    store = os.environ.get("FSL_FINISHED", os.environ["FSL_STORE"])
    with _served(tmp_path_factory.mktemp("lab"), store) as address:
        yield address


@contextmanager
def _served(folder: Path, store: str):
    """A JupyterLab in `folder` whose kernels work on `store`; gives its address."""
    token = secrets.token_hex(16)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for name, setting in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"IdentityProvider.token": token, "ServerApp.port": port, "ServerApp.ip": "127.0.0.1"}
    options |= {"ServerApp.root_dir": folder / "notebooks", "ServerApp.open_browser": False}
    options |= {"ServerApp.allow_root": True, "LabApp.expose_app_in_browser": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]
    places = {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "JUPYTER_RUNTIME_DIR": folder}
    places |= {"JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces", "JUPYTER_CONFIG_DIR": folder}
    places |= {"FSL_STORE": store}
    with open(folder / "log", "w") as log:
        environment = os.environ | {name: str(place) for name, place in places.items()}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _await(f"http://127.0.0.1:{port}/api?token={token}", server, folder / "log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?reset&token={token}"
    finally:
        server.terminate()
        server.wait()


def _await(address: str, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


@pytest.fixture
def page(tmp_path, request):
    """A page of a browser; what it shows at the end is kept as pictures, from top to bottom."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, **BROWSER)
        page = browser.new_page(viewport={"width": 1400, "height": 1400})
        yield page
        folder = Path(os.environ.get("FSL_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r".*\[|\]", "", request.node.name)
        for i in range(page.evaluate(SCREENS)):
            page.evaluate(SCROLL, i)
            page.wait_for_timeout(200)
            page.screenshot(path=folder / f"{name}-{i:02d}.png")
        browser.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_and_its_widgets_answer(path, lab, page):
    _open(page, lab.format(path.name))
    begin = time.monotonic()
    _run_all(page)
    took = time.monotonic() - begin
    assert _errors(page) == []
    assert [text for kind, text in _told(page) if kind == "stderr"] == []
    assert all(cell["execution_count"] for cell in _cells(page))
    pictures = _pictures(page)
    assert len(set(pictures)) == len(pictures), "a figure is shown twice"
    if "FSL_SCREENSHOTS" in os.environ:
        with open(Path(os.environ["FSL_SCREENSHOTS"], "seconds.txt"), "a") as log:
            log.write(f"{path.stem}: {took:.0f} s\n")
    if path.name.startswith(WITH_WIDGETS):
        _use(page)


def test_notebook_02_is_interrupted_and_goes_on(page, tmp_path):
    with _served(tmp_path / "lab", str(tmp_path / "store")) as address:
        short = tmp_path / "lab" / "notebooks" / "02_lora_finetuning.ipynb"
        text = short.read_text()
        assert "adapter_steps = 400" in text
        short.write_text(text.replace("adapter_steps = 400", "adapter_steps = 60"))
        _open(page, address.format(short.name))
        page.evaluate(RUN_ALL)
        page.wait_for_function(BAR, arg=STEPS_FIRST, timeout=MINUTES * 60_000)
        page.evaluate('window.jupyterapp.commands.execute("notebook:interrupt-kernel")')
        page.wait_for_function("window.finished", timeout=120_000)
        (error,) = _errors(page)  # one line, and no traceback
        kept = re.fullmatch(r"interrupted: step (\d+) of 60 is kept; .*", error)
        assert kept and int(kept[1]) >= STEPS_FIRST
        _run_all(page)
        assert _errors(page) == []
        assert any(f"going on from step {kept[1]} of 60" in text for _, text in _told(page))
        learned = len(_pictures(page))  # loss and sheet while it trains
        _run_all(page)
        assert any("was there already" in text for _, text in _told(page))
        assert len(_pictures(page)) == learned - 1  # the sheet is kept, the loss is drawn below


def _open(page, address: str) -> None:
    page.goto(address, wait_until="commit")
    page.wait_for_function(IDLE, timeout=180_000)  # before that "run all" does nothing


def _run_all(page) -> None:
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.finished", timeout=MINUTES * 60_000)


def _cells(page) -> list[dict]:
    return [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]


def _errors(page) -> list[str]:
    outputs = [output for cell in _cells(page) for output in cell["outputs"]]
    return ["\n".join(o["traceback"]) for o in outputs if o["output_type"] == "error"]


def _pictures(page) -> list[str]:
    outputs = [output for cell in _cells(page) for output in cell["outputs"]]
    return ["".join(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


def _told(page) -> list[tuple[str, str]]:
    """Stream and text of all that the cells printed."""
    outputs = [output for cell in _cells(page) for output in cell["outputs"]]
    return [(o["name"], "".join(o["text"])) for o in outputs if o["output_type"] == "stream"]


def _use(page) -> None:
    """Turn the first knob or press the button of the widgets, and wait for another picture."""
    widgets = page.locator(WIDGETS).first
    widgets.scroll_into_view_if_needed()
    pictures = page.locator(PICTURE)
    before = pictures.first.get_attribute("src") if pictures.count() else ""
    if widgets.locator("button").count():
        widgets.locator("button").first.click()
    elif widgets.locator("select").count():
        widgets.locator("select").first.select_option(index=1)
    else:
        widgets.locator(".noUi-handle").first.press("ArrowRight")
    changed = f"before => (document.querySelector('{PICTURE}')?.src ?? before) !== before"
    page.wait_for_function(changed, arg=before, timeout=180_000)
    assert widgets.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
