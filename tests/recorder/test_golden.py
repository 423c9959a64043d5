"""Under a virtual clock the order of steps is the same on every run and on every Python."""

import importlib

import pytest

pythons = importlib.import_module("tests.pythons")

KITCHEN = """
    import asyncio
    import time

    async def cook(orders, name, pause):
        while (order := await orders.get()) is not None:
            await asyncio.sleep(pause)
            print(name, order)

    async def oven(lock, minutes):
        async with lock:
            await asyncio.sleep(minutes)
        return minutes

    async def main():
        orders, lock = asyncio.Queue(2), asyncio.Lock()
        async with asyncio.TaskGroup() as group:
            for name in ("cook-a", "cook-b"):
                group.create_task(cook(orders, name, 0.05), name=name)
            for order in (1, 2, 3, None, None):
                await orders.put(order)
        names = ("oven-a", "oven-b")
        tasks = [asyncio.create_task(oven(lock, 60), name=name) for name in names]
        print(await asyncio.gather(*tasks))
        try:
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        except TimeoutError:
            print("an hour later")
        time.sleep(3600)
        late = asyncio.create_task(asyncio.sleep(5), name="late")
        await asyncio.sleep(0)
        late.cancel()

    asyncio.run(main(), debug=False)
"""
ORDER = """
Task-1 new | Task-1 run | cook-a new | cook-b new | Task-1 queue 21 | cook-a run | cook-a sleep 7
cook-b run | cook-b sleep 7 | Task-1 run | Task-1 queue 21 | cook-a run | cook-a sleep 7
cook-b run | cook-b done | Task-1 run | Task-1 taskgroup 17 | cook-a run | cook-a done
Task-1 run | oven-a new | oven-b new | Task-1 gather 24 | oven-a run | oven-a sleep 12
oven-b run | oven-b lock 11 | oven-a run | oven-a done | oven-b run | oven-b sleep 12
oven-b run | oven-b done | Task-1 run | Task-1 event 27 | Task-1 run | late new | Task-1 yield 32
late run | late sleep | Task-1 run | Task-1 done | late run | late cancelled
"""


def order(trace) -> list[str]:
    """Each change of the script's own tasks, in words."""
    names = [lane["name"] for lane in trace["tasks"]]
    ours = {lane["id"] for lane in trace["tasks"] if lane["def"] or lane["name"] == "late"}
    said = []
    for event in trace["ev"]:
        if event["k"] in ("new", "run", "end") and event.get("T") in ours:
            wait = event.get("w", {})
            what = wait.get("kind") or event.get("state") or event["k"]
            line = str(wait["at"][1]) if "at" in wait else ""
            said.append(f"{names[event['T']]} {what} {line}".strip())
    return said


def expected() -> list[str]:
    return [step.strip() for line in ORDER.strip().splitlines() for step in line.split("|")]


def test_order_is_the_golden_one_20_times(script, recorded):
    path = script(KITCHEN)
    for _ in range(20):
        run = recorded(path, options={"virtual": True, "lines": False})
        assert order(run.trace) == expected()
        assert run.trace["virtual"] is True
        assert 7_200_000_000 < run.trace["ev"][-1]["t"] - run.trace["ev"][0]["t"] < 7_400_000_000


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_order_is_the_same_on_every_python(version, script, recorded):
    python = pythons.find(version)
    if python is None:
        pytest.skip(f"no Python {version}")
    run = recorded(script(KITCHEN), python=python, options={"virtual": True})
    assert run.trace["python"].startswith(version)
    assert order(run.trace) == expected()


def test_threads_are_waited_for_in_real_time(script, recorded):
    run = recorded(
        script(
            """
            import asyncio, threading
            gate = threading.Event()
            async def main():
                job = asyncio.create_task(asyncio.to_thread(gate.wait, 10))
                await asyncio.sleep(0.05)
                gate.set()
                print(await job)
                await asyncio.sleep(3600)  # free again
            asyncio.run(main())
            """
        ),
        options={"virtual": True},
    )
    assert (run.code, run.stdout, run.stderr) == (0, b"True\n", b"")


def test_both_clocks_give_the_same_output(script, recorded, plain):
    path = script(KITCHEN.replace("3600", "0.2").replace("60)", "0.01)"))
    assert recorded(path, options={"virtual": True}).stdout == plain(path).stdout


def test_lines_keep_the_same_clock_as_everything_else(script, recorded):
    run = recorded(script(KITCHEN), options={"virtual": True})
    times = [event["t"] for event in run.trace["ev"]]
    assert {"line", "run", "timer"} <= {event["k"] for event in run.trace["ev"]}
    after_the_import = times[[event["k"] for event in run.trace["ev"]].index("run") :]
    assert after_the_import == sorted(after_the_import)
