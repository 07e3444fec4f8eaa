"""docs/sharing.md, line by line: an OpenSSH server on loopback, and moto's server, which speaks S3 over HTTP."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest

from tests.conftest import ROOT, outputs, run

CANARY = secrets.token_hex(16)  # not written out: the clone has this file in git
MODEL = "data/model/model.safetensors"

Words = dict[str, str]  # what stands for the words in capitals


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def serve(command: list[str], port: int) -> Iterator[None]:
    """Run a server, from its first answer on `port` until the test has ended."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            until = time.monotonic() + 30
            while not answers(port):
                assert server.poll() is None, server.stderr and server.stderr.read()
                assert time.monotonic() < until
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[Words]:
    """A server that knows one key, and a home that knows the server's."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if not program:
        pytest.skip("needs sshd: apt-get install openssh-server")
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and only the system's own start makes it
    folder, port = tmp_path / "server", free_port()
    known = tmp_path / "home/.ssh/known_hosts"
    for path in (folder, known.parent):
        path.mkdir(parents=True)
    for name, passphrase in (("host", ""), ("user", CANARY)):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(folder / name)]
        subprocess.run(key, check=True)
    known.write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
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
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    words = {"HOST": f"127.0.0.1:{port}", "FOLDER": f"{folder}/store".lstrip("/"), "USER": user}
    words |= {"KEYFILE": str(folder / "user"), "PASSPHRASE": CANARY, "store": f"{folder}/store"}
    yield from (words for _ in serve([program, "-D", "-e", "-f", str(folder / "sshd_config")], port))


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
    for _ in serve([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port):
        bucket(words).create()
        yield words


def bucket(words: Words):  # boto3 makes its classes as it goes
    keys = {"aws_access_key_id": words["ID"], "aws_secret_access_key": words["SECRET"], "region_name": "us-east-1"}
    return boto3.resource("s3", endpoint_url=words["ENDPOINT"], **keys).Bucket(words["BUCKET"])


class Store:
    """The objects of a remote, by what stands below `files/md5/`, reached without DVC."""

    def __init__(self, words: Words) -> None:
        self.words = words

    def damage(self, name: str) -> None:
        """Change a byte."""
        content = bytearray(self._file(name).read_bytes() if self._ssh else self._object(name).get()["Body"].read())
        content[len(content) // 2] ^= 1
        if self._ssh:
            self._file(name).chmod(0o644)
            self._file(name).write_bytes(content)
        else:
            self._object(name).put(Body=bytes(content))

    def remove(self, name: str) -> None:
        if self._ssh:
            self._file(name).unlink()
        else:
            self._object(name).delete()

    @property
    def _ssh(self) -> bool:
        return "HOST" in self.words

    def _file(self, name: str) -> Path:
        return Path(self.words["store"]) / "files/md5" / name

    def _object(self, name: str):
        return bucket(self.words).Object(f"{self.words['FOLDER']}/files/md5/{name}")


def lines(section: str, words: Words) -> list[list[str]]:
    """The commands of one section of docs/sharing.md, with the words in capitals filled in."""
    text = (ROOT / "docs/sharing.md").read_text().split(f"\n## {section}\n")[1]
    block = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[0]
    filled = re.sub(r"\b[A-Z]{2,}\b", lambda word: words.get(word[0], word[0]), block)
    return [re.findall(r'"[^"]*"|\S+', line) for line in filled.splitlines()]


@pytest.mark.parametrize("kind", ["ssh", "s3"])
def test_sharing(
    clone: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest, count: Callable[[str], None]
) -> None:
    """Push, clone, pull, nothing to do; a damaged object is noticed and mended; no secret is in git."""
    words = {**request.getfixturevalue(kind), "EXPERIMENT": "small-pictures"}
    store = Store(words)

    def call(command: list[str], folder: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run([word.strip('"') for word in command], folder, check, HOME=str(tmp_path / "home"))

    mine, origin = tmp_path / "mine", tmp_path / "origin.git"
    shutil.copytree(clone, mine, symlinks=True)
    call(["git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin)], tmp_path)
    call(["git", "remote", "add", "origin", str(origin)], mine)
    setup = lines("A server with SSH" if kind == "ssh" else "S3", words)
    *commit_and_push, push_experiment = lines("Push", words)
    for command in setup + commit_and_push:
        call(command, mine)
    call(["dvc", "exp", "run", "--temp", "--name", words["EXPERIMENT"], "-S", "plot.dpi=40"], mine)
    call(push_experiment, mine)

    def pulled(name: str, check: bool = True) -> tuple[Path, subprocess.CompletedProcess[str]]:
        there = tmp_path / name
        call(["git", "clone", "--quiet", str(origin), name], tmp_path)
        for command in setup:
            if "--local" in command:
                call(command, there)
        pull, *rest = lines("Pull, elsewhere", words)
        done = call(pull, there, check)
        if check:
            said = [call(command, there).stdout for command in rest]
            assert "up to date" in said[0]
            assert "Running stage" not in said[0]
            assert words["EXPERIMENT"] in call(["dvc", "exp", "list"], there).stdout
            assert not call(["git", "status", "--porcelain"], there).stdout
            assert outputs(there) == outputs(mine)
            assert (there / MODEL).read_bytes() == (mine / MODEL).read_bytes()
        return there, done

    pulled("theirs")
    digest = outputs(mine)[MODEL]
    name = f"{digest[:2]}/{digest[2:]}"
    store.damage(name)
    there, done = pulled("late", check=False)
    assert done.returncode
    assert MODEL in done.stderr
    assert not (there / MODEL).exists()
    call(["dvc", "repro"], there)
    assert (there / MODEL).read_bytes() == (mine / MODEL).read_bytes()
    store.remove(name)
    call(["dvc", "push"], there)
    pulled("last")

    for folder in (mine, there, origin):
        objects = ["git", "cat-file", "--batch-all-objects", "--batch", "--buffer"]
        everything = subprocess.run(objects, cwd=folder, capture_output=True, check=True).stdout
        assert b"verify = true" in everything  # what is in git is found
        assert CANARY.encode() not in everything
    assert CANARY in (mine / ".dvc/config.local").read_text()
    assert CANARY not in (mine / ".dvc/config").read_text()
    count(f"{kind}: pushed, pulled by 3 clones, 1 object damaged and noticed, no secret in git")
