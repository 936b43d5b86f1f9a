"""For the tests of all packages."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED_DATA = Path(__file__).parents[1] / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_kaggle_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test downloads anything with the credentials of whoever runs it."""
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "no_kaggle"))
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, which stands beside a development checkout only."""
    if not _SHARED_DATA.is_dir():
        pytest.skip(f"no real images in {_SHARED_DATA}")
    return _SHARED_DATA
