"""Runs benchmarks one after the other, makes the tables of README.md and lists missed targets.

Run: python benchmarks/run.py (`make benchmarks`; about two hours), or with the names of scripts,
such as `python benchmarks/run.py input_pipeline`. A missed target is information: the exit code is
1 only if a script fails, after the others have run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

import tables

# `edge` needs the result of `make demo`, `models` the most time.
SCRIPTS = (
    "input_pipeline",
    "build",
    "summary",
    "start",
    "augment",
    "training",
    "export_memory",
    "accelerator",
    "edge",
    "models",
)


def main() -> None:
    """Runs the scripts that are named, or all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"Of {', '.join(SCRIPTS)}. [all]")
    parser.add_argument("--toy", action="store_true", help="Check that the scripts run.")
    options = parser.parse_args()
    if unknown := set(options.names) - set(SCRIPTS):
        parser.error(f"{', '.join(sorted(unknown))}; expected one of {', '.join(SCRIPTS)}.")
    failed = []
    for name in options.names or SCRIPTS:
        print(f"--- {name} ---", flush=True)
        command = [sys.executable, str(tables.FOLDER / f"{name}.py"), *["--toy"] * options.toy]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if not options.toy:
        tables.rewrite_page()
        print("Missed targets:", *tables.missed(tables.read_results()), sep="\n")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
