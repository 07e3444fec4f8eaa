"""The commands of docs/sharing.md, with an OpenSSH server on loopback and moto's server, which speaks S3 over HTTP."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.helpers import ROOT, Completed, run
from tools.verify import recorded_outputs

CANARY = secrets.token_hex(16)  # random, because the clone has this file in git
MODEL = "data/model/model.safetensors"
EXPERIMENT = "small-pictures"
SETUP = {"ssh": "A server with SSH", "s3": "S3"}  # sections of docs/sharing.md

Words = dict[str, str]  # values for the words in capitals


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serve(command: list[str], port: int) -> Iterator[None]:
    """Run a server, and wait until it answers."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            end = time.monotonic() + 30
            while not is_open(port):
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < end
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Words]:
    """A server that accepts one key, and a home folder that knows the server's key."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not program:
        pytest.skip("needs sshd: apt-get install openssh-server")
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd needs it, and only the system's own service creates it
    folder, port = tmp_path / "server", free_port()
    known_hosts = tmp_path / "home/.ssh/known_hosts"
    for path in (folder, known_hosts.parent):
        path.mkdir(parents=True)
    for name, passphrase in (("host", ""), ("user", CANARY)):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(folder / name)], folder)
    known_hosts.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    words = {
        "HOST": f"127.0.0.1:{port}",
        "FOLDER": f"{folder}/store".lstrip("/"),
        "USER": run(["id", "-un"], folder).stdout.strip(),
        "KEYFILE": str(folder / "user"),
        "PASSPHRASE": CANARY,
        "store": f"{folder}/store",
    }
    with serve([program, "-D", "-e", "-f", str(folder / "sshd_config")], port):
        yield words


@pytest.fixture
def s3() -> Iterator[Words]:
    """A server with one empty bucket."""
    port = free_port()
    words = {
        "BUCKET": "results",
        "FOLDER": "mnist",
        "ENDPOINT": f"http://127.0.0.1:{port}",
        "ID": "ada",
        "SECRET": CANARY,
    }
    with serve([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        bucket(words).create()
        yield words


def bucket(words: Words) -> Any:
    keys = {"aws_access_key_id": words["ID"], "aws_secret_access_key": words["SECRET"], "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=words["ENDPOINT"], **keys).Bucket(words["BUCKET"])


class Store:
    """The files of a remote, accessed without DVC, by their names below `files/md5/`."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def flip_bit(self, name: str) -> None:
        content = bytearray(self._file(name).read_bytes() if self._is_ssh else self._object(name).get()["Body"].read())
        content[len(content) // 2] ^= 1
        if self._is_ssh:
            self._file(name).chmod(0o644)
            self._file(name).write_bytes(content)
        else:
            self._object(name).put(Body=bytes(content))

    def remove(self, name: str) -> None:
        if self._is_ssh:
            self._file(name).unlink()
        else:
            self._object(name).delete()

    @property
    def _is_ssh(self) -> bool:
        return "HOST" in self.words

    def _file(self, name: str) -> Path:
        return Path(self.words["store"]) / "files/md5" / name

    def _object(self, name: str) -> Any:
        return bucket(self.words).Object(f"{self.words['FOLDER']}/files/md5/{name}")


def commands(section: str, words: Words) -> list[list[str]]:
    """Return the commands of a section of docs/sharing.md, with the words in capitals replaced."""
    text = (ROOT / "docs/sharing.md").read_text().split(f"\n## {section}\n")[1]
    block = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[0]
    filled = re.sub(r"\b[A-Z]{2,}\b", lambda word: words.get(word[0], word[0]), block)
    return [[word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)] for line in filled.splitlines()]


@pytest.mark.parametrize("kind", ["ssh", "s3"])
def test_results_are_pushed_pulled_and_repaired(
    clone: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest, count: Callable[[str], None]
) -> None:
    """A pull in another clone leaves nothing to do, a damaged file is noticed and repaired, no secret is in git."""
    words = {**request.getfixturevalue(kind), "EXPERIMENT": EXPERIMENT}
    store, origin = Store(words), tmp_path / "origin.git"
    setup, (pull, *after_pull) = commands(SETUP[kind], words), commands("Pull on another machine", words)
    *commit_and_push, push_experiment = commands("Push", words)

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
    call(["dvc", "exp", "run", "--temp", "--name", EXPERIMENT, "-S", "plot.dpi=40"], clone)
    call(push_experiment, clone)

    other = clone_origin("other")
    call(pull, other)
    repro, *_ = [call(command, other).stdout for command in after_pull]
    assert "up to date" in repro
    assert "Running stage" not in repro
    assert EXPERIMENT in call(["dvc", "exp", "list"], other).stdout
    assert not call(["git", "status", "--porcelain"], other).stdout
    assert recorded_outputs(other) == recorded_outputs(clone)
    assert (other / MODEL).read_bytes() == (clone / MODEL).read_bytes()

    digest = recorded_outputs(clone)[MODEL]
    name = f"{digest[:2]}/{digest[2:]}"
    store.flip_bit(name)
    damaged = clone_origin("damaged")
    done = call(pull, damaged, check=False)
    assert done.returncode
    assert MODEL in done.stderr
    assert not (damaged / MODEL).exists()
    call(["dvc", "repro"], damaged)
    assert (damaged / MODEL).read_bytes() == (clone / MODEL).read_bytes()
    store.remove(name)
    call(["dvc", "push"], damaged)
    shutil.rmtree(other / ".dvc/cache")
    (other / MODEL).unlink()
    call(pull, other)
    assert (other / MODEL).read_bytes() == (clone / MODEL).read_bytes()

    for folder in (clone, damaged, origin):
        objects = ["git", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
        everything = subprocess.run(objects, cwd=folder, capture_output=True, check=True).stdout
        assert b"verify = true" in everything  # what is in git is found
        assert CANARY.encode() not in everything
    assert CANARY in (clone / ".dvc/config.local").read_text()
    assert CANARY not in (clone / ".dvc/config").read_text()
    count(f"{kind}: pushed, pulled by 2 clones, 1 damaged file noticed and repaired, no secret in git")
