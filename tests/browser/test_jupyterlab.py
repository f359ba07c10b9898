"""Every notebook in JupyterLab in a headless browser: run all, no error, no stderr, a widget used.

Not part of `.[test]`. It wants Debian's chromium (`apt-get install chromium`) and `pip install
playwright`, and is skipped, loudly, without them. `pytest -m slow tests/browser` takes minutes with
an empty store. FSL_SCREENSHOTS names a folder for what the browser saw.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
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
PICTURE = ".widget-interact img"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab on a copy of the notebooks; `{}` is where a file's name goes."""
    folder, token = tmp_path_factory.mktemp("lab"), secrets.token_hex(16)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    tracker = folder / "settings" / "@jupyterlab" / "notebook-extension"
    tracker.mkdir(parents=True)  # so that every cell is on the page, and not those in view alone
    (tracker / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"IdentityProvider.token": token, "ServerApp.port": port, "ServerApp.ip": "127.0.0.1"}
    options |= {"ServerApp.root_dir": folder / "notebooks", "ServerApp.open_browser": False}
    options |= {"ServerApp.allow_root": True, "LabApp.expose_app_in_browser": True}
    command = [sys.executable, "-m", "jupyterlab", *(f"--{k}={v}" for k, v in options.items())]
    places = {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "JUPYTER_RUNTIME_DIR": folder}
    places |= {"JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces", "JUPYTER_CONFIG_DIR": folder}
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
    """A page of a browser; what it shows at the end is kept as a picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, **BROWSER)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        yield page
        folder = Path(os.environ.get("FSL_SCREENSHOTS", tmp_path))
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=folder / f"{request.node.callspec.id}.png")
        browser.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom_and_its_widgets_answer(path, lab, page):
    page.goto(lab.format(path.name), wait_until="commit")
    page.wait_for_function(IDLE, timeout=180_000)  # before that "run all" does nothing
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.finished", timeout=MINUTES * 60_000)
    cells = [cell for cell in page.evaluate(CELLS) if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [o for o in outputs if o["output_type"] == "error"] == []
    assert [o["text"] for o in outputs if o.get("name") == "stderr"] == []
    assert all(cell["execution_count"] for cell in cells)
    if path.name.startswith(WITH_WIDGETS):
        _use(page)


def _use(page) -> None:
    """Turn the first knob or press the button of the widgets, and wait for another picture."""
    widgets = page.locator(".widget-interact").first
    widgets.scroll_into_view_if_needed()
    before = (
        page.locator(PICTURE).first.get_attribute("src") if page.locator(PICTURE).count() else ""
    )
    if widgets.locator("button").count():
        widgets.locator("button").first.click()
    elif widgets.locator("select").count():
        widgets.locator("select").first.select_option(index=1)
    else:
        widgets.locator(".noUi-handle").first.press("ArrowRight")
    changed = f"before => (document.querySelector('{PICTURE}')?.src ?? before) !== before"
    page.wait_for_function(changed, arg=before, timeout=180_000)
    assert widgets.locator(".jp-OutputArea-output[data-mime-type*=stderr]").count() == 0
