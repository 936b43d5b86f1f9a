"""`cxr-app` up to the start of the server, and the settings of the server."""

import socket
import sys

import pytest
from click.testing import CliRunner
from streamlit import config, net_util

from cxr_tfds.errors import InputError
from cxr_tfds.export.edge.app import server, uploads
from cxr_tfds.export.edge.app.command import app


@pytest.fixture
def served(monkeypatch):
    """Returns what `serve` was called with."""
    calls = []
    monkeypatch.setattr(server, "serve", lambda *args: calls.append(args))
    return calls


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow  # converts a model
def test_serves_at_the_loopback_address(models, served):
    port = free_port()
    done = run("--model", models["int8"], "--port", port)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"Page: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
    assert not done.stderr
    assert served == [(models["int8"], "127.0.0.1", port)]


@pytest.mark.slow
def test_warns_before_it_serves_the_network(models, served):
    done = run("--model", models["int8"], "--host", "0.0.0.0", "--port", free_port())
    assert "Everyone who can reach this machine can use the page." in done.stderr
    assert served


def test_a_file_that_is_not_a_model(tmp_path, served):
    path = tmp_path / "x.tflite"
    path.write_bytes(b"nothing of the kind")
    done = run("--model", path, "--port", free_port())
    assert done.exit_code == 1
    assert done.stderr.startswith(f"Error: {path} is not a TFLite model: 19 bytes")
    assert not served


@pytest.mark.parametrize("args", [(), ("--model", "absent.tflite"), ("--port", "0")])
def test_wrong_usage(args, served):
    assert run(*args).exit_code == 2
    assert not served


def test_a_missing_extra(tmp_path, monkeypatch, served):
    monkeypatch.setitem(sys.modules, "streamlit", None)
    path = tmp_path / "x.tflite"
    path.touch()
    done = run("--model", path)
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "needs streamlit, which is not installed. Install it with: pip install" in done.stderr
    assert "'cxr-tfds[app]'" in done.stderr


def test_a_port_in_use():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=rf"^Cannot serve at 127\.0\.0\.1, port {port}: "):
            server.check_address("127.0.0.1", port)


def test_a_host_that_is_not_of_this_machine():
    with pytest.raises(InputError, match=r"^Cannot serve at 192\.0\.2\.1, port "):
        server.check_address("192.0.2.1", free_port())


def test_every_setting_exists_in_streamlit():
    known = config.get_config_options()
    assert set(server.make_options("127.0.0.1", 8501)) <= set(known)


def test_settings_keep_images_and_usage_on_this_machine():
    options = server.make_options("127.0.0.1", 8501)
    assert options["browser.gatherUsageStats"] is False
    assert options["server.address"] == "127.0.0.1"
    assert "127.0.0.1" in options["server.allowedHosts"]
    assert options["server.maxUploadSize"] == uploads.MAX_MEGABYTES
    assert server.make_options("0.0.0.0", 8501)["server.allowedHosts"] == []


def test_nothing_is_asked_of_the_internet_and_uploads_stay_in_memory(monkeypatch):
    from starlette.formparsers import MultiPartParser
    from streamlit.web import bootstrap

    monkeypatch.setattr(net_util, "get_external_ip", net_util.get_external_ip)
    monkeypatch.setattr(MultiPartParser, "spool_max_size", MultiPartParser.spool_max_size)
    monkeypatch.setattr(bootstrap, "load_config_options", lambda options: None)
    monkeypatch.setattr(bootstrap, "run", lambda *args: None)
    server.serve("model.tflite", "127.0.0.1", 8501)
    assert net_util.get_external_ip() is None
    assert MultiPartParser.spool_max_size > uploads.MAX_MEGABYTES * 2**20
