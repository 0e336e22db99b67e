"""Unpack Debian packages of another suite into a folder, with a private apt: nothing of the system changes.

`ha_canal.testing.mysql` gets its server this way, from sid, the only Debian suite that has MySQL. The mirror is the one
that the machine's own apt uses, with its proxies and keys; lists, status and archives are private. The programs must be
started through the unpacked dynamic loader (`loader_command`), because their C library is newer than the system's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ha_canal.testing.process import ServerFailedError

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_COMMAND_LIMIT_S = 600.0
_OUTPUT_TAIL = 2048


def unpack(package: str, suite: str, *, leave_out: tuple[str, ...], work: Path, root: Path) -> str:
    """Unpack `package` of `suite` with all it depends on below `root`, and return the package's version.

    `work` keeps apt's lists and archives. Packages whose names start with one of `leave_out` are not fetched.

    Raises:
        ServerFailedError: the machine has no apt, or apt failed; with its own words.
    """
    _require("apt-get", "dpkg-deb")
    environment = _private_apt(suite, work)
    _run(["apt-get", "--quiet", "update"], environment, work)
    simulated = _run(["apt-get", "--simulate", "install", package], environment, work)
    wanted = [item for item in _installed_by(simulated) if not item.startswith(leave_out)]
    archives = work / "archives"
    _run(["apt-get", "--quiet", "download", *wanted], environment, archives)
    root.mkdir(parents=True, exist_ok=True)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(archive), str(root)], environment, work)
    return next(item.partition("=")[2] for item in wanted if item.partition("=")[0] == package)


def unpack_alone(package: str, suite: str, *, work: Path, root: Path) -> None:
    """Unpack `package` of `suite` without what it depends on below `root`; otherwise as `unpack`."""
    _require("apt-get", "dpkg-deb")
    environment = _private_apt(suite, work)
    _run(["apt-get", "--quiet", "update"], environment, work)
    _run(["apt-get", "--quiet", "download", package], environment, work / "archives")
    root.mkdir(parents=True, exist_ok=True)
    for archive in (work / "archives").glob("*.deb"):
        _run(["dpkg-deb", "--extract", str(archive), str(root)], environment, work)


def loader_command(root: Path, program: str) -> tuple[str, ...]:
    """Return the start of a command line that runs `program` (a path below `root`) with the libraries of `root` alone.

    Raises `ServerFailedError` when a library would silently come from the system instead.
    """
    loaders = sorted(root.glob("usr/lib/*-linux-gnu*/ld-linux-*.so.*"))
    if not loaders:
        msg = f"no dynamic loader below {root}: the unpacked packages lack libc6"
        raise ServerFailedError(msg)
    loader = loaders[0]
    command = (str(loader), "--inhibit-cache", "--library-path", str(loader.parent))
    binary = str(root / program)
    listed = _run([*command, "--list", binary], os.environ, root)
    strange = [line.strip() for line in listed.splitlines() if str(root) not in line and "linux-vdso" not in line]
    if strange:
        msg = f"{binary} would use libraries from outside {root}: {'; '.join(strange)}"
        raise ServerFailedError(msg)
    return (*command, binary)


def _require(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        msg = (
            f"{', '.join(missing)} not found: this server is unpacked from Debian packages, which needs Debian's tools"
        )
        raise ServerFailedError(msg)


def _private_apt(suite: str, work: Path) -> Mapping[str, str]:
    """Write an apt configuration with its own state below `work`, and return the environment that selects it."""
    mirror = _mirror()
    for folder in ("lists/partial", "archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "status").touch()
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    (work / "sources.list").write_text(f"deb {signed}{mirror} {suite} main\n", encoding="utf-8")
    configuration = work / "apt.conf"
    configuration.write_text("".join(f'{key} "{value}";\n' for key, value in _settings(work)), encoding="utf-8")
    return {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}


def _settings(work: Path) -> Iterable[tuple[str, str]]:
    empty = work / "none"
    empty.mkdir(exist_ok=True)
    return (
        ("Dir::State", str(work)),
        ("Dir::State::lists", str(work / "lists")),
        ("Dir::State::status", str(work / "status")),
        ("Dir::Cache", str(work)),
        ("Dir::Cache::archives", str(work / "archives")),
        ("Dir::Etc::sourcelist", str(work / "sources.list")),
        ("Dir::Etc::sourceparts", str(empty)),
        ("Dir::Etc::preferences", str(work / "no-preferences")),
        ("Dir::Etc::preferencesparts", str(empty)),
        ("Acquire::Check-Valid-Until", "false"),
        ("Acquire::Languages", "none"),
        ("Acquire::Retries", "3"),
        ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false"),
        ("APT::Install-Recommends", "false"),
        ("APT::Sandbox::User", ""),
    )


def _mirror() -> str:
    """Return the URI of the Debian archive (not its security archive) in the machine's apt configuration."""
    form = "$(REPO_URI) $(ORIGIN) $(COMPONENT) $(RELEASE)"
    listed = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], os.environ, Path("/"))
    repositories = [line.split() for line in listed.splitlines() if " main " in line and "-security" not in line]
    known = [words[0] for words in repositories if words[1] == "Debian"]
    # before the first `apt-get update` apt does not know the origins
    guessed = [words[0] for words in repositories if words[0].rstrip("/").endswith("/debian")]
    if not known and not guessed:
        msg = "no Debian archive in this machine's apt configuration (`apt-get indextargets` shows none): add one"
        raise ServerFailedError(msg)
    return (known or guessed)[0]


def _installed_by(simulated: str) -> list[str]:
    """Return `name=version` for each line `Inst name (version …)` of a simulated installation."""
    lines = (line.split() for line in simulated.splitlines() if line.startswith("Inst "))
    return [f"{words[1]}={words[2].lstrip('(')}" for words in lines]


def _run(argv: Sequence[str], environment: Mapping[str, str], directory: Path) -> str:
    done = subprocess.run(
        argv,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-_OUTPUT_TAIL:].strip()
        msg = f"`{' '.join(argv[:3])}` ended with code {done.returncode}: {said}"
        raise ServerFailedError(msg)
    return done.stdout
