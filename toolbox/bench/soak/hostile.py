"""4.4's crawler on a site that means it ill; `python -m toolbox.bench.soak.hostile` is the site."""

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from toolbox.bench.model import Missing
from toolbox.bench.soak import Check, lessons
from toolbox.services import dying_with_us

TITLE = "4.4 的爬虫碰上恶意站点：爬得完，内存 ≤ 100 MB，够得着的恰好存一次"
MEMORY = 100  # MB
GIGABYTE = 1_000_000_000
LISTS, EACH = 10, 20  # good pages: some lists, each links to some pages
MAZE = 40  # links to new pages on every page of the maze


# ── The site ──


def page(title: str, *links: str, more: str = "") -> bytes:
    anchors = "".join(f'<a href="{link}">{link}</a>\n' for link in links)
    return f"<html><head><title>{title}</title></head><body>{anchors}{more}</body></html>".encode()


def answer(body: bytes, *headers: str, status: str = "200 OK", length: object = None) -> bytes:
    """A whole HTTP response, honest but for what the caller asks for."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    if not any(line.startswith("Content-Type") for line in headers):
        lines.append("Content-Type: text/html")
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def redirect(target: str) -> bytes:
    return answer(b"", f"Location: {target}", status="302 Found")


def start_of(*headers: str) -> bytes:
    """A response without a length; what follows is the body."""
    return "\r\n".join(["HTTP/1.1 200 OK", "Content-Type: text/html", *headers, "", ""]).encode()


def bomb(window: int) -> bytes:
    """1 GB of spaces in 1 MB: after a full flush the same input gives the same bytes again."""
    packer = zlib.compressobj(wbits=window)
    first = packer.compress(b"<title>bomb</title>") + packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + packed * 1000


GOOD = {f"/list/{n}": f"第 {n} 册" for n in range(LISTS)} | {
    f"/good/{n}": f"第 {n} 页" for n in range(LISTS * EACH)
}
SHAKY = {path for path in GOOD if path.startswith("/good/") and path.endswith("7")}
WHOLE = {  # path → what is sent at once; the connection is closed after it
    "/loop/self": redirect("/loop/self"),
    "/loop/a": redirect("/loop/b"),
    "/loop/b": redirect("//LOCALHOST/../loop/a"),
    "/loop/c": redirect("?again"),
    "/loop/lost": answer(b"", status="301 Moved"),
    "/loop/file": redirect("file:///etc/passwd"),
    "/loop/away": redirect("http://neighbour.invalid/"),
    "/loop/bad": redirect("http://[::1"),
    "/loop/long": redirect("/" + "x" * 7000),
    "/length/short": answer(page("长" * 999), length=20),
    "/length/long": answer(page("短"), length=100_000),
    "/length/negative": answer(page("负"), length=-5),
    "/length/words": answer(page("字"), length="very long"),
    "/length/huge": answer(page("天文数字"), length="9" * 4000),
    "/length/twice": answer(page("两个"), "Content-Length: 3"),
    "/length/both": answer(page("又说分块"), "Transfer-Encoding: chunked"),
    "/code/broken": answer(b"<title>\xff\xfe\xc3\x28 \xed\xa0\x80</title>\x80" * 50),
    "/code/unknown": answer(page("不存在的编码"), "Content-Type: text/html; charset=klingon"),
    "/code/slow": answer(b"a-" + b"z" * 900_000, "Content-Type: text/html; charset=punycode"),
    "/code/odd": answer(b"\xff\xfe<\0t\0i\0t\0l\0e\0>\0\xd8" * 999),
    "/code/zeros": answer(b"\0" * 900_000),
    "/code/not gzip": answer(page("没压缩"), "Content-Encoding: gzip"),
    "/code/noise": answer(random.Random(4).randbytes(900_000)),
    "/big/deep": answer(page("很深", more="<div>" * 150_000)),
    "/big/title": answer(page("长" * 300_000)),
    "/big/tags": answer(b"<a>x</a>" * 120_000),
    "/big/words": answer(b"<a %s>" % b" ".join(b"w%d" % n for n in range(130_000))),
    "/big/links": answer(page("链接", *["/maze/0"] * 40_000, *(f"/maze/{n}" for n in range(99)))),
    "/big/base": answer(page("根", *map(str, range(99)), more=f'<base href="/{"y" * 900_000}">')),
    "/http/junk": b"\x16\x03\x01" + random.Random(8).randbytes(5_000),
    "/http/old": page("HTTP 0.9"),
    "/http/status": answer(page("999"), status="999999 ?"),
    "/http/nul": answer(page("NUL"), "X-Nul: \0\1\2"),
    "/http/switch": answer(b"", status="101 Switching Protocols"),
    "/http/empty": b"",
}
ENDLESS = {  # path → what is sent once, and what is sent again and again
    "/big/length": (start_of(f"Content-Length: {GIGABYTE}"), b"<p>" * 20_000),
    "/big/endless": (start_of("Connection: close"), b"<p>" * 20_000),
    "/big/chunks": (start_of("Transfer-Encoding: chunked"), b"a\r\n0123456789\r\n" * 3_000),
    "/big/chunk": (start_of("Transfer-Encoding: chunked") + b"%x\r\n" % GIGABYTE, b"p" * 60_000),
    "/big/chunk name": (start_of("Transfer-Encoding: chunked") + b"5;", b"n" * 60_000),
    "/big/header": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"h" * 60_000),
    "/big/headers": (b"HTTP/1.1 200 OK\r\n", b"X-More: h\r\n" * 5_000),
    "/big/continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "/bomb/gzip": (start_of("Content-Encoding: gzip") + bomb(31), b""),
    "/bomb/deflate": (start_of("Content-Encoding: deflate") + bomb(15), b""),
    "/bomb/raw": (start_of("Content-Encoding: deflate") + bomb(-15), b""),
}
SLOW = {  # path → what is sent byte by byte, ten a second
    "/slow/silent": b"",
    "/slow/header": answer(page("慢", more="." * 9_000)),
    "/slow/headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9_000,
}
SLOW_BODY = "/slow/body"
RESET = {  # path → what is sent before the connection is torn down
    "/reset/at once": b"",
    "/reset/header": b"HTTP/1.1 200 OK\r\nContent-",
    "/reset/body": answer(page("断", *(f"/maze/{n}" for n in range(5))), length=9_999),
}
TRAPS = [*WHOLE, *ENDLESS, *SLOW, SLOW_BODY, *RESET]
TRAPS += ["/onward/1", "/calendar/1", "/maze/0"]
KINDS = {
    "loop": "跳来跳去",
    "length": "长度不对",
    "code": "编码不对",
    "http": "不成 HTTP",
}
KINDS |= {"big": "1 GB 或畸形", "bomb": "压缩炸弹", "slow": "一次一个字节", "reset": "中途断开"}
KINDS |= dict.fromkeys(("onward", "calendar", "maze"), "没有尽头")


def front_page() -> bytes:
    """Good and bad mixed, and the same good page in many spellings."""
    links = [*(path for path in GOOD if path.startswith("/list/")), *TRAPS]
    random.Random(4).shuffle(links)
    links += ["/list/0#top", "/./list/0", "list/../list/1", "/%6Cist/2", "/list/3?#", "#", "/"]
    links += ["mailto:a@b", "javascript:void(0)", "http://", "http://[", "//neighbour.invalid/", ""]
    return page("门面", *(link.replace(" ", "%20") for link in links))


def endless(path: str) -> bytes | None:
    """Pages of which there is always one more."""
    kind, _, rest = path[1:].partition("/")
    if kind == "onward":
        return redirect(f"/onward/{int(rest) + 1}")
    if kind == "calendar":
        return answer(page(f"第 {rest} 天", f"/calendar/{int(rest) + 1}"))
    if kind == "maze":
        return answer(page(f"岔路 {rest}", *(f"/maze/{rest}-{n}" for n in range(MAZE))))


def good(path: str) -> bytes | None:
    if path == "/robots.txt":
        return answer(b"User-agent: *\nDisallow: /private/", "Content-Type: text/plain")
    if path == "/":
        return answer(front_page())
    if path in GOOD:
        number = int(path.rpartition("/")[2])
        mine = range(number * EACH, number * EACH + EACH) if path.startswith("/list/") else ()
        return answer(page(GOOD[path], *(f"/good/{n}" for n in mine), "/", "/private/secret"))


async def bite(path: str, writer: asyncio.StreamWriter) -> None:
    """Answer as a trap does; the caller closes the connection."""
    if path in RESET:
        writer.write(RESET[path])
        await asyncio.sleep(0.02)
        reset(writer)
    elif path in ENDLESS:
        once, again = ENDLESS[path]
        writer.write(once)
        await writer.drain()
        for _ in range(GIGABYTE // len(again) if again else 0):
            writer.write(again)
            await writer.drain()
            if writer.is_closing():
                break
    elif path in SLOW or path == SLOW_BODY:
        if path == SLOW_BODY:
            writer.write(start_of())
        for byte in SLOW.get(path, page("慢", more="." * 9_000)):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
        await asyncio.sleep(60)
    else:
        writer.write(WHOLE.get(path, answer(b"", status="404 Not Found")))
    await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Not a goodbye (FIN) but RST."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def site() -> None:
    shaken: set[str] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            async with contextlib.aclosing(requests(reader)) as paths:
                async for path in paths:
                    if path in SHAKY and path not in shaken:
                        shaken.add(path)
                        return reset(writer)
                    if content := good(path) or endless(path):
                        writer.write(content)
                        await writer.drain()
                    else:
                        await bite(path, writer)
                        return writer.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def requests(reader: asyncio.StreamReader) -> AsyncIterator[str]:
    """The paths that a keep-alive connection asks for."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        yield head.split()[1].decode().replace("%20", " ").partition("?")[0]


# ── The crawl ──


def checks(say: Callable[[str], None], quick: bool) -> Iterator[Check]:
    if sys.platform != "linux":
        raise Missing("内存的最高水位记在 Linux 的 /proc 里，这个系统没有")
    for parser in ("soup", "fast"):
        with tempfile.TemporaryDirectory() as folder, hostile_site() as url:
            say(f"--parser {parser}：爬 {url}……")
            yield from crawl(parser, url, Path(folder), quick)


@contextlib.contextmanager
def hostile_site() -> Iterator[str]:
    with subprocess.Popen(
        dying_with_us([sys.executable, "-m", "toolbox.bench.soak.hostile"], signal.SIGTERM),
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


def crawl(parser: str, url: str, folder: Path, quick: bool) -> Iterator[Check]:
    limit, timeout, patience = (1_200, 1, 20) if quick else (6_000, 2, 90)
    words = {"--depth": 4, "--pages": limit, "--workers": 16, "--delay": 0, "--timeout": timeout}
    words |= {"--parser": parser, "--out": folder / "pages.jsonl"}
    started = time.monotonic()
    with lessons.running(
        "04_async_crawler_demo.py",
        *(url, *itertools.chain.from_iterable(words.items())),
        errors=folder / "errors",
    ) as crawler:
        peak = 0
        while crawler.poll() is None and time.monotonic() - started < patience:
            peak = max(peak, memory(crawler.pid))
            time.sleep(0.02)
        said = crawler.stdout.read() if crawler.returncode is not None else ""
    seconds = time.monotonic() - started
    errors = (folder / "errors").read_text(encoding="utf-8").strip()
    last = (said.strip().splitlines() or ["没有爬完"])[-2:][0]
    yield Check(
        f"{parser}：爬得完（{patience} 秒以内），不出异常",
        f"{seconds:.1f} 秒，退出码 {crawler.returncode}，{last} {errors[-300:]}".strip(),
        crawler.returncode == 0 and not errors,
    )
    yield Check(
        f"{parser}：内存最高 ≤ {MEMORY} MB", f"{peak / 1e6:.0f} MB", 0 < peak <= MEMORY * 1e6
    )
    yield from stored(parser, url, folder / "pages.jsonl", limit)


def stored(parser: str, url: str, file: Path, limit: int) -> Iterator[Check]:
    """What the file must hold: every good page, every trap, nothing twice, nothing from outside."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]  # what follows is half a line
    home = url.removesuffix("/")
    times = Counter(line["url"] for line in lines)
    twice = [address for address, count in times.items() if count > 1]
    titles = {line["url"].removeprefix(home): line["title"] for line in lines}
    right = [path for path, title in GOOD.items() if titles.get(path) == title]
    yield Check(
        f"{parser}：够得着的好页，恰好存一次，标题不差",
        f"{len(right)}/{len(GOOD)} 页（其中 {len(SHAKY)} 页头一次必被断开），重复 {len(twice)} 页",
        len(right) == len(GOOD) and not twice,
    )
    fallen = [path for path in TRAPS if path.replace(" ", "%20") in titles]
    kinds = Counter(KINDS[path.split("/")[1]] for path in fallen)
    yield Check(
        f"{parser}：陷阱每个都踩到，有下落",
        f"{len(fallen)}/{len(TRAPS)} 个，" + "，".join(f"{kind} {n}" for kind, n in kinds.items()),
        len(fallen) == len(TRAPS),
    )
    strangers = [address for address in times if not address.startswith(url)]
    strangers += [path for path in titles if path.startswith("/private/")]
    yield Check(
        f"{parser}：没有尽头的站点停在上限，没有出站，没有进 robots.txt 不让进的",
        f"上限 {limit}，存了 {len(lines)} 行，不该爬的 {len(strangers)} 个",
        len(lines) == limit and not strangers,
    )


def memory(pid: int) -> int:
    """The most bytes that the process has ever had resident; 0 when it is gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # clients hang up on us; we meant them to
    asyncio.run(site())
