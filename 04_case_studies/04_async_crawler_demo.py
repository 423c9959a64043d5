"""4.4 异步爬虫：aiohttp + BeautifulSoup

视频：§5.4 爬虫
运行：python 04_case_studies/04_async_crawler_demo.py
观看：python tutorial.py trace 4.4（一步步看谁在跑、谁在等）

不带参数时爬自带的小站“小镇百科”（demo_site.py，只在本机）；爬虫本身在旁边的 crawler.py，
这里一步步看它为什么这样写。爬真的站点：
    python 04_case_studies/04_async_crawler_demo.py https://example.com --depth 2 --out pages.jsonl
    被打断了就加上 --resume 再来一次；--parser fast 换快的解析器；自己的站点不怕快，
    可以加 --delay 0 --processes 2，两个核一起爬；--help 看全部选项。
每一级快多少、和 Scrapy 比怎样：python tutorial.py bench crawler crawler-latency

先猜后跑
    人人都说爬虫慢在等网络。第 7 节只换解析器，网络和工人数都不变：
    每秒爬的页数会不变、快一倍，还是快好几倍？

预期输出
    ── 1. 三页一起等：总时间是最慢的那一页 ──
    三页，每页 0.1 秒，一共 ≈0.1 秒
    ── 2. 去重之前，先把网址归一 ──
    4 种写法，1 个网址：{'http://town.example/wiki/%E6%A1%A5'}
    mailto:mayor@town.example → None
    ── 3. 每个请求都有边界：时间、大小、类型、次数 ──
    断链：404
    跳转成环：302 → /loop/2
    慢页：--- 超时
    没有尽头的页：200 太大（超过 200000 字节）
    GBK 写的镇志：200 镇志（镕记藏本）
    头一次总说忙：200 头一次总说忙 - 小镇百科
    地图：200 不是网页（image/png）
    旧地址：301 → /wiki/东街豆腐坊
    邻镇：302 转到站外（http://neighbour.invalid/）
    没有尽头的月历：200 第 1 天 - 小镇百科
    ── 4. 去之前先问：同站吗，robots.txt 让吗 ──
    /wiki/东街茶馆：可以
    /private/1：不去
    http://neighbour.invalid/：不去
    ── 5. 几个工人守着一个队列 ──
    1 个工人：42 页，≈0.55 秒
    8 个工人：42 页，≈0.14 秒
    ── 6. 随时可以 kill -9：一页不丢，一页不重 ──
    先爬 120 页，然后假装被 kill -9：最后一行只写了一半
    接着爬，≈1.4 秒：文件里 371 行，371 个不同的网址
    320 个词条，缺 0 个
    结局：200 × 363，301 × 1，302 × 2，404 × 1，不是网页 × 1，太大 × 1，超时 × 1，转到站外 × 1
    ── 7. 时间花在解析上，不在网络上 ──
    BeautifulSoup + html.parser：一页 ≈3645 微秒，快 ≈1.0 倍
    BeautifulSoup + lxml：一页 ≈2573 微秒，快 ≈1.4 倍
    再加 SoupStrainer（默认）：一页 ≈1709 微秒，快 ≈2.1 倍
    只用 lxml：一页 ≈191 微秒，快 ≈19.1 倍
    selectolax（--parser fast）：一页 ≈92 微秒，快 ≈39.6 倍
    37 条链接拼成网址：urljoin ≈202 微秒，记住算过的 ≈11 微秒
    同一个站点、同样 8 个工人，只换解析器：
    --parser soup：42 页，每秒 ≈338 页
    --parser fast：42 页，每秒 ≈1089 页
    ── 8. 留文字，别留 Tag ──
    存 soup.title：整棵树还在？True
    存 str(soup.title)：整棵树还在？False
    ── 9. 先量，再改最贵的一处 ──
    cProfile，--parser soup：下载 ≈8%，解析 ≈87%，链接 ≈3%，写 ≈0%
    cProfile，--parser fast：下载 ≈47%，解析 ≈22%，链接 ≈25%，写 ≈1%
    收一次，缓冲区 256 KiB：≈32.3 微秒；先还过一块更大的内存：≈0.9 微秒
    ── 10. 一个核满了，就一个核一个进程 ──
    1 个子进程：357 页，每秒 ≈319 页
    2 个子进程：357 页，每秒 ≈508 页
    爬了 ≈100 页，kill -9 一个子进程
    文件里 357 行，357 个不同的网址

视频勘误
    1. session.get(url, verify_ssl=False) 今天是
       DeprecationWarning: verify_ssl is deprecated, use ssl=False instead
       两种写法都是关掉 TLS 校验，等于不问对方是谁；什么都不写就是对的（第 1 节）。
    2. asyncio.wait([fetch(url), …]) 从 Python 3.11 起是
       TypeError: Passing coroutines is forbidden, use tasks explicitly.
       用 TaskGroup（第 1 节）。

动手试试
    1. 把第 1 节的 TaskGroup 换成 for 加 await，用时变成多少？
    2. 把 demo_site.ROBOTS 改成带一行 Crawl-delay: 0.01，再跑：第 5 节的 8 个工人还有用吗？
       第 10 节为什么一开头就抛 CannotCrawl？
    3. 删掉 crawler.py 里的 self._file.flush()，爬到一半 kill -9：文件里少了什么？
       加上 --resume 之后呢？
    4. 把第 10 节的 (1, 2) 改成 (1, 2, 4)：还会更快吗？再把 LOCAL 的 parser 换成 fast 呢？
"""

import asyncio
import cProfile
import gc
import multiprocessing
import os
import pstats
import sys
import tempfile
import time
import timeit
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import aiohttp
import crawl_command
import crawler
import demo_site
import lxml.html
import settings
from bs4 import BeautifulSoup
from crawler_processes import ProcessCrawler
from web_page import Parsed, canonical, parse_fast, parse_soup

# 自己的小站不怕快；爬别人的站点用 Options 的默认值：4 个工人，每 0.2 秒至多一个请求
LOCAL = crawler.Options(workers=8, delay=0, timeout=1, attempts=2, backoff=0.05)


async def wait_for_three_pages() -> tuple[list[int], float]:
    """视频里的例子：每一页要等 0.1 秒，三页一起等，还是 0.1 秒。"""

    async def download(session: aiohttp.ClientSession, url: str) -> bytes:
        async with session.get(url) as response:
            return await response.read()

    async with demo_site.serve(latency=0.1) as home:
        async with aiohttp.ClientSession(home) as session:  # 一个 session 管所有请求：连接能重用
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                shops = [
                    group.create_task(download(session, f"/shop/{shop}"))
                    for shop in ("茶馆", "书店", "药铺")
                ]
            elapsed = time.perf_counter() - started
    sizes = [len(shop.result()) for shop in shops]
    print(f"三页，每页 0.1 秒，一共 ≈{elapsed:.1f} 秒")
    return sizes, elapsed


async def normalise_before_comparing() -> set[str | None]:
    """同一页有许多写法；不归一，一页会爬许多遍。"""
    here = "http://Town.example:80/shop/茶馆"
    hrefs = ["/wiki/桥", "../wiki/桥#历史", "http://town.example/wiki/%e6%a1%a5", "./../wiki/桥"]
    links = {canonical(href, here) for href in hrefs}
    print(f"{len(hrefs)} 种写法，{len(links)} 个网址：{links}")
    print(f"mailto:mayor@town.example → {canonical('mailto:mayor@town.example', here)}")
    return links


async def bound_every_request() -> dict[str, crawler.Page]:
    """坏网页也是结果，不是异常：一页的毛病不该弄垮别的页。"""
    options = crawler.Options(delay=0, timeout=0.5, attempts=2, backoff=0.01, page_bytes=200_000)
    pages = {}
    async with demo_site.serve() as home, crawler.visit(home, options) as site:
        for name, path in demo_site.ODD_PAGES.items():
            if site.allows(site.home + path[1:]):
                pages[name] = page = await site.fetch(canonical(path, home))
                target = f"→ /{unquote(page.links[0].removeprefix(home))}" if page.links else ""
                outcome = page.error or page.title or target
                print(f"{name}：{page.status or '---'} {outcome}".rstrip())
    return pages


async def ask_before_going() -> list[bool]:
    """去不去，在入队之前问：同站吗？robots.txt 让吗？跳转的目标也走这一关。"""
    async with demo_site.serve() as home, crawler.visit(home, LOCAL) as site:
        answers = []
        tea_house, archive = canonical("/wiki/东街茶馆", home), home + "private/1"
        for url in (tea_house, archive, "http://neighbour.invalid/"):
            answers.append(site.allows(url))
            print(f"{unquote(url.replace(home, '/'))}：{'可以' if answers[-1] else '不去'}")
    return answers


async def crawl_the_tea_houses(options: crawler.Options, latency: float = 0.0) -> tuple[int, float]:
    """从茶馆那一页起，最多点一次链接：42 页。"""
    with tempfile.TemporaryDirectory() as folder:
        async with demo_site.serve(latency) as home:
            start, out = canonical("/shop/茶馆", home), Path(folder, "pages.jsonl")
            crawl = crawler.Crawler(start, replace(options, depth=1), out)
            started = time.perf_counter()
            await crawl.run()
            return len(crawl.done), time.perf_counter() - started


async def share_one_queue() -> list[int]:
    """工人 (worker)：取一个网址，爬完，把新链接放回队列；一个在等网络，别的接着干。"""
    counts = []
    for workers in (1, 8):
        options = replace(LOCAL, workers=workers, parser="fast")
        count, elapsed = await crawl_the_tea_houses(options, latency=0.01)
        counts.append(count)
        print(f"{workers} 个工人：{count} 页，≈{elapsed:.2f} 秒")
    return counts


def lose_half_a_line(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 20)


async def survive_kill_minus_nine() -> list[crawler.Page]:
    """结果文件就是存档：队列从它推得出来，所以什么时候被杀都不丢、不重。"""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pages.jsonl")
        async with demo_site.serve() as home:
            first = crawler.Crawler(home, replace(LOCAL, pages=120), out)
            await first.run()
            print(f"先爬 {len(first.done)} 页，然后假装被 kill -9：最后一行只写了一半")
            lose_half_a_line(out)
            second = crawler.Crawler(home, LOCAL, out)
            started = time.perf_counter()
            with crawl_command.progress_bar(second):
                await second.run()
            elapsed = time.perf_counter() - started
        pages = list(crawler.saved_pages(out))
    urls = {page.url for page in pages}
    print(f"接着爬，≈{elapsed:.1f} 秒：文件里 {len(pages)} 行，{len(urls)} 个不同的网址")
    titles = {page.title.removesuffix(" - 小镇百科") for page in pages}
    print(f"{len(demo_site.ENTRIES)} 个词条，缺 {len(demo_site.ENTRIES.keys() - titles)} 个")
    print("结局：" + crawl_command.describe(pages))
    return pages


def soup_with_html_parser(html: str) -> Parsed:
    soup = BeautifulSoup(html, "html.parser")
    return Parsed(soup.title.get_text(), "", [link["href"] for link in soup("a", href=True)])


def soup_with_lxml(html: str) -> Parsed:
    soup = BeautifulSoup(html, "lxml")
    return Parsed(soup.title.get_text(), "", [link["href"] for link in soup("a", href=True)])


def lxml_alone(html: str) -> Parsed:
    tree = lxml.html.document_fromstring(html)
    return Parsed(tree.findtext(".//title"), "", tree.xpath("//a/@href"))


LADDER = {
    "BeautifulSoup + html.parser": soup_with_html_parser,
    "BeautifulSoup + lxml": soup_with_lxml,
    "再加 SoupStrainer（默认）": parse_soup,
    "只用 lxml": lxml_alone,
    "selectolax（--parser fast）": parse_fast,
}


def microseconds(work) -> float:
    return min(timeit.repeat(work, number=1, repeat=7)) * 1e6


async def see_where_the_time_goes() -> tuple[list[Parsed], dict[str, int]]:
    """解析是同步的，一页占着事件循环几毫秒：这几毫秒里，谁也不能收网页。"""
    async with demo_site.serve() as home, crawler.visit(home, LOCAL) as site:
        answer = await site.request(home, 1_000_000)
        html, slowest, parsed = answer.body.decode(), 0.0, []
        for name, parse in LADDER.items():
            cost = microseconds(lambda parse=parse: parse(html))
            slowest = slowest or cost
            parsed.append(parse(html))
            print(f"{name}：一页 ≈{cost:.0f} 微秒，快 ≈{slowest / cost:.1f} 倍")
        hrefs = parsed[0].hrefs
        plain = microseconds(lambda: [urldefrag(urljoin(home, href)) for href in hrefs])
        cached = microseconds(lambda: site.links(hrefs, home, ""))
        joined = f"urljoin ≈{plain:.0f} 微秒，记住算过的 ≈{cached:.0f} 微秒"
        print(f"{len(hrefs)} 条链接拼成网址：{joined}")

    print("同一个站点、同样 8 个工人，只换解析器：")
    counts = {}
    for parser in ("soup", "fast"):
        counts[parser], elapsed = await crawl_the_tea_houses(replace(LOCAL, parser=parser))
        speed = counts[parser] / elapsed
        print(f"--parser {parser}：{counts[parser]} 页，每秒 ≈{speed:.0f} 页")
    return parsed, counts


async def keep_text_not_tags() -> tuple[bool, bool]:
    """Tag 指着父节点：把 soup.title 存进列表，整棵树就都留在内存里。"""

    def tree_survives(keep) -> bool:
        soup = BeautifulSoup(demo_site.render("东街茶馆", ""), "lxml")
        kept, tree = keep(soup), weakref.ref(soup)
        del soup
        gc.collect()  # 树里有环（父子互指），要等垃圾回收
        return tree() is not None and bool(kept)

    tag, text = tree_survives(lambda soup: soup.title), tree_survives(lambda soup: str(soup.title))
    print(f"存 soup.title：整棵树还在？{tag}")
    print(f"存 str(soup.title)：整棵树还在？{text}")
    return tag, text


STEPS = {"下载": "request", "解析": "read", "链接": "links", "写": "as_line"}
READ_256_KIB = """import sys, timeit
{first}
with open(sys.argv[1], "rb", buffering=0) as file:  # 内容不到 20 KB，和一页网页差不多
    receive = lambda: (file.seek(0), file.read(256 * 1024))
    print(min(timeit.repeat(receive, number=500, repeat=3)) / 500 * 1e6)
"""


async def profile_before_tuning() -> tuple[list[dict[str, float]], list[float]]:
    """先量再改：猜哪里慢，多半猜错；改好最贵的一处，最贵的就换成另一处。"""
    shares = []
    for parser in ("soup", "fast"):
        with cProfile.Profile() as profile:
            await crawl_the_tea_houses(replace(LOCAL, parser=parser))
        spent = {  # 连它调用的一起算；等网络的时间不算，那时没在跑
            name.removesuffix(f"_{parser}"): seconds
            for (file, _, name), (*_, seconds, _) in pstats.Stats(profile).stats.items()
            if Path(file).name in ("crawler.py", "web_page.py")
        }
        whole = spent["_work"] + spent["read_robots"]  # robots.txt 是工人到场之前下载的
        shares.append({step: spent[name] / whole for step, name in STEPS.items()})
        told = "，".join(f"{step} ≈{100 * share:.0f}%" for step, share in shares[-1].items())
        print(f"cProfile，--parser {parser}：{told}")

    # 内核里花的时间，cProfile 看不见，要用 perf：收一次数据，缺页 (page fault) 比收还贵
    costs = []
    for first in ("", "bytes(1 << 20)"):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", READ_256_KIB.format(first=first), __file__),
            stdout=asyncio.subprocess.PIPE,
        )
        costs.append(float((await child.communicate())[0]))
    before, after = costs
    print(f"收一次，缓冲区 256 KiB：≈{before:.1f} 微秒；先还过一块更大的内存：≈{after:.1f} 微秒")
    return shares, costs


async def give_every_core_a_process() -> list[int]:
    """协程再多也只用一个核。队列和结果文件留在父进程，下载和解析分出去（crawler_processes.py）。"""
    counts = []
    with tempfile.TemporaryDirectory() as folder:
        async with demo_site.serve(odd=False) as home:
            for processes in (1, 2):
                out = Path(folder, f"{processes}.jsonl")
                crawl = ProcessCrawler(home, LOCAL, out, processes)
                await crawl.run()
                counts.append(len(crawl.done))
                speed = counts[-1] / (crawl.ended - crawl.began)
                print(f"{processes} 个子进程：{counts[-1]} 页，每秒 ≈{speed:.0f} 页")

            out = Path(folder, "killed.jsonl")
            crawl = ProcessCrawler(home, LOCAL, out, 2)
            async with asyncio.TaskGroup() as group:
                group.create_task(crawl.run())
                while len(crawl.done) < 100:
                    await asyncio.sleep(0.005)
                multiprocessing.active_children()[0].kill()
                print(f"爬了 ≈{len(crawl.done)} 页，kill -9 一个子进程")
            urls = [page.url for page in crawler.saved_pages(out)]
    counts += [len(urls), len(set(urls))]
    print(f"文件里 {counts[2]} 行，{counts[3]} 个不同的网址")
    return counts


SECTIONS = {
    "1. 三页一起等：总时间是最慢的那一页": wait_for_three_pages,
    "2. 去重之前，先把网址归一": normalise_before_comparing,
    "3. 每个请求都有边界：时间、大小、类型、次数": bound_every_request,
    "4. 去之前先问：同站吗，robots.txt 让吗": ask_before_going,
    "5. 几个工人守着一个队列": share_one_queue,
    "6. 随时可以 kill -9：一页不丢，一页不重": survive_kill_minus_nine,
    "7. 时间花在解析上，不在网络上": see_where_the_time_goes,
    "8. 留文字，别留 Tag": keep_text_not_tags,
    "9. 先量，再改最贵的一处": profile_before_tuning,
    "10. 一个核满了，就一个核一个进程": give_every_core_a_process,
}


async def main() -> None:
    for title, section in SECTIONS.items():
        print(f"── {title} ──")
        await section()


if __name__ == "__main__":
    arguments = crawl_command.arguments()
    settings.run(partial(crawl_command.crawl, arguments) if arguments.url else main)
