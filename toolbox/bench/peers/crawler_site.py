"""The site that all crawlers are measured on: pages of about 10 KB with about 30 links each.

As on real sites, most links are navigation and start at the root, some are relative, a few lead
elsewhere. Generated anew for every benchmark from a fixed seed, so all machines crawl the same.
"""

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from toolbox.bench.model import Missing
from toolbox.services import dying_with_us

SIZES = {"full": 2_000, "quick": 300}
SECTIONS = 12  # links in the navigation of every page
WORDS = (
    "木门 石阶 大水 掌柜 手艺 招牌 集市 渡船 晌午 屋檐 腊肉 墙头 茶客 说书人 染缸 米斗 油灯 "
    "祠堂 磨盘 驿马 竹篓 渔网 钟声 账本 药柜 伞骨 铁砧 糕模 灯笼 私塾"
).split()


def title(number: int) -> str:
    return f"第 {number} 页 {WORDS[number % len(WORDS)]}"


def item(number: int) -> str:
    return f'<li><a href="/page/{number}.html">{title(number)}</a></li>'


def page(number: int, count: int) -> bytes:
    """Page `number` of `count`. It links to its two children in a binary tree, so that every page
    can be reached from page 0."""
    chance = random.Random(number)
    children = [child for child in (2 * number + 1, 2 * number + 2) if child < count]
    others = [chance.randrange(count) for _ in range(10)]
    near = [
        f'<a href="{chance.randrange(count)}.html#notes">又见</a>'
        for _ in range(4 if number else 0)  # page 0 is also the start page, in another folder
    ]
    navigation = "".join(
        f'<li><a href="/page/{n}.html">{title(n)}</a></li>' for n in range(SECTIONS)
    )
    further = "".join(
        f'<li><a href="/page/{n}.html">{title(n)}</a></li>' for n in children + others
    )
    text = "".join(
        f'<p class="text"><b>{chance.choice(WORDS)}</b>{"，".join(chance.choices(WORDS, k=21))}。'
        f"<i>{''.join(chance.choices(WORDS, k=6))}</i></p>"
        for _ in range(34)
    )
    return (
        f'<!DOCTYPE html><html lang="zh"><head><meta charset="utf-8"><title>{title(number)}</title>'
        f'</head><body><nav><ul><li><a href="/">首页</a></li>{navigation}</ul></nav><main>'
        f"<h1>{title(number)}</h1>{text}<p>{''.join(near)}</p><ul>{further}</ul></main><footer>"
        f'<a href="http://elsewhere.invalid/">友站</a><a href="mailto:town@elsewhere.invalid">来信'
        f"</a></footer></body></html>"
    ).encode()


def paths(size: str) -> list[str]:
    """The path of every page, without the leading slash; page 0 has two, as start pages do."""
    return ["", *(f"page/{n}.html" for n in range(SIZES[size]))]


@contextlib.contextmanager
def folders() -> Iterator[dict[str, Path]]:
    """The pages as files: a folder for each of SIZES."""
    with tempfile.TemporaryDirectory(prefix="bench-crawler-") as temporary:
        Path(temporary).chmod(0o755)  # nginx that is started by root serves as nobody
        made = {}
        for size, count in SIZES.items():
            made[size] = Path(temporary, size)
            (made[size] / "page").mkdir(parents=True)
            for number in range(count):
                (made[size] / "page" / f"{number}.html").write_bytes(page(number, count))
            shutil.copy(made[size] / "page" / "0.html", made[size] / "index.html")
            (made[size] / "robots.txt").write_text("User-agent: *\nDisallow: /private/\n")
        yield made


NGINX = """
daemon off; pid {root}/pid; error_log stderr; worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    open_file_cache max=5000; charset utf-8; types {{ text/html html; text/plain txt; }}
    client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3;
    uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;
    {servers}
}}
"""


@contextlib.contextmanager
def nginx(made: dict[str, Path]) -> Iterator[tuple[dict[str, int], list[int]]]:
    """Serve the folders, each on a port of its own; gives the ports and nginx's worker pids."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise Missing("没有 nginx：sudo apt install nginx-light")
    ports = {size: free_port() for size in made}
    root = next(iter(made.values())).parent
    servers = "".join(
        f"server {{ listen 127.0.0.1:{ports[size]} backlog=1024; root {made[size]}; }}\n"
        for size in made
    )
    config = root / "nginx.conf"
    config.write_text(NGINX.format(root=root, servers=servers))
    command = [program, "-p", str(root), "-c", str(config), "-e", "stderr"]
    command = dying_with_us(command, signal.SIGTERM)
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        try:
            wait_for(server, *ports.values())
            yield ports, children(server.pid)
        finally:
            server.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as port:
        return port.getsockname()[1]


def wait_for(server: subprocess.Popen, *ports: int) -> None:
    for port in ports:
        for _ in range(500):
            if server.poll() is not None:
                raise RuntimeError(f"server ended: {server.stderr.read().decode()}")
            with contextlib.suppress(ConnectionError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.01)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
