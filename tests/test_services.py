"""toolbox/services.py: the order of the ways, refusal in words, nothing left behind."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pymysql
import pytest

from toolbox import catalog, services

posix_only = pytest.mark.skipif(os.name != "posix", reason="uses shell scripts and signals")


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No URL given, no Docker; returns a folder that is first on PATH."""
    for name in services.DEFAULT_URL:
        monkeypatch.delenv(services.variable(name), raising=False)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    program(programs, "docker", "exit 1")
    return programs


@pytest.fixture
def ours(monkeypatch):
    """A temporary folder of this test's own; call it to see what the services keep there."""
    with tempfile.TemporaryDirectory(prefix="t") as short:  # sockets want short paths
        monkeypatch.setattr(tempfile, "tempdir", short)
        monkeypatch.setenv("TMPDIR", short)
        yield lambda: list(Path(short).iterdir())


def program(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def ask_redis(url: str, command: bytes = b"PING\r\n") -> bytes:
    host, port = re.search(r"//(.*):(\d+)", url).groups()
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(command)
        return connection.recv(256)


def test_a_given_url_is_used_and_nothing_is_started(monkeypatch):
    said = []
    monkeypatch.setenv("REDIS_URL", "redis://me:secret@elsewhere:1/0")
    with services.redis(say=said.append) as url:
        assert url == "redis://me:secret@elsewhere:1/0"
    assert said == ["Redis：环境变量 REDIS_URL 指定的，redis://me:***@elsewhere:1/0"]


@posix_only
def test_without_docker_a_real_redis_starts_and_is_gone_afterwards(bare, ours):
    with services.redis() as url:
        assert ask_redis(url) == b"+PONG\r\n"
        assert url.startswith("redis://127.0.0.1:")
    with pytest.raises(ConnectionRefusedError):
        ask_redis(url)
    assert ours() == []


@posix_only
def test_without_docker_a_real_mysql_starts_with_the_lessons_account(bare, ours, available):
    with available(), services.mysql() as url:
        port = int(url.rpartition(":")[2])
        options = {"host": "127.0.0.1", "port": port, "user": "root", "password": "tutorial"}
        with pymysql.connect(**options) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE shop")
            with pytest.raises(pymysql.OperationalError, match="1290"):  # the password is no secret
                cursor.execute("SELECT 'mine' INTO OUTFILE %s", [f"/tmp/{secrets.token_hex(8)}"])
        with pytest.raises(pymysql.OperationalError, match="1045"):
            pymysql.connect(**{**options, "password": ""})
    with pytest.raises(pymysql.OperationalError, match="2003"):
        pymysql.connect(**options)
    assert ours() == []


@posix_only
def test_a_program_on_path_comes_before_the_embedded_one(bare):
    embedded = services.redis_programs()[-1]
    program(bare, "redis-server", f'exec "{embedded}" "$@"')
    said = []
    with services.redis(say=said.append) as url:
        assert ask_redis(url) == b"+PONG\r\n"
    assert said == [f"Redis：本机的 redis-server，{url}"]


@posix_only
@pytest.mark.parametrize(
    "script",
    [
        "echo Redis server v=5.0.14",
        "echo whatever",
        "case $1 in --version) echo Redis server v=7.0.1;; *) exit 1;; esac",
    ],
    ids=["too old", "no version", "dies at once"],
)
def test_a_program_that_will_not_do_is_passed_over(bare, script):
    program(bare, "redis-server", script)
    said = []
    with services.redis(say=said.append) as url:
        assert ask_redis(url) == b"+PONG\r\n"
    assert "valkey-server" in said[-1]


@posix_only
def test_a_taken_port_is_given_up_for_a_free_one(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with services.redis(port) as url:
            assert not url.endswith(f":{port}/0")
            assert ask_redis(url) == b"+PONG\r\n"
    port = services.free_port()
    with services.redis(port) as url:
        assert url == f"redis://127.0.0.1:{port}/0"


@posix_only
def test_when_nothing_works_one_chinese_paragraph_says_why_and_what_helps(bare, monkeypatch):
    monkeypatch.setattr(services, "redis_programs", list)
    monkeypatch.setattr(services, "mysql_programs", list)
    monkeypatch.setattr(services, "CACHE", bare / "nothing here")
    monkeypatch.setattr(services.shutil, "which", lambda *_, **__: None)
    for name, start in (("Redis", services.redis), ("MySQL", services.mysql)):
        with pytest.raises(services.Unavailable) as refusal, start():
            pass
        for words in (f"没有可用的 {name}", "docker compose up -d", services.variable(name)):
            assert words in str(refusal.value)


# A parent that starts a server, prints where, and waits; `linux` says whether the kernel may help.
PARENT = """
import sys, time
from toolbox import services
if {portable}:
    services.sys = type("sys", (), {{"platform": "darwin"}})
with services.{name}() as url:
    print(url, flush=True)
    time.sleep(60)
"""


def killed_parent(name: str, portable: bool) -> str:
    """Start a server from another process, SIGKILL that process, return the server's URL."""
    code = PARENT.format(name=name, portable=portable)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=catalog.ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    ) as parent:
        url = parent.stdout.readline().strip()
        parent.kill()
    return url


def wait_until_refused(url: str) -> None:
    with pytest.raises(ConnectionRefusedError):
        while True:
            with contextlib.suppress(ConnectionResetError):  # killed while it answered
                ask_redis(url)
            time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize("name", ["redis", "mysql"])
def test_servers_die_with_a_killed_parent_and_the_next_start_sweeps_its_folder(
    bare, ours, name, available
):
    with available(), getattr(services, name)():
        pass
    url = killed_parent(name, portable=False)
    port = int(re.search(r":(\d+)(/0)?$", url)[1])
    while not services.is_free(port):
        time.sleep(0.01)
    assert len(ours()) == 1
    services.sweep()
    assert ours() == []


@posix_only
def test_elsewhere_the_next_start_stops_the_orphan(bare, ours):
    url = killed_parent("redis", portable=True)
    assert ask_redis(url) == b"+PONG\r\n"
    with services.redis():
        wait_until_refused(url)
    assert ours() == []


@posix_only
def test_a_folder_that_somebody_else_has_put_there_is_let_alone(bare, ours, monkeypatch):
    with services.redis() as url:
        [folder] = ours()
        victim = folder / "pid"
        theirs = folder.with_name(services.FOLDER)  # the beginning of every server's command line
        theirs.mkdir()
        (theirs / "lock").touch()
        (theirs / "pid").write_text(victim.read_text())
        os.mkfifo(theirs.with_name(f"{services.FOLDER}pipe"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "geteuid", lambda: theirs.stat().st_uid + 1)
            services.sweep()
            assert theirs.exists()
        services.sweep()  # and were it ours, it would still not name our server
        assert ask_redis(url) == b"+PONG\r\n"


def test_a_folder_that_another_sweep_removes_first_is_no_error(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: iter([tmp_path / "gone"]))
    services.sweep()


@posix_only
def test_a_living_run_is_not_swept(bare):
    with services.redis() as url:
        services.sweep()
        subprocess.run(
            [sys.executable, "-c", "from toolbox import services; services.sweep()"],
            cwd=catalog.ROOT,
            check=True,
        )
        assert ask_redis(url) == b"+PONG\r\n"


# ── Docker: no engine runs where this is tested, so a stand-in plays the command line's part ──

DOCKER = """
import json, os, sys
state, refusal = os.environ["DOCKER_STATE"], None
log = json.load(open(state))
words = sys.argv[1:]
if words[:2] == ["compose", "-f"]:
    words = words[3:]
    log["calls"].append(" ".join(words))
    match words:
        case ["ps", "--services", *_]:
            print("\\n".join(log["up"]))
        case ["up", *options, service]:
            anew = "moved" in log and "--no-recreate" not in options
            if log.get("broken") or anew:
                refusal = "Error response from daemon: port is already allocated"
            else:
                log["up"] = sorted({*log["up"], service})
        case ["port", service, inner]:
            print("127.0.0.1:" + log.get("moved", inner))
        case ["rm", *_, service]:
            log["up"] = [name for name in log["up"] if name != service]
        case ["ps", "--all", "--quiet"]:
            print("\\n".join(log["up"]))
json.dump(log, open(state, "w"))
sys.exit(refusal)
"""


@pytest.fixture
def docker(bare, monkeypatch, tmp_path):
    """A docker command that keeps its containers in a JSON file; call it to read or change that."""
    state = tmp_path / "docker.json"
    (tmp_path / "docker.py").write_text(DOCKER)
    program(bare, "docker", f'exec "{sys.executable}" "{tmp_path}/docker.py" "$@"')
    monkeypatch.setenv("DOCKER_STATE", str(state))

    def containers(**change):
        now = json.loads(state.read_text()) if state.exists() else {"up": [], "calls": []}
        state.write_text(json.dumps({**now, **change}))
        return now

    containers()
    return containers


@posix_only
def test_docker_comes_before_local_programs_and_is_taken_down_again(docker):
    with services.redis() as redis, services.mysql() as mysql:
        assert (redis, mysql) == tuple(services.DEFAULT_URL.values())
        assert docker()["up"] == ["mysql", "redis"]
    assert docker()["up"] == []
    assert docker()["calls"][-1] == "down"


@posix_only
def test_a_container_that_was_up_stays_up(docker):
    docker(up=["redis"])
    with services.redis(), services.mysql():
        pass
    assert docker()["up"] == ["redis"]
    assert "down" not in docker()["calls"]


@posix_only
def test_a_container_on_another_port_is_used_as_it_is(docker):
    """REDIS_PORT=6380 docker compose up -d, as README says; we do not know of the variable."""
    docker(up=["redis"], moved="6380")
    with services.redis() as url:
        assert url == "redis://127.0.0.1:6380/0"


@posix_only
def test_when_docker_cannot_start_it_the_next_way_is_tried(docker):
    docker(broken=True)
    with services.redis() as url:
        assert ask_redis(url) == b"+PONG\r\n"
    assert "up --detach --wait redis" in docker()["calls"]


@posix_only
def test_look_names_what_would_be_used_and_starts_nothing(docker, monkeypatch):
    assert services.look("Redis") == (True, "Docker 容器（docker-compose.yml）")
    assert docker()["up"] == []
    monkeypatch.setenv("REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    found, words = services.look("Redis")
    assert not found
    assert "连不上" in words and "secret" not in words


@pytest.mark.parametrize(
    "url", ["redis://me:secret@[::1", "redis://me:sec/ret@host", "redis://me:secret@host:x"]
)
def test_a_url_that_is_none_is_said_without_its_password(monkeypatch, url):
    monkeypatch.setenv("REDIS_URL", url)
    found, words = services.look("Redis")
    assert not found
    assert "REDIS_URL" in words and "sec" not in words


def test_no_part_of_a_password_is_printed():
    assert services.without_password("mysql://root:p@ss@db:1/x") == "mysql://root:***@db:1/x"
    assert services.without_password(services.DEFAULT_URL["MySQL"]) == services.DEFAULT_URL["MySQL"]


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("MySQL", "mysql+pymysql://root:secret@127.0.0.1:{port}"),
        ("MySQL", "redis://127.0.0.1:{port}"),
        ("Redis", "me:secret@127.0.0.1:{port}"),
        ("Redis", "127.0.0.1:{port}"),
        ("Redis", "redis://127.0.0.1:{port}/tea"),
        ("Redis", "redis://127.0.0.1:0"),
        ("Redis", "redis://tea..house:{port}"),
        ("Redis", "unix:///tmp/redis.sock"),
    ],
)
def test_look_refuses_a_url_that_the_lessons_refuse(monkeypatch, name, url):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        url = url.format(port=somebody.getsockname()[1])
        monkeypatch.setenv(services.variable(name), url)
        found, words = services.look(name)
    assert not found and "不是能用的地址" in words and "secret" not in words
    assert "secret" not in services.without_password(url)


@posix_only
def test_a_long_temporary_folder_in_chinese_is_no_hindrance(bare, monkeypatch, tmp_path):
    """A socket's path is measured in bytes."""
    long = tempfile.mkdtemp(prefix="临时文件夹" * 8, dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", long)
    try:
        with services.redis() as url:
            assert ask_redis(url) == b"+PONG\r\n"
    finally:
        os.rmdir(long)
