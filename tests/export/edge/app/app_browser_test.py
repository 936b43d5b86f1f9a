"""The page in a real browser: headless Chromium of the system, through Playwright."""

import contextlib
import csv
import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxr_tfds.export.edge.app import uploads

pytestmark = pytest.mark.slow

# Runs cxr-app and notes every file it opens for writing and every address it connects to. The
# first note shows that this works.
_AUDITED = """
import os, sys
notes = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT)
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def note(event, args):
    if event == "open" and type(args[2]) is int and args[2] & writing and args[0] != os.devnull:
        os.write(notes, f"wrote {args[0]}\\n".encode())
    elif event == "socket.connect" and args[1][0] not in ("127.0.0.1", "::1"):
        os.write(notes, f"connected to {args[1]}\\n".encode())
sys.addaudithook(note)
os.close(os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT))
from cxr_tfds.export.edge.app.command import app
app()
"""
_NAME_OF_FOCUS = """(({activeElement: x}) =>
  x.ariaLabel || x.innerText || x.closest("label")?.innerText || x.tagName)(document)"""
_THEMES = ("light", "dark")
_SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


class Server:
    """A running `cxr-app`."""

    def __init__(self, port, notes):
        self.port, self.notes = port, notes
        self.url = f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", _AUDITED, folder / "notes", folder / "first"]
    command += ["--model", models["heatmap"], "--port", str(port)]
    env = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true", "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=env)
        try:
            _wait_for(port, process)
            yield Server(port, folder / "notes")
        finally:
            process.terminate()
            process.wait(timeout=30)
    # Nothing is logged either, whatever the tests have done.
    log = (folder / "log").read_text(encoding="utf-8")
    assert log == f"Page: http://127.0.0.1:{port} (Ctrl-C ends it)\n  Stopping...\n"


def _wait_for(port, process):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    pytest.fail("cxr-app has not started within a minute")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser, server):
    """Opens the page and returns it with the addresses it requests."""
    contexts = []

    def open_with(size="desktop", theme="light"):
        width, height = _SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=theme,
            accept_downloads=True,
        )
        contexts.append(context)
        page = context.new_page()
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(server.url)
        for part in ("Upload", "Show drawn examples", "What you get for each image"):
            page.get_by_text(part).first.wait_for()
        return page

    yield open_with
    for context in contexts:
        context.close()


@pytest.fixture
def files(tmp_path):
    """Two images, one of them larger than what Starlette keeps in memory, and a broken file."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(80, 160, (1200, 1300), np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    assert (folder / "a.png").stat().st_size > 2**20
    Image.fromarray(np.full((40, 60), 90, np.uint8)).save(folder / "b.jpeg")
    (folder / "c.jpeg").write_bytes((folder / "b.jpeg").read_bytes()[:300])
    return sorted(folder.iterdir())


def drop(page, files):
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_role("heading", name=files[0].name, exact=True).wait_for()


def spaced(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_shows_what_the_command_prints(open_page, files, models, infer, tmp_path):
    page = open_page()
    drop(page, files)
    page.get_by_role("table").wait_for()
    rows = [spaced(row.inner_text()) for row in page.get_by_role("row").all()[1:]]
    printed = infer("predict", "--model", models["heatmap"], *files).stdout
    for row, line, file in zip(rows, printed.splitlines(), files, strict=True):
        name, *cells = row.replace("\t", "\n").split("\n")
        assert name == file.name
        if len(cells) == 1:  # why the file cannot be read
            assert line.endswith(f"{file}: {cells[0]}")
        else:
            label, probability = cells
            assert re.sub(" +", " ", line).startswith(f"{probability} (predicted from 50 %)")
            assert f"→ {label} " in line
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as CSV").click()
    download.value.save_as(tmp_path / "page.csv")
    text = (tmp_path / "page.csv").read_text(encoding="utf-8")
    saved = list(csv.DictReader(text.splitlines()))
    printed = infer("predict", "--csv", "--model", models["heatmap"], *files)
    expected = list(csv.DictReader(printed.stdout.splitlines()))
    assert saved == [row | {"file": Path(row["file"]).name} for row in expected]


def test_shows_why_a_file_cannot_be_read(open_page, files, models, infer):
    page = open_page()
    drop(page, files[2:])
    reason = page.get_by_role("alert").inner_text().split("\n")[-1]
    printed = infer("predict", "--model", models["heatmap"], files[2])
    assert printed.stdout.strip().endswith(f"c.jpeg: {reason}")


def test_the_opacity_of_the_heat_map_changes_the_picture(open_page, files):
    page = open_page()
    drop(page, files[:1])
    page.locator("figure").nth(1).wait_for()
    page.get_by_text("Blended").click()
    picture = page.get_by_role("img", name="Heat map over the radiograph a.png")
    page.get_by_role("slider").wait_for()
    before = picture.get_attribute("src")
    page.get_by_role("slider").press("End")
    page.wait_for_function(
        "before => document.querySelector('figure img').src !== before", arg=before
    )


def open_list_of_images(page):
    """Opens the list with a key, again where a redrawn page has closed it or taken the focus."""
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    for _ in range(20):
        page.get_by_label("Show image").focus()
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(1000)
        if page.get_by_role("option").count():
            return
    pytest.fail("The list does not open.")


def test_works_with_the_keyboard(open_page):
    page = open_page()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(_NAME_OF_FOCUS))
        if reached[-1].startswith("Show drawn examples"):
            page.keyboard.press("Space")
            break
    else:
        pytest.fail(f"reached only {reached}")
    page.get_by_role("heading", name="drawn-clear.png", exact=True).wait_for()
    page.locator("figure").nth(1).wait_for()
    open_list_of_images(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function(
        "document.querySelector('.cxr-card .cxr-file').innerText !== 'drawn-clear.png'"
    )


@pytest.mark.parametrize("theme", _THEMES)
@pytest.mark.parametrize("size", _SIZES)
def test_accessible_and_within_the_screen(open_page, files, size, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(size, theme)
    violations = axe.Axe().run(page).response["violations"]
    drop(page, files)
    for summary in page.locator("summary").all():
        summary.click()
    page.get_by_text("Blended").click()
    page.get_by_role("slider").wait_for()
    violations += axe.Axe().run(page).response["violations"]
    assert [(x["id"], [node["html"] for node in x["nodes"]]) for x in violations] == []
    width, height = _SIZES[size]
    assert page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth") <= width
    notice = page.get_by_role("complementary", name="Notice")
    for end in (0, 1e6):
        page.evaluate("y => document.querySelector('[data-testid=stMain]').scrollTo(0, y)", end)
        box = notice.bounding_box()
        assert (box["x"], box["width"], box["y"] + box["height"]) == (0, width, height)
    assert "Not a medical device." in notice.inner_text()


def test_nothing_leaves_the_machine(open_page, files, server):
    page = open_page()
    drop(page, files)
    page.get_by_text("Blended").click()
    page.get_by_role("slider").wait_for()
    others = [x for x in page.requested if not x.startswith((server.url, "data:", "blob:"))]
    assert page.requested
    assert others == []
    notes = server.notes.read_text(encoding="utf-8").splitlines()
    assert notes == [f"wrote {server.notes.with_name('first')}"]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1", "http://127.0.0.1", 101),
        ("127.0.0.1", "http://elsewhere.example", 403),
        ("elsewhere.example", "http://elsewhere.example", 403),
    ],
)
def test_pages_of_other_origins_cannot_connect(server, host, origin, status):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    headers = {
        "Host": f"{host}:{server.port}",
        "Origin": f"{origin}:{server.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()
    assert "connected" not in server.notes.read_text(encoding="utf-8")


def test_too_large_a_file_is_refused_in_the_browser(open_page, tmp_path):
    path = tmp_path / "large.dcm"
    with path.open("wb") as file:
        file.truncate((uploads.MAX_MEGABYTES + 1) * 2**20)
    page = open_page()
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_text("must be").first.wait_for()
