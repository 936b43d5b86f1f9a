"""Takes the screenshot of `cxr-app` for the documentation."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_WIDTH, _HEIGHT = 1100, 900  # the height grows with the page


def draw_app(command: Path, model: Path, images: Sequence[Path], path: Path) -> bool:
    """Takes a screenshot of the page after images are dropped, unless chromium is missing.

    The first image is the one that is shown in large.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        return False
    from playwright.sync_api import sync_playwright

    with _serve(command, model) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": _WIDTH, "height": _HEIGHT})
        page.goto(address)
        page.locator("input[type=file]").set_input_files(images)
        page.locator("figure").nth(1).wait_for()
        main = "document.querySelector('[data-testid=stMain]').scrollHeight"
        page.set_viewport_size({"width": _WIDTH, "height": page.evaluate(main)})
        page.wait_for_timeout(1000)  # the fields of the page appear with a transition
        page.screenshot(path=path)
        chromium.close()
    return True


@contextlib.contextmanager
def _serve(command: Path, model: Path) -> Iterator[str]:
    """Yields the address of `cxr-app`, which then ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    call = [str(part) for part in (command, "--model", model, "--port", port)]
    environment = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"}
    server = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL)
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
