"""Lesson 3.10: what a unit of concurrency costs, what bounds memory, how a leak is found."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.asyncio


@pytest.fixture
def few(lesson, monkeypatch):
    monkeypatch.setattr(lesson, "UNITS", {"协程": (5_000, 1), "线程": (200, 1), "进程": (1, 2)})
    monkeypatch.setattr(lesson, "ROOMS", 300)


async def test_everyone_is_asleep_at_the_same_time(lesson, few):
    measured = await lesson.compare_units()
    assert {unit: count for unit, (count, _, _) in measured.items()} == {
        "协程": 5_000,
        "线程": 200,
        "进程": 2,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is only estimated")
async def test_a_coroutine_costs_less_than_a_thread_and_far_less_than_a_process(lesson, few):
    kib = {unit: each for unit, (_, each, _) in (await lesson.compare_units()).items()}
    assert 0.3 < kib["协程"] < 4
    assert kib["线程"] > 4 * kib["协程"]
    assert kib["进程"] > 500 * kib["协程"]  # an interpreter, even with next to nothing imported


async def test_one_thread_holds_far_more_than_500_coroutines(lesson):
    asleep, _, _ = await asyncio.to_thread(lesson.measure, "协程", 20_000, 1)
    assert asleep == 20_000


@pytest.fixture
def houses(lesson, monkeypatch):
    """The processes that measure() starts; the third dies before it reports."""
    started = []

    class House(subprocess.Popen):
        def __init__(self, command, **options):
            if len(started) == 2:
                command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
            super().__init__(command, **options)
            started.append(self)

    monkeypatch.setattr(lesson.subprocess, "Popen", House)
    return started


async def test_a_guest_that_never_reports_is_an_error_and_not_a_hang(lesson, capfd):
    with pytest.raises(EOFError):
        await asyncio.to_thread(lesson.measure, "协程", "many", 1)
    assert "ValueError" in capfd.readouterr().err


@pytest.mark.parametrize("unit", ["进程", "协程"])
async def test_one_of_four_that_is_killed_is_an_error_and_takes_the_others_down(
    lesson, houses, unit
):
    with pytest.raises(EOFError, match="没报账就倒了"):
        await asyncio.to_thread(lesson.measure, unit, 10, 4)
    assert len(houses) == 4
    assert all(house.returncode is not None for house in houses)
    assert all(house.stdin.closed and house.stdout.closed for house in houses)


async def test_every_house_is_torn_down_when_all_have_reported(lesson, houses):
    assert (await asyncio.to_thread(lesson.measure, "线程", 3, 2))[0] == 6
    assert [house.poll() is None for house in houses] == [False, False]


@pytest.mark.parametrize("guests", [("3", "0"), ("0", "3"), ("0", "0")])
async def test_a_house_whose_builder_is_gone_ends_without_a_word(lesson, guests):
    command = [sys.executable, "-W", "error", lesson.guest_house.__file__, *guests]
    done = await asyncio.to_thread(
        subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=50
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert int(done.stdout.split()[1]) == max(1, *map(int, guests))


async def test_a_house_whose_builder_died_before_the_bill_ends_without_a_word(lesson):
    """Not with a complaint for each of the guests."""
    command = [sys.executable, "-W", "error", lesson.guest_house.__file__, "300", "0"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as house:
        house.stdout.close()
        assert await asyncio.to_thread(house.stderr.read) == b""
    assert house.returncode == 0


async def test_guests_that_do_not_sleep_say_why(lesson, monkeypatch, capfd, tmp_path):
    """Exercise 1, with the learner's coroutine where asyncio is not imported."""
    source = Path(lesson.guest_house.__file__).read_text(encoding="utf-8")
    own = source.replace("create_task(asyncio.sleep(3600))", "create_task(guest())").replace(
        "def coroutines_check_in",
        "async def guest():\n    await asyncio.sleep(3600)\n\n\ndef coroutines_check_in",
    )
    house = tmp_path / "guest_house.py"
    house.write_text(own, encoding="utf-8")
    monkeypatch.setattr(lesson.guest_house, "__file__", str(house))
    with pytest.raises(EOFError, match="没报账就倒了"):
        await asyncio.to_thread(lesson.measure, "协程", 10, 1)
    assert capfd.readouterr().err.count("NameError: name 'asyncio' is not defined") == 1


async def test_memory_in_use_sees_what_is_added(lesson):
    before = lesson.memory_in_use()
    ballast = b"x" * 50_000_000
    assert lesson.memory_in_use() - before > 40_000_000
    assert len(ballast) == 50_000_000


async def test_a_semaphore_bounds_the_work_but_not_the_memory(lesson, few):
    (most_all, all_kib), (most_keys, keys_kib), (most_ten, ten_kib) = (
        await lesson.bound_the_tasks()
    ).values()
    assert (most_all, most_keys, most_ten) == (300, 10, 10)
    assert keys_kib > all_kib / 2
    assert ten_kib < all_kib / 4


async def test_streaming_adds_up_the_same_without_holding_everything(lesson):
    (collected, collected_kib), (streamed, streamed_kib) = (
        await lesson.stream_instead_of_collecting()
    ).values()
    assert collected == streamed == 2000 * 100
    assert collected_kib > 2000
    assert streamed_kib < collected_kib / 10


async def test_the_snapshots_name_the_line_that_forgets_its_task(lesson, capsys):
    before = asyncio.all_tasks()
    assert await lesson.look_for_growth(lesson.stay_and_forget) == {"keep_warm": 150}
    named = capsys.readouterr().out.splitlines()[1].partition(" 的一行: ")[2]
    assert named == "heater = asyncio.create_task(keep_warm(bytearray(2048)))"
    forgotten = asyncio.all_tasks() - before
    assert forgotten == lesson.HEATERS
    for heater in forgotten:
        heater.cancel()
    await asyncio.gather(*forgotten, return_exceptions=True)
    assert not lesson.HEATERS


async def test_heaters_that_are_switched_off_leave_nothing(lesson):
    assert await lesson.look_for_growth(lesson.stay_and_switch_off) == {}


async def test_debug_mode_takes_smaller_numbers_only_there(lesson):
    assert lesson.UNITS["协程"][0] == (2_000 if lesson.DEBUG else 100_000)
