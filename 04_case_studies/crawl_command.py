"""4.4 的命令行：爬真的站点，画进度条，说结果。"""

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice
from pathlib import Path

import crawler
import settings
from crawler_processes import ProcessCrawler
from web_page import PARSERS, canonical


def describe(pages: Iterable[crawler.Page]) -> str:
    """几种结局，各有多少页。"""
    outcomes = Counter(page.error.split("（")[0] or str(page.status) for page in pages)
    return "，".join(f"{outcome} × {times}" for outcome, times in sorted(outcomes.items()))


def progress_bar(crawl: crawler.Crawler) -> AbstractContextManager:
    """rich 在自己的线程里每秒重画几次，只读两个 len()：爬每一页时什么也不用做。"""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # 没有终端时，这 0.1 秒的导入省了
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    def picture() -> Table:
        done, seen = len(crawl.done), len(crawl.seen)
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(seen, 1), completed=done, width=40)
        row.add_row("爬取", bar, f"{done}/{seen}")
        return row

    return Live(get_renderable=picture, console=Console(stderr=True), transient=True)


def _number(text: str, kind: type, least: float, most: float) -> float:
    try:
        if least <= (value := kind(text)) <= most:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} 不行，要 {least}–{most} 之间的数")


def arguments() -> argparse.Namespace:
    defaults = crawler.Options()
    parser = argparse.ArgumentParser(description="4.4 异步爬虫；不给网址就跑这一课")
    parser.error = lambda why: parser.exit(2, f"参数不对（{why}）：--help 看全部选项\n")
    parser.add_argument("url", nargs="?", help="从这一页开始，只爬同一个站点")
    for name, kind, least, most, words in (
        ("depth", int, 0, 1_000_000, "最多点几次链接"),
        ("pages", int, 1, 10_000_000, "最多爬几个网址"),
        ("workers", int, 1, 1000, "同时最多几个请求"),
        ("delay", float, 0, 3600, "两次请求至少隔几秒"),
        ("timeout", float, 0.01, 3600, "一次请求最多几秒"),
        ("processes", int, 1, 64, "分给几个进程；不限速 (--delay 0) 才用得上"),
    ):
        parser.add_argument(
            f"--{name}",
            type=partial(_number, kind=kind, least=least, most=most),
            default=getattr(defaults, name, 1),
            help=f"{words}（默认 {getattr(defaults, name, 1)}）",
        )
    parser.add_argument("--parser", choices=PARSERS, default=defaults.parser)
    parser.add_argument("--out", type=Path, help="结果文件，一行一页 (JSON Lines)")
    parser.add_argument("--resume", action="store_true", help="接着 --out 里的结果爬")
    return parser.parse_args()


async def _crawl(args: argparse.Namespace) -> None:
    start = canonical(args.url)
    if start is None:
        raise crawler.CannotCrawl(f"“{args.url}”不是网址，它应该像 https://example.com/")
    if args.resume and not args.out:
        raise crawler.CannotCrawl("--resume 要和 --out 一起用：接着哪个文件爬？")
    if args.out and args.out.exists() and not args.resume:
        raise crawler.CannotCrawl(f"{args.out} 已经有了：接着爬请加 --resume，重新爬请换个名字")
    names = ("depth", "pages", "workers", "delay", "timeout", "parser")
    options = crawler.Options(**{name: getattr(args, name) for name in names})
    with tempfile.TemporaryDirectory() as folder:
        out = args.out or Path(folder, "pages.jsonl")
        if args.processes == 1:
            crawling = crawler.Crawler(start, options, out)
        else:
            crawling = ProcessCrawler(start, options, out, args.processes)
        try:
            with progress_bar(crawling):
                await crawling.run()
        except asyncio.CancelledError:
            if args.out and crawling.done:
                kept = f"{out} 里有 {len(crawling.done)} 页"
                print(f"{kept}，接着爬：同样的命令加 --resume", file=sys.stderr)
            raise
        for page in islice(crawler.saved_pages(out), 20):
            print(page.status or "---", page.url, page.error or page.title)
        print(f"共 {len(crawling.done)} 页：{describe(crawler.saved_pages(out))}")
    if args.out:
        print(f"全部在 {args.out}")


async def crawl(args: argparse.Namespace) -> None:
    """爬 args.url；开不了头、写不下去，就说一句为什么，退出码 2。"""
    sys.stdout.reconfigure(errors="replace")  # 标题里什么字都有，终端未必都能显示
    problem = ""
    try:
        await _crawl(args)
    except* crawler.CannotCrawl as group:
        problem = str(next(settings.leaves(group)))
    except* OSError as group:  # 没有这个文件夹，磁盘满了；出在某个工人手里，就在 TaskGroup 的里层
        error = next(settings.leaves(group))
        problem = f"读写结果文件出错（{error.strerror or error}），已写下的都还在"
    if problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
