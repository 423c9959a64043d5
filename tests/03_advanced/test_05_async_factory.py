"""Lesson 3.5 on virtual time: finished objects, made once, and taken down backwards."""

import asyncio

import pytest

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]
CALIBRATION = 0.04


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_async_init_is_refused_and_the_factory_is_the_cure(lesson, capsys):
    await lesson.init_cannot_await()
    assert capsys.readouterr().out.splitlines() == [
        "async def __init__ → TypeError: __init__() should return None, not 'coroutine'",
        "await Barometer.create(…) → 偏差 0.5",
    ]


async def test_factory_waits_once_and_makes_subclasses_too(lesson):
    class Aneroid(lesson.Barometer):
        pass

    started = now()
    barometer = await Aneroid.create(lesson.Lab())
    assert (type(barometer), barometer.offset) == (Aneroid, 0.5)
    assert now() - started == pytest.approx(CALIBRATION)


async def test_failing_factory_leaves_no_half_made_object(lesson):
    lab = lesson.Lab(broken=1)
    with pytest.raises(OSError, match="校准失败"):
        await lesson.Barometer.create(lab)
    assert (await lesson.Barometer.create(lab)).offset == 0.5


async def test_dunder_await_starts_the_object(lesson, capsys):
    started = now()
    anemometer = await lesson.dunder_await_keeps_the_call_short()
    assert anemometer.offset == 0.5
    assert now() - started == pytest.approx(CALIBRATION)
    assert capsys.readouterr().out.splitlines()[0] == "await 之前: 有 offset 吗？False"


async def test_check_then_await_makes_one_per_caller(lesson):
    everyone = ["气压计"] * 4
    started = now()
    assert await lesson.check_then_await_is_a_race() == [
        (everyone, 3),
        (everyone, 1),
        (everyone, 1),
    ]
    assert now() - started == pytest.approx(3 * CALIBRATION)


async def test_everyone_gets_the_same_object(lesson):
    for way in (lesson.Station.locked, lesson.Station.shared):
        station = lesson.Station(lesson.Lab())
        assert len({id(it) for it in await asyncio.gather(*(way(station) for _ in range(5)))}) == 1


async def test_failure_is_forgotten_and_made_again(lesson):
    assert await lesson.failure_must_not_stick() == [
        (["OSError", "气压计", "气压计", "气压计"], 2),
        (["OSError", "OSError", "OSError", "气压计"], 2),
    ]


async def test_an_impatient_waiter_takes_only_the_fragile_way_down(lesson, capsys):
    assert await lesson.one_impatient_waiter() == [
        (["TimeoutError", "CancelledError", "CancelledError", "气压计"], 2),
        (["TimeoutError", "气压计", "气压计", "气压计"], 2),
        (["TimeoutError", "气压计", "气压计", "气压计"], 1),
    ]
    assert capsys.readouterr().out.startswith("fragile: 校准 2 次")


async def test_station_ends_the_calibration_that_everyone_left(lesson):
    started, station = now(), lesson.Station(lesson.Lab())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(CALIBRATION / 2):
            await station.shared()
    assert len(asyncio.all_tasks()) == 2  # the test and the calibration
    await station.aclose()
    assert now() - started == pytest.approx(CALIBRATION / 2)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_a_station_that_made_nothing_is_fine(lesson):
    await lesson.Station(lesson.Lab()).aclose()


async def test_teardown_runs_backwards_and_after_a_partial_start(lesson, capsys):
    await lesson.teardown_runs_backwards()
    assert capsys.readouterr().out.splitlines() == [
        "气压计: 通电",
        "雷达: 通电",
        "开始观测: ['气压计', '雷达']",
        "雷达: 断电",
        "气压计: 断电",
        "气压计: 通电",
        "气压计: 断电",
        "没开成: 坏雷达通不了电",
    ]


async def test_teardown_runs_when_the_station_is_cancelled(lesson, capsys):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), lesson.open_station("雷达"):
            await asyncio.sleep(60)
    assert capsys.readouterr().out.splitlines() == ["雷达: 通电", "雷达: 断电"]


async def test_nobody_but_the_impatient_one_minds_a_machine_that_stands_still(lesson, monkeypatch):
    calibrate = lesson.Lab.calibrate

    async def calibrate_on_a_slow_machine(lab):
        await asyncio.sleep(1.3)
        return await calibrate(lab)

    monkeypatch.setattr(lesson.Lab, "calibrate", calibrate_on_a_slow_machine)
    outcomes = [
        *await lesson.check_then_await_is_a_race(),
        *await lesson.failure_must_not_stick(),
        *await lesson.one_impatient_waiter(),
    ]
    assert [got.count("TimeoutError") for got, _ in outcomes] == [0, 0, 0, 0, 0, 1, 1, 1]
