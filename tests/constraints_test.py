"""The files of `constraints/`: locked versions of all packages for every supported Python."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints"
FILES = sorted(path.name for path in CONSTRAINTS.glob("*.txt"))

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")
PYTHONS = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
SYSTEMS = ("linux", "darwin", "win32")
# Combinations of extras that the documentation installs, as the names of their files.
COMBINATIONS = [
    ("train",),
    ("train", "gpu", "dicom", "dask", "sign", "app"),
    ("edge",),
    ("edge", "dicom", "app", "sign"),
    ("tflite-runtime",),
    ("workstation",),
]
WORKSTATION = ("train", "dicom", "edge", "tflite-runtime", "app", "dask", "docs", "sign", "dev")

Pins = dict[str, str]


def environment(python: str, system: str) -> dict[str, str]:
    return {
        "python_version": python,
        "python_full_version": f"{python}.20",
        "sys_platform": system,
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[system],
        "os_name": "nt" if system == "win32" else "posix",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }


def read_locked(text: str) -> list[Requirement]:
    """Reads the requirements of a locked file. Each has one version and at least one hash."""
    lines = text.replace("\\\n", " ").splitlines()
    requirements = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        requirement, *hashes = line.split(" --hash=")
        assert hashes, f"no hash: {line}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value.strip()) for value in hashes), line
        requirements.append(Requirement(requirement.strip()))
    return requirements


def find_pins(locked: list[Requirement], where: dict[str, str]) -> Pins:
    """Returns the version of each package that applies in an environment."""
    pins: Pins = {}
    for requirement in locked:
        if requirement.marker is not None and not requirement.marker.evaluate(where):
            continue
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", requirement
        name = canonicalize_name(requirement.name)
        assert pins.setdefault(name, specifier.version) == specifier.version, requirement
    return pins


def find_missing(needed: list[str], pins: Pins, where: dict[str, str]) -> list[str]:
    """Returns the requirements that no pinned version satisfies."""
    missing = []
    for line in needed:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate(where):
            continue
        version = pins.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{line} (locked: {version})")
    return missing


def read_requirements(*extras: str) -> list[str]:
    lists = [SETUP["options"]["install_requires"]]
    lists += [SETUP["options.extras_require"][extra] for extra in extras]
    return [line for text in lists for line in text.splitlines() if line]


def test_supported_pythons_are_the_same_everywhere() -> None:
    supported = SpecifierSet(SETUP["options"]["python_requires"])
    assert [f"3.{minor}" for minor in range(6, 30) if f"3.{minor}.0" in supported] == PYTHONS
    locked = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.findall(r"python_version == '(3\.\d+)'", locked) == PYTHONS
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    tested = re.search(r"python: \[(.*)\]", workflow)
    assert tested is not None
    assert re.findall(r"3\.\d+", tested[1]) == PYTHONS


@pytest.mark.parametrize("name", FILES)
def test_files_name_no_index(name: str) -> None:
    text = (CONSTRAINTS / name).read_text(encoding="utf-8")
    assert read_locked(text)
    assert not re.search(r"://|^-|\bfile:|@", text, re.MULTILINE)


def test_documented_files_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = re.findall(r"-r (?:constraints/)?([a-z-]+\.txt)", text)
    assert set(named) <= set(FILES)
    assert {"train.txt", "edge.txt", "app.txt", "dicom.txt"} <= set(named)


@pytest.mark.parametrize("combination", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_is_locked(python: str, combination: tuple[str, ...]) -> None:
    texts = [(CONSTRAINTS / f"{name}.txt").read_text(encoding="utf-8") for name in combination]
    locked = [requirement for text in texts for requirement in read_locked(text)]
    extras = WORKSTATION if combination == ("workstation",) else combination
    for system in SYSTEMS:
        where = environment(python, system)
        pins = find_pins(locked, where)
        assert find_missing(read_requirements(*extras), pins, where) == []


@pytest.mark.parametrize("python", PYTHONS)
def test_extras_have_the_versions_of_the_workstation(python: str) -> None:
    """Device and workstation decode with one Pillow version, and extras can be combined."""
    where = environment(python, "linux")
    pins = {
        name: find_pins(read_locked((CONSTRAINTS / name).read_text(encoding="utf-8")), where)
        for name in FILES
    }
    workstation = pins["workstation.txt"]
    # Several GB that only a machine with a GPU needs.
    nvidia = {name for name in pins["gpu.txt"] if name.startswith("nvidia-")}
    assert {"nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-ml-py"} <= nvidia
    for name in nvidia:
        workstation[name] = pins["gpu.txt"][name]
    for name, found in pins.items():
        assert found.items() <= workstation.items(), name
        assert "pillow" in found, name


def test_reader_finds_each_fault() -> None:
    where = environment("3.10", "linux")
    digest = f" \\\n    --hash=sha256:{'0' * 64}\n"
    with pytest.raises(AssertionError, match="no hash: wheel==1"):
        read_locked("wheel==1\n")
    with pytest.raises(AssertionError, match=r"a>=1"):
        find_pins(read_locked(f"a>=1{digest}"), where)
    with pytest.raises(AssertionError, match=r"a==2"):
        find_pins(read_locked(f"a==1{digest}a==2{digest}"), where)
    locked = read_locked(f"a==1{digest}b==1 ; python_version >= '3.11'{digest}")
    needed = ["a>=2; python_version < '3.11'", "b", "c; sys_platform == 'win32'"]
    assert find_missing(needed, find_pins(locked, where), where) == [
        "a>=2; python_version < '3.11' (locked: 1)",
        "b (locked: None)",
    ]


@pytest.mark.slow
def test_setup_cfg_resolves_to_the_locked_versions(tmp_path: Path) -> None:
    """Resolves all extras of development for every supported Python and system at once."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None or shutil.which("make") is None:
        pytest.skip("needs uv and make")
    for name in FILES:
        shutil.copy(CONSTRAINTS / name, tmp_path)
    done = subprocess.run(
        ["make", "constraints", f"UV={uv}", f"LOCKS={tmp_path}", "EXTRAS=", "UPGRADE="],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if re.search("Failed to fetch|network was disabled", done.stderr):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    found, expected = (
        sorted(map(str, read_locked((folder / "workstation.txt").read_text(encoding="utf-8"))))
        for folder in (tmp_path, CONSTRAINTS)
    )
    assert found == expected, "setup.cfg needs other versions: run make constraints"
