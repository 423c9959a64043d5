"""What the page says of each primitive and of each outcome, in both languages: scenes.txt."""

import json
import re
import sys
import textwrap
from pathlib import Path

import pytest

from tests import processes
from toolbox import catalog
from toolbox.timeline import page

pytestmark = [
    pytest.mark.xdist_group("page"),
    pytest.mark.timeout(180),  # for the first: two recordings, two pages, each with its own limit
]
HERE = Path(__file__).parent
PAGES = Path(page.__file__).parent

SCRIPT = """\
import asyncio, gc, os, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

def other(coro, name="other"):
    return asyncio.create_task(coro, name=name)

async def nap(seconds=0.01):
    await asyncio.sleep(seconds)

async def fail():
    await asyncio.sleep(0.01)
    raise ValueError("bad")

async def call(function, *arguments):
    function(*arguments)

async def notify(condition):
    async with condition:
        condition.notify()

async def lost():
    await asyncio.get_running_loop().create_future()

class Wrong:
    def __await__(self):
        yield 3

def job():
    print("job")

def _quiet():
    pass

def tick():
    print("tick")

def broken():
    raise OSError("broken")

{scenes}

async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    for name, scene in list(globals().items()):
        if name.startswith("scene_"):
            print(name)
            await asyncio.wait([asyncio.create_task(scene(loop), name="me")])
            for task in asyncio.all_tasks() - {{asyncio.current_task()}}:
                task.cancel()

if __name__ == "__main__":
    asyncio.run(main())
"""

# Greenlets and generators.
BY_HAND = """\
import greenlet

def fails():
    yield
    raise KeyError("k")

def count():
    yield 1
    yield 2
    return 3

def careful():
    while True:
        try:
            yield
        except ValueError:
            pass

one, two, three = fails(), count(), careful()
for generator in (one, two, three):
    next(generator)
try:
    next(one)
except KeyError:
    pass
next(two)
two.close()
three.throw(ValueError("v"))
list(count())

main = greenlet.getcurrent()

def breaks():
    raise OSError("o")

def waits():
    main.switch()
    main.switch()

try:
    greenlet.greenlet(breaks).switch()
except OSError:
    pass
one = greenlet.greenlet(waits)
one.switch()
one.switch()
one.throw()
"""

SAY = """(language) => {
  setLanguage(language === "zh" ? ZH : EN);
  for (const { w } of EVENTS) if (w) W.waits(w); // what the timeline's hints say
  return STEPS.map((i) => [EVENTS[i].text ?? "", W.sentence(EVENTS[i], stateAfter(i))
    .map((part) => part.code ?? LANES[part.T]?.name ?? part).join("")]);
}"""
# Of events that are steps only where nothing else is; of kinds of waiting that are not known yet.
NEVER_SAID = {
    *("{} 建好了。", "{} exists."),
    *("回调执行完了。", "The callback returns."),
    *("等 {}", "for {}"),
}


def scenes() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """name: (body, pairs of sentences)"""
    found = {}
    for part in (HERE / "scenes.txt").read_text("utf-8").split("\n## ")[1:]:
        name, *lines = part.rstrip().split("\n")
        body = [line[4:] for line in lines if line.startswith("    ")]
        said = [line for line in lines if line and not line.startswith("    ")]
        found[name] = "\n".join(body), list(zip(said[::2], said[1::2], strict=True))
    return found


def can_run(name: str) -> bool:
    needs = re.search(r" 3\.(\d+)$", name)
    return not needs or sys.version_info >= (3, int(needs[1]))


SCENES = {name: scene for name, scene in scenes().items() if can_run(name)}


@pytest.fixture(scope="module")
def said(chromium, tmp_path_factory):
    """Scene → (Chinese, English) sentences; and all phrases that were used."""
    folder = tmp_path_factory.mktemp("words")
    names = [name for name, (body, _) in SCENES.items() if body]
    bodies = [
        f"async def scene_{n}(loop):\n" + textwrap.indent(SCENES[name][0], "    ")
        for n, name in enumerate(names)
    ]
    sentences: dict[str, set] = {}
    phrases: set[str] = set()
    scripts = SCRIPT.format(scenes="\n\n".join(bodies)), BY_HAND
    for number, script in enumerate(scripts):
        zh, en, used = _sentences(chromium, folder / f"{number}.py", script)
        phrases |= used
        scene = "by hand" if script is BY_HAND else ""
        for (text, one), (_, other) in zip(zh, en, strict=True):
            if begins := re.match(r"scene_(\d+)\n", text):
                scene = names[int(begins[1])]
            sentences.setdefault(scene, set()).add((_numbers_off(one), _numbers_off(other)))
    return sentences, phrases


def _sentences(chromium, file: Path, script: str) -> tuple[list, list, set]:
    file.write_text(script, encoding="utf-8")
    output = file.with_suffix(".json")
    command = [sys.executable, "-m", "toolbox.recorder", "--virtual", "-o", output, file]
    processes.run(command, cwd=catalog.ROOT).check_returncode()
    text = page.build(json.loads(output.read_text("utf-8")), limit=100_000)
    say = "const say = (texts, ...parts) => "
    assert say in text
    spied = f'const SAID = new Set();\n{say}SAID.add(texts.join("{{}}")) && '
    file.with_suffix(".html").write_text(text.replace(say, spied), encoding="utf-8")
    with chromium.at_most(40):
        tab = chromium.browser.new_page()
        errors: list[str] = []
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(file.with_suffix(".html").as_uri())
        zh, en = tab.evaluate(SAY, "zh"), tab.evaluate(SAY, "en")
        used = set(tab.evaluate("[...SAID]"))
        tab.close()
    assert errors == []
    return zh, en, used


def _numbers_off(sentence: str) -> str:
    sentence = re.sub(r"#\d+", "#", sentence)
    return re.sub(r"(第 |[Ll]ine )\d+", r"\1#", sentence)


@pytest.mark.parametrize("name", SCENES)
def test_scene(name, said):
    sentences, _ = said
    for pair in SCENES[name][1]:
        assert pair in sentences[name]


def test_the_scenes_say_all_that_can_be_said(said):
    """A phrase that no scene needs is either dead, or nobody looks whether it is true."""
    _, used = said
    phrases = set()
    for language in ("zh.js", "en.js"):
        text = (PAGES / language).read_text("utf-8")
        found = re.findall(r"say`((?:[^`$]|\$\{[^}]*\})*)`", text)
        phrases |= {re.sub(r"\$\{[^}]*\}", "{}", phrase) for phrase in found}
    assert len(phrases) > 200
    unsaid = phrases - used - NEVER_SAID
    if sys.version_info >= (3, 13):
        assert not unsaid, "\n".join(sorted(unsaid))
