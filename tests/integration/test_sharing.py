"""The commands of docs/sharing.md, with an OpenSSH server on loopback."""

import os
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import ROOT, Completed, recorded_outputs, run

CANARY = secrets.token_hex(16)  # random, because the clone has this file in git
MODEL = "data/model/model.safetensors"
EXPERIMENT = "more-blank"

Words = dict[str, str]  # values for the words in capitals


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Words]:
    """A server that accepts one key, and a home folder that knows the server's key."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not program:
        pytest.skip("needs sshd: apt-get install openssh-server")
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd needs it, and only the system's own service creates it
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        host, port = listener.getsockname()
    folder, known_hosts = tmp_path / "server", tmp_path / "home/.ssh/known_hosts"
    for path in (folder, known_hosts.parent):
        path.mkdir(parents=True)
    for name, passphrase in (("host", ""), ("user", CANARY)):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(folder / name)], folder)
    known_hosts.write_text(f"[{host}]:{port} {(folder / 'host.pub').read_text()}")
    options = {
        "ListenAddress": f"{host}:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "Subsystem": "sftp internal-sftp",
    }
    command = [program, "-D", "-e", "-f", os.devnull, *(f"-o{key}={value}" for key, value in options.items())]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as sshd:
        try:
            assert sshd.stderr
            assert "listening" in sshd.stderr.readline()
            yield {
                "HOST": f"{host}:{port}",
                "FOLDER": f"{folder}/store".lstrip("/"),
                "USER": run(["id", "-un"], folder).stdout.strip(),
                "KEYFILE": str(folder / "user"),
                "PASSPHRASE": CANARY,
                "EXPERIMENT": EXPERIMENT,
            }
        finally:
            sshd.terminate()


def commands(section: str, words: Words) -> list[list[str]]:
    """Return the commands of a section of docs/sharing.md, with the words in capitals replaced."""
    text = (ROOT / "docs/sharing.md").read_text().split(f"\n## {section}\n")[1]
    block = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[0]
    filled = re.sub(r"\b[A-Z]{2,}\b", lambda word: words.get(word[0], word[0]), block)
    return [[word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)] for line in filled.splitlines()]


def test_results_are_pushed_pulled_and_repaired(clone: Path, tmp_path: Path, server: Words) -> None:
    """A pull in another clone leaves nothing to do, a damaged file is noticed and repaired, no secret is in git."""
    origin = tmp_path / "origin.git"
    setup, (pull, *after_pull) = commands("A server with SSH", server), commands("Pull on another machine", server)
    *commit_and_push, push_experiment = commands("Push", server)

    def call(command: list[str], folder: Path, check: bool = True) -> Completed:
        return run(command, folder, check, HOME=str(tmp_path / "home"))

    def clone_origin(name: str) -> Path:
        call(["git", "clone", "--quiet", str(origin), name], tmp_path)
        for command in setup:
            if "--local" in command:
                call(command, tmp_path / name)
        return tmp_path / name

    call(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], tmp_path)
    call(["git", "remote", "add", "origin", str(origin)], clone)
    for command in setup + commit_and_push:
        call(command, clone)
    call(["dvc", "exp", "run", "--temp", "--name", EXPERIMENT, "-S", "inspect.max_blank=7"], clone)
    call(push_experiment, clone)

    other = clone_origin("other")
    call(pull, other)
    repro, *_ = [call(command, other).stdout for command in after_pull]
    assert "up to date" in repro
    assert "Running stage" not in repro
    assert EXPERIMENT in call(["dvc", "exp", "list"], other).stdout
    assert recorded_outputs(other) == recorded_outputs(clone)
    expected = (clone / MODEL).read_bytes()
    assert (other / MODEL).read_bytes() == expected

    digest = recorded_outputs(clone)[MODEL]
    stored = tmp_path / "server/store/files/md5" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(expected[:-1] + b"\0")
    damaged = clone_origin("damaged")
    done = call(pull, damaged, check=False)
    assert done.returncode
    assert MODEL in done.stderr
    assert not (damaged / MODEL).exists()
    call(["dvc", "repro"], damaged)
    stored.unlink()
    call(["dvc", "push"], damaged)
    assert stored.read_bytes() == expected

    for folder in (clone, origin):
        objects = ["git", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
        everything = subprocess.run(objects, cwd=folder, capture_output=True, check=True).stdout
        assert b"verify = true" in everything  # what is in git is found
        assert CANARY.encode() not in everything
    assert CANARY in (clone / ".dvc/config.local").read_text()
