"""Lesson 3.9: one program on asyncio and uvloop, with and without eager tasks."""

import asyncio
import builtins
import importlib
import subprocess
import sys

import pytest

EAGER = sys.version_info >= (3, 12)


@pytest.fixture
def uvloop():
    return pytest.importorskip("uvloop", reason="uvloop is not for this platform")


def test_the_same_program_arrives_on_every_engine(lesson, uvloop, capsys):
    runs = lesson.change_engines()
    assert {name: module for name, (module, _) in runs.items()} == {
        "asyncio 车头": "asyncio",
        "uvloop 车头": "uvloop",
        "uvloop.run()": "uvloop",
    }
    assert all(arrived == ["快车", "慢车"] for _, arrived in runs.values())
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_setups_are_every_engine_and_eager_tasks_only_where_they_exist(lesson):
    plain = [setup for setup, (_, eager) in lesson.SETUPS.items() if not eager]
    eager = [setup for setup, (_, eager) in lesson.SETUPS.items() if eager]
    assert plain == list(lesson.ENGINES)
    assert eager == ([f"{name} + 急切任务" for name in lesson.ENGINES] if EAGER else [])


def test_eager_tasks_run_inside_create_task_whatever_the_loop(lesson):
    for setup, log in lesson.board_eagerly().items():
        later = ["发车", "上车", "开走"]
        assert log == (["上车", "开走", "发车"] if "急切" in setup else later)


@pytest.mark.skipif(not EAGER, reason="eager tasks came with 3.12")
def test_own_eager_factory_keeps_name_and_context(lesson):
    async def main():
        asyncio.get_running_loop().set_task_factory(lesson.start_eagerly)
        task = asyncio.create_task(asyncio.sleep(0, "there"), name="express")
        async with asyncio.TaskGroup() as group:
            grouped = group.create_task(asyncio.sleep(0, "too"), name="local")
        return task.get_name(), await task, grouped.get_name(), grouped.result()

    for factory in lesson.ENGINES.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(main()) == ("express", "there", "local", "too")


def test_drive_hands_over_result_and_error_and_leaves_no_loop_behind(lesson):
    async def derail():
        raise RuntimeError("derailed")

    async def add(first, second):
        return first + second, asyncio.get_running_loop()

    for setup in lesson.SETUPS:
        total, loop = lesson.drive(setup, add, 1, 2)
        assert total == 3 and loop.is_closed()
        with pytest.raises(RuntimeError, match="derailed"):
            lesson.drive(setup, derail)


def test_every_setup_is_measured_in_three_columns(lesson, capsys):
    table = lesson.measure_overhead()
    assert list(table) == list(lesson.SETUPS)
    assert all(len(row) == 3 for row in table.values())
    assert len(capsys.readouterr().out.splitlines()) == len(table)


def test_what_is_measured_is_done_as_often_as_asked(lesson):
    made, turns = [], 0

    def note_the_task(loop, coro, **options):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def main():
        loop = asyncio.get_running_loop()

        def turn():
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        turn()
        await lesson.give_way(10)
        given_way = turns
        loop.set_task_factory(note_the_task)
        await lesson.create_tasks(7)
        loop.set_task_factory(None)
        return given_way

    for factory in lesson.ENGINES.values():
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(main()) in (10, 11)
        assert len(made) == 7
        made.clear()
        turns = 0


@pytest.mark.parametrize("size", [64, 64 * 1024])
def test_telegrams_are_worked_on_once_each_and_all_answered(lesson, monkeypatch, size):
    monkeypatch.setattr(lesson, "TELEGRAM", bytes(size))
    for engine in lesson.ENGINES:
        worked = []
        lesson.drive(engine, lesson.answer_telegrams, 3, 4, lambda done=worked: done.append(1))
        assert len(worked) == 12


def test_ctrl_c_between_two_calls_hangs_up_and_does_not_wait_for_the_server(lesson, monkeypatch):
    """From 3.12 on the server waits for every connection: one left open, and it waits for ever."""
    lines, dial = [], asyncio.open_connection

    async def dial_twice(*address):
        if len(lines) == 2:
            raise asyncio.CancelledError
        lines.append(await dial(*address))
        return lines[-1]

    monkeypatch.setattr(asyncio, "open_connection", dial_twice)
    for engine in lesson.ENGINES:
        with pytest.raises(asyncio.CancelledError):
            lesson.drive(engine, lesson.answer_telegrams, 3, 1)
        assert all(writer.is_closing() for _, writer in lines)
        lines.clear()


def test_waiting_takes_as_long_as_the_wait_on_any_engine(lesson):
    times = lesson.race(lesson.ENGINES, lesson.wait_at_the_platform)
    assert list(times) == list(lesson.ENGINES)
    assert min(times.values()) >= 0.049 * 1e6


def test_race_keeps_the_fastest_lap_of_alternating_ones(lesson):
    order, laps = [], iter([5.0, 9.0, 4.0, 8.0, 6.0, 7.0, 3.0, 9.0, 5.0, 9.0])

    async def lap():
        order.append(type(asyncio.get_running_loop()).__module__)
        return next(laps)

    setups = dict.fromkeys(["asyncio", list(lesson.ENGINES)[-1]])
    if len(setups) == 1:
        pytest.skip("uvloop is not for this platform")
    assert lesson.race(setups, lap) == {"asyncio": 3.0, "uvloop": 7.0}
    assert order == order[:2] * 5 and order[0] != order[1]


def test_the_last_table_compares_the_engines_at_three_jobs(lesson, monkeypatch, capsys):
    jobs = []

    def race(setups, *job):
        jobs.append(job)
        return {setup: 60.0 / place for place, setup in enumerate(setups, start=1)}

    monkeypatch.setattr(lesson, "race", race)
    results = lesson.look_where_the_time_goes()
    telegrams = lesson.answer_telegrams
    assert jobs == [
        (telegrams, 16, 30),
        (telegrams, 16, 6, lesson.compute),
        (lesson.wait_at_the_platform,),
    ]
    assert all(list(times) == list(lesson.ENGINES) for times in results.values())
    gain = " → ≈30 微秒，快到 ≈2.00 倍" if len(lesson.ENGINES) == 2 else " 微秒"
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f"{label}: ≈60{gain}" for label in results]


def test_without_uvloop_a_sentence_says_so_and_asyncio_runs_alone(lesson, monkeypatch, capsys):
    real = builtins.__import__

    def no_uvloop(name, *args, **kwargs):
        if name == "uvloop":
            raise ModuleNotFoundError("No module named 'uvloop'")
        return real(name, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", no_uvloop)
        importlib.reload(lesson)
    try:
        assert list(lesson.ENGINES) == ["asyncio"]
        lesson.main()
    finally:
        importlib.reload(lesson)
    printed = capsys.readouterr().out
    assert "这里没有 uvloop" in printed
    assert not [line for line in printed.splitlines() if line.startswith("uvloop")]


def test_erratum_the_courses_policy_works_until_3_13_and_warns_from_3_14(uvloop):
    course = (
        "import asyncio, uvloop\n"
        "async def name(): return type(asyncio.get_running_loop()).__module__\n"
        "asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())\n"
        "print(asyncio.run(name()))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", course], capture_output=True, encoding="utf-8"
    )
    if sys.version_info < (3, 14):
        assert (ran.stdout, ran.stderr) == ("uvloop\n", "")
    else:
        last = ran.stderr.splitlines()[-1]
        assert last.startswith("DeprecationWarning: 'asyncio.") and "Python 3.16" in last


@pytest.mark.skipif(
    sys.version_info[:3] != (3, 13, 0),
    reason="seen on 3.13.0; later factories take the option, and None for no",
)
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_trap_asyncios_own_eager_factory_is_refused_by_uvloop(uvloop):
    if tuple(map(int, uvloop.__version__.split(".")[:2])) < (0, 23):
        pytest.skip("uvloop hands over eager_start since 0.23")

    async def nothing(): ...

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        never_started = nothing()
        try:
            await asyncio.create_task(never_started)
        finally:
            asyncio.get_running_loop().set_task_factory(None)
            never_started.close()

    with pytest.raises(TypeError, match="unexpected keyword argument 'eager_start'"):
        uvloop.run(main())
