"""Which other Pythons this machine has: on PATH or under pyenv.

python tests/pythons.py 3.12 3.13      prints the path of each that is found
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find(version: str) -> str | None:
    """The path of a Python of this minor version, e.g. "3.8", that really runs, or None."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(f"python{version}")]
    candidates += sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)
    question = (
        f"import sys; sys.exit(sys.version_info[:2] != {tuple(map(int, version.split('.')))})"
    )
    for path in filter(None, candidates):  # pyenv's shims stand on PATH for inactive versions, too
        if subprocess.run([path, "-c", question], capture_output=True).returncode == 0:
            return path
    return None


if __name__ == "__main__":
    print(*filter(None, map(find, sys.argv[1:])), sep="\n")
