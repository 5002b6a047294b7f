"""Does a test fail when a method is broken? Each mutation in ``tools/mutations/*.json`` is made, tested and taken back.

    python tools/mutate.py [--jobs 2] [file or chapter ...]

A mutation is ``{"file": …, "old": …, "new": …, "breaks": …, "tests": [...]}``: in that file ``old``, which stands there
once, becomes ``new``; ``breaks`` says in words what is then wrong; one of the tests must fail. Each is tried in a copy
of the checkout, so the working tree is never touched. Exit code 1 if one survives.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("nnlib", "tenpapers", "tests", "tools", "pyproject.toml")


def mutations(names: list[str]) -> list[dict]:
    """All mutations, or those of the given lists; each with the list it is from."""
    files = sorted((ROOT / "tools" / "mutations").glob("*.json"))
    if unknown := set(names) - {path.stem for path in files}:
        sys.exit(f"there is no list {', '.join(sorted(unknown))}: known are {', '.join(path.stem for path in files)}")
    chosen = [path for path in files if not names or path.stem in names]
    return [{"list": path.stem} | entry for path in chosen for entry in json.loads(path.read_text(encoding="utf-8"))]


def survives(mutation: dict, folder: Path) -> str | None:
    """What is wrong with the tests, or with the mutation; None where a test fails, as it should."""
    path = folder / mutation["file"]
    source = path.read_text(encoding="utf-8")
    if source.count(mutation["old"]) != 1:
        return f"{mutation['old']!r} stands {source.count(mutation['old'])} times in {mutation['file']}"
    path.write_text(source.replace(mutation["old"], mutation["new"]), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation["tests"]]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        return None  # a loop that never ends is noticed
    finally:
        path.write_text(source, encoding="utf-8")
    if done.returncode == 1:
        return None
    return "survives" if done.returncode == 0 else f"pytest ended with {done.returncode}: {done.stdout[-500:]}"


def main() -> None:
    """Try them all, say what survives."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    listed = mutations(arguments.names)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / f"copy {i}" for i in range(arguments.jobs)]
        for folder in folders:
            folder.mkdir()
            for name in COPIED:
                source = ROOT / name
                (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)

        def try_all(i: int) -> list[tuple[dict, str | None]]:
            mine = listed[i :: arguments.jobs]
            return [(mutation, survives(mutation, folders[i])) for mutation in mine]

        with ThreadPoolExecutor(arguments.jobs) as pool:
            found = [result for results in pool.map(try_all, range(arguments.jobs)) for result in results]
    bad = [(mutation, why) for mutation, why in found if why is not None]
    for mutation, why in bad:
        print(f"{mutation['list']}: {mutation['breaks']} ({mutation['file']}): {why}")
    print(f"{len(found) - len(bad)} of {len(found)} mutations die")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
