"""`echo`, `sleepers`, `units`: equal work, a load that can tell; soak's connections."""

import os
import socket
import subprocess
import sys
import threading

import pytest

from toolbox import catalog
from toolbox.bench.model import Missing, Outcome
from toolbox.bench.soak import connections
from toolbox.bench.suite import loops, units

ECHO, SLEEPERS = loops.BENCHMARKS
[UNITS] = units.BENCHMARKS


@pytest.fixture
def programs():
    """The stage of `echo`; its rows give their process, which is ours here, another core."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        with ECHO.stage() as stage:
            yield stage
    except Missing as reason:
        pytest.skip(str(reason))
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


def run(benchmark, name: str, stage) -> Outcome:
    [row] = [row for row in benchmark.rows if row.name == name]
    for need in row.needs:
        pytest.importorskip(need)
    return row.run(stage, True)


@pytest.mark.parametrize("name", [row.name for row in ECHO.rows])
def test_every_server_echoes_every_message(programs, name):
    outcome = run(ECHO, name, programs)
    assert outcome.work == {"一样": 20_000, "不一样": 0}
    assert outcome.cpu > 0 and outcome.memory > 100_000 and 0 < outcome.busy < 1.1


def test_the_load_counts_echoes_that_differ(programs):
    def echo_badly(door: socket.socket) -> None:
        near, _ = door.accept()
        with near:
            heard = 0
            while message := near.recv(64):
                heard += 1
                near.sendall(message if heard % 4 else message[::-1])

    with socket.create_server(("127.0.0.1", 0)) as door:
        valley = threading.Thread(target=echo_badly, args=(door,))
        valley.start()
        words = [f"{programs['programs']}/echo_load", str(door.getsockname()[1]), str(os.getpid())]
        report = subprocess.run([*words, "1", "80"], stdout=subprocess.PIPE, text=True, check=True)
        valley.join()
    right, wrong, *_ = report.stdout.split()
    assert int(right) + int(wrong) == 80 and int(wrong) == 20


@pytest.mark.parametrize("name", [row.name for row in SLEEPERS.rows if row.needs == ()])
def test_the_sleepers_all_wake(name):
    code = f"""
import asyncio
from toolbox.bench.suite import loops
run, pair = loops.LOOPS[{"ours" if name.startswith("3.8") else "asyncio"!r}]()
asleep, deadline = run(loops.crowd(pair, 2000))
assert asleep < deadline
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=catalog.ROOT, check=True)


@pytest.mark.parametrize(
    "name", ["asyncio 任务", "线程", "进程", "greenlet", "生成器", "3.8 的任务"]
)
def test_every_unit_is_asleep_and_has_its_price(name):
    code = f"""
import json
from toolbox.bench.suite import units
[row] = [row for row in units.BENCHMARKS[0].rows if row.name == {name!r}]
outcome = row.run({{}}, True)
print(json.dumps([outcome.work == units.WORK, outcome.memory > 50, outcome.seconds > 0]))
"""
    if name == "greenlet":
        pytest.importorskip("greenlet")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=catalog.ROOT, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == "[true, true, true]\n"


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_connections_are_counted_at_the_server_while_they_are_open():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        assert connections.connections(port) == 0
        with socket.create_connection(door.getsockname(), source_address=("127.0.0.2", 0)):
            near, _ = door.accept()
            assert connections.connections(port) == 1
        with near:
            assert connections.connections(port) == 1  # the visitor has gone, the server has not
        assert connections.connections(port) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Windows has no such limit")
def test_the_limit_of_open_files_is_put_back():
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connections.descriptors(2000) as allowed:
        assert allowed <= resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
