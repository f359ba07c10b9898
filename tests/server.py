"""A local server in the publishers' place: it resumes, breaks off and lies as it is told."""

import io
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from fsl_utils.data import download

CONTENT = np.random.default_rng(0).bytes(300_000)


MOST = 1_000_000


class Server:
    """Serves `files` by path, with Range. `breaks`: how many replies stop half-way. `ranges`:
    whether Range is honoured. `length`: what it says of a reply's length, the truth if empty,
    'none' for nothing.
    """

    length = ""

    def __init__(self):
        self.files, self.breaks, self.ranges, self.asked = {}, 0, True, []

    def reply(self, request):
        self.asked.append((request.path, request.headers.get("Range")))
        content = self.files.get(request.path)
        if content is None:
            return request.send_error(404)
        start = 0
        if self.ranges and (asked := request.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return request.send_error(416)
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            request.send_response(200)
        body = content[start:]
        if self.length != "none":
            request.send_header("Content-Length", self.length or str(len(body)))
        request.end_headers()
        if self.breaks:
            self.breaks -= 1
            body = body[: len(body) // 2]
            request.close_connection = True
        request.wfile.write(body)


@pytest.fixture
def server(monkeypatch, tmp_path):
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.reply(self)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setattr(download, "PAUSE", 0.0)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    monkeypatch.setenv("FSL_DATA_DIR", str(tmp_path / "data"))
    yield state
    http.shutdown()
    http.server_close()


def tar_of(members: dict[str, bytes], change=None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change:
                change(info)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def png(value: int, mode: str = "L") -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((16, 16), value, np.uint8)).convert(mode).save(out, "PNG")
    return out.getvalue()
