"""小镇百科：4.4 和 4.8 自带的小站，只听 127.0.0.1。

357 个普通网页（中文，每页约 10 KB），外加一组爬虫迟早要遇到的怪页：断链、跳转成环、慢页、
大得没有尽头的页、GBK 页、走不到头的月历、robots.txt 不让进的档案室。
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache, partial
from itertools import count, product

from aiohttp import web

STREETS = (
    "东街 西街 南巷 北巷 桥头 河湾 码头 集市 山脚 老井 "
    "柳堤 荷塘 祠堂 磨坊 驿站 竹林 石滩 渔村 茶坡 钟楼"
).split()
SHOPS = (
    "豆腐坊 茶馆 书店 药铺 面馆 裁缝铺 染坊 米铺 酒肆 铁匠铺 私塾 当铺 糕点铺 灯笼铺 伞铺 木匠铺"
).split()
ODD_PAGES = {
    "断链": "/wiki/没写的词条",
    "跳转成环": "/loop/1",
    "慢页": "/slow",
    "没有尽头的页": "/huge",
    "GBK 写的镇志": "/gbk",
    "头一次总说忙": "/busy",
    "地图": "/map.png",
    "旧地址": "/old",
    "邻镇": "/away",
    "没有尽头的月历": "/calendar/1",
    "档案室": "/private/1",
}
ROBOTS = "User-agent: *\nDisallow: /private/\n"
SENTENCES = (
    "这里的门板是老杉木做的，每天清早一块一块卸下来，傍晚再一块一块装回去。",
    "据镇志记载，光绪年间发过一次大水，水退之后街坊们凑钱重修了门前的石阶。",
    "掌柜说，手艺是祖父传下来的，秤也是，只有招牌换过两回。",
    "逢五逢十赶集，四乡的人摇着船来，到了晌午连桥上都站满了人。",
    "冬天的时候，屋檐下挂着一排腊肉，猫就蹲在对面的墙头上看。",
)


def link(path: str, text: str) -> str:
    return f'<li><a class="entry" href="{path}">{text}</a></li>'


@cache
def render(title: str, links: str) -> bytes:
    """一页约 10 KB：导航、正文、参见，和真网页一样，链接只占一小部分。"""
    navigation = "".join(link(f"/street/{street}", street) for street in STREETS)
    paragraphs = "".join(
        f'<p class="text"><b>{title}</b>{SENTENCES[n % 5]}<i>{SENTENCES[(n * 3 + 1) % 5]}</i></p>'
        for n in range(34)
    )
    return (
        f'<!DOCTYPE html><html lang="zh"><head><meta charset="utf-8">'
        f"<title>{title} - 小镇百科</title></head><body>"
        f"<nav><ul>{link('/', '首页')}{navigation}</ul></nav><main><h1>{title}</h1>"
        f"{paragraphs}<h2>参见</h2><ul>{links}</ul></main></body></html>"
    ).encode()


def page(title: str, links: str = "") -> web.Response:
    return web.Response(body=render(title, links), content_type="text/html", charset="utf-8")


async def home(request: web.Request) -> web.Response:
    return page("首页", "".join(link(f"/shop/{shop}", shop) for shop in SHOPS))


async def street_page(request: web.Request, odd: bool) -> web.Response:
    street = request.match_info["street"]
    links = "".join(link(f"/wiki/{street}{shop}", street + shop) for shop in SHOPS)
    if odd and street == "集市":  # 怪事都在集市上
        links += "".join(link(path, name) for name, path in ODD_PAGES.items())
    return page(street, links)


async def shop_page(request: web.Request) -> web.Response:
    shop = request.match_info["shop"]
    return page(shop, "".join(link(f"../wiki/{street}{shop}#历史", street) for street in STREETS))


ENTRIES = {street + shop: (street, shop) for street, shop in product(STREETS, SHOPS)}


async def entry_page(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in ENTRIES:
        raise web.HTTPNotFound
    street, shop = ENTRIES[name]
    opposite = SHOPS[SHOPS.index(shop) - 1]
    seen_also = link(f"{street}{opposite}", "对门") + link(f"/shop/{shop}?", f"别处的{shop}")
    return page(name, seen_also)


async def loop(request: web.Request) -> web.Response:
    raise web.HTTPFound("/loop/2" if request.path == "/loop/1" else "/loop/1")


async def slow(request: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return page("慢页")


async def huge(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/html"})
    await response.prepare(request)
    with suppress(ConnectionError):  # 对方走了，才算写完
        while True:
            await response.write(b"<p>" + b"lorem ipsum " * 5_000)
    return response


async def gbk(request: web.Request) -> web.Response:
    text = "<meta charset=gb2312><title>镇志（镕记藏本）</title><a href='/old'>旧地址</a>"
    return web.Response(body=text.encode("gbk"), headers={"Content-Type": "text/html"})


async def town_map(request: web.Request) -> web.Response:
    return web.Response(body=b"\x89PNG\r\n", content_type="image/png")


async def old(request: web.Request) -> web.Response:
    raise web.HTTPMovedPermanently("/wiki/东街豆腐坊")


async def away(request: web.Request) -> web.Response:
    raise web.HTTPFound("http://neighbour.invalid/")  # .invalid 永远不会有人注册


async def calendar(request: web.Request) -> web.Response:
    day = int(request.match_info["day"])
    return page(f"第 {day} 天", link(f"/calendar/{day + 1}", "明天"))


async def private(request: web.Request) -> web.Response:
    return page("档案室", link("/private/2", "更多档案"))


async def robots(request: web.Request) -> web.Response:
    return web.Response(text=ROBOTS)


@asynccontextmanager
async def serve(latency: float = 0.0, odd: bool = True) -> AsyncIterator[str]:
    """开站，交出首页的网址；latency 是每一页多等的秒数（远方的服务器），odd 是有没有怪页。"""

    @web.middleware
    async def far_away(request: web.Request, handler) -> web.StreamResponse:
        await asyncio.sleep(latency)
        return await handler(request)

    visits = count(1)

    async def busy(request: web.Request) -> web.Response:
        if next(visits) == 1:
            raise web.HTTPServiceUnavailable
        return page("头一次总说忙")

    app = web.Application(middlewares=[far_away] if latency else [])
    routes = {
        "/": home,
        "/robots.txt": robots,
        "/street/{street}": partial(street_page, odd=odd),
        "/shop/{shop}": shop_page,
        "/wiki/{name}": entry_page,
        "/loop/{n}": loop,
        "/slow": slow,
        "/huge": huge,
        "/gbk": gbk,
        "/busy": busy,
        "/map.png": town_map,
        "/old": old,
        "/away": away,
        "/calendar/{day}": calendar,
        "/private/{n}": private,
    }
    app.add_routes([web.get(path, handler) for path, handler in routes.items()])
    # handler_cancellation：对方断开，处理它的任务就取消，不再白忙；
    # shutdown_timeout：关站时还没写完的页，最多等它 0.1 秒（默认 60 秒）
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    # 自己开端口，用 with 关：在 TCPSite.start() 半路被 Ctrl-C 取消，端口就没人关了
    with socket.create_server(("127.0.0.1", 0)) as port:
        try:
            await runner.setup()
            await web.SockSite(runner, port).start()
            yield f"http://127.0.0.1:{port.getsockname()[1]}/"
        finally:
            await runner.cleanup()
