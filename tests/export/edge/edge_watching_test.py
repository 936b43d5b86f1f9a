"""The script in docs/device.md that predicts the files of a folder."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "device.md"
_DATE = "#!/bin/sh\necho 20260102-030405\n"
_INFER = '#!/bin/sh\necho file,label\nfor last; do :; done\nls "$last" | sed s/$/,NORMAL/\n'


@pytest.mark.skipif(shutil.which("flock") is None, reason="needs flock")
def test_script_predicts_each_image_once(tmp_path):
    (script,) = (
        x
        for x in PAGE.read_text(encoding="utf-8").split("```sh\n")[1:]
        if x.startswith("#!/bin/sh")
    )
    for name, text in {
        "predict.sh": script.partition("```")[0],
        "bin/date": _DATE,
        "venv/bin/cxr-infer": _INFER,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    (tmp_path / "inbox").mkdir()
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    for names in (("a.png", "b.png"), (), ("c.png",), ("a.png",)):
        for name in names:
            (tmp_path / "inbox" / name).touch()
        done = subprocess.run(
            [tmp_path / "predict.sh"], env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert not list((tmp_path / "inbox").iterdir())
    head, *rows = (tmp_path / "results.csv").read_text().splitlines()
    assert head == "file,label"
    assert rows == [f"{name},NORMAL" for name in ("a.png", "b.png", "c.png", "a.png")]
    assert len(list((tmp_path / "done").glob("*/*"))) == 4
