"""Serves the page: nothing is written to disk, nothing is logged, nothing leaves the machine."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from cxr_tfds.errors import InputError

from .uploads import MAX_MEGABYTES

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PAGE = Path(__file__).with_name("page.py")
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
# As in `cxr_tfds/report/style.css.j2`.
_LIGHT = {
    "primaryColor": "#1f4e79",
    "backgroundColor": "#f3f6f9",
    "secondaryBackgroundColor": "#ffffff",
    "textColor": "#1c2733",
    "borderColor": "#c6d0d9",
    "linkColor": "#1f4e79",
}
_DARK = {
    "primaryColor": "#8fc0e8",
    "backgroundColor": "#131a21",
    "secondaryBackgroundColor": "#1d2731",
    "textColor": "#e2e8ee",
    "borderColor": "#45566a",
    "linkColor": "#8fc0e8",
}


def check_address(host: str, port: int) -> None:
    """Raises InputError if no server can be started at an address."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as server:
            # As the server does: connections of the last minute do not block the port.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
    except OSError as err:
        raise InputError(
            f"Cannot serve at {host}, port {port}: {err.strerror or err}. Choose another --port or "
            "--host."
        ) from err


def serve(model: Path, host: str, port: int) -> None:
    """Serves the page for a model until the process is interrupted."""
    from starlette.formparsers import MultiPartParser
    from streamlit import net_util
    from streamlit.web import bootstrap

    # Larger uploads would be written to a temporary file while they arrive.
    MultiPartParser.spool_max_size = (MAX_MEGABYTES + 1) * 2**20
    # To judge a request from another origin, Streamlit would ask the internet for these addresses.
    net_util.get_internal_ip = net_util.get_external_ip = lambda: None
    bootstrap.load_config_options(make_options(host, port))
    bootstrap.run(str(_PAGE), False, [str(model)], {})


def make_options(host: str, port: int) -> dict[str, Any]:
    """Returns the settings of Streamlit, which override the user's own config file."""
    options: dict[str, Any] = {
        "server.address": host,
        "server.port": port,
        # A page of another name that resolves to this machine cannot connect (DNS rebinding).
        "server.allowedHosts": list(LOOPBACK) if host in LOOPBACK else [],
        "server.maxUploadSize": MAX_MEGABYTES,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
        "browser.serverAddress": host if host in LOOPBACK else "localhost",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "logger.level": "error",
        "logger.hideWelcomeMessage": True,
        "theme.font": _FONT,
        "theme.headingFont": _FONT,
        "theme.baseRadius": "medium",
    }
    for theme, colours in {"light": _LIGHT, "dark": _DARK}.items():
        options |= {f"theme.{theme}.{name}": colour for name, colour in colours.items()}
    return options
