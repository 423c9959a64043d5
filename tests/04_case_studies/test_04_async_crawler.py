"""Lesson 4.4 on its own little town: what each section shows, and the errata of §5.4."""

import asyncio
import importlib
import json
import multiprocessing
import os
import re
import sys

import pytest

pytestmark = pytest.mark.asyncio


@pytest.fixture
def town(lesson):
    return importlib.import_module("demo_site")


async def test_three_pages_wait_together(lesson, town):
    sizes, elapsed = await lesson.wait_for_three_pages()
    assert len(sizes) == 3
    assert min(sizes) > 9_000
    assert elapsed >= 0.1  # a physical bound: each page is held back that long


async def test_many_spellings_are_one_page(lesson):
    links = await lesson.normalise_before_comparing()
    assert links == {"http://town.example/wiki/%E6%A1%A5"}


async def test_odd_pages_are_results_not_exceptions(lesson, town):
    pages = await lesson.bound_every_request()
    assert pages.keys() == town.ODD_PAGES.keys() - {"档案室"}
    assert {name: page.status for name, page in pages.items() if page.status != 200} == {
        "断链": 404,
        "跳转成环": 302,
        "慢页": None,
        "旧地址": 301,
        "邻镇": 302,
    }
    assert pages["慢页"].error == "超时"
    assert pages["没有尽头的页"].error.startswith("太大")
    assert pages["GBK 写的镇志"].title == "镇志（镕记藏本）"
    assert pages["头一次总说忙"].error == ""
    assert pages["地图"].error == "不是网页（image/png）"
    assert pages["邻镇"].links == []
    assert len(pages["没有尽头的月历"].links) == 22  # the navigation, and tomorrow


async def test_robots_and_other_sites_are_asked_before_going(lesson):
    assert await lesson.ask_before_going() == [True, False, False]


async def test_any_number_of_workers_crawls_the_same_pages(lesson):
    assert await lesson.share_one_queue() == [42, 42]


async def test_half_a_line_costs_one_page_and_nothing_else(lesson, town, capsys):
    pages = await lesson.survive_kill_minus_nine()
    urls = [page.url for page in pages]
    assert len(urls) == len(set(urls)) == 371
    assert sum(page.title.endswith(" - 小镇百科") for page in pages) == 357 + 1 + 4
    assert not any("private" in url or "neighbour" in url for url in urls)
    assert "缺 0 个" in capsys.readouterr().out


async def test_every_parser_finds_the_same(lesson):
    parsed, counts = await lesson.see_where_the_time_goes()
    assert len({(page.title, tuple(page.hrefs)) for page in parsed}) == 1
    assert len(parsed[0].hrefs) == 37
    assert counts == {"soup": 42, "fast": 42}


async def test_a_tag_keeps_the_tree_and_its_text_does_not(lesson):
    assert await lesson.keep_text_not_tags() == (True, False)


async def test_the_profile_tells_every_step_of_a_page(lesson, capsys):
    shares, costs = await lesson.profile_before_tuning()
    for share in shares:
        assert share.keys() == lesson.STEPS.keys()
        assert all(0 < part < 1 for part in share.values())
        assert sum(share.values()) < 1  # _work or read_robots calls each, and none calls another
    assert capsys.readouterr().out.count("：下载 ≈") == 2
    soup, fast = shares
    assert max(soup, key=soup.get) == "解析"
    assert fast["解析"] < soup["解析"]
    assert min(costs) > 0


async def test_two_processes_crawl_the_same_and_one_may_be_killed(lesson, town, capsys):
    assert await lesson.give_every_core_a_process() == [357, 357, 357, 357]
    assert multiprocessing.active_children() == []
    assert "kill -9" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_the_whole_lesson_stays_within_100_megabytes(lesson, tmp_path):
    # VmHWM, not ru_maxrss: that one remembers the size of the pytest that forked the child.
    script = (
        "import pathlib, runpy, sys; sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent)); "
        "path = sys.argv.pop(1); runpy.run_path(path, run_name='__main__'); "
        "print(pathlib.Path('/proc/self/status').read_text())"
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, lesson.__file__),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
    said, _ = await child.communicate()
    assert int(re.search(r"VmHWM:\s+(\d+) kB", said.decode())[1]) * 1024 < 100_000_000


async def test_the_command_crawls_the_town(lesson, town, tmp_path):
    out = tmp_path / "pages.jsonl"
    options = ("--delay", "0", "--timeout", "1", "--out", str(out), "--parser", "fast")
    async with town.serve() as home:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", lesson.__file__, home, *options),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        )
        said, _ = await child.communicate()
    assert "共 371 页：200 × 363，" in said.decode()
    lines = out.read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["url"] for line in lines}) == len(lines) == 371


async def test_the_site_closes_although_a_visitor_still_waits(lesson, town):
    async with town.serve() as home:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(home[:-1].rsplit(":")[-1]))
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


async def test_erratum_verify_ssl_warns(lesson, town):
    async with town.serve() as home, lesson.aiohttp.ClientSession() as session:
        with pytest.warns(DeprecationWarning, match="verify_ssl is deprecated, use ssl=False"):
            async with session.get(home, verify_ssl=False) as response:
                assert response.status == 200


async def test_erratum_wait_takes_no_coroutines():
    async def fetch():
        """Never runs."""

    forbidden = fetch()
    with pytest.raises(TypeError, match="Passing coroutines is forbidden, use tasks explicitly"):
        await asyncio.wait([forbidden])
    forbidden.close()
