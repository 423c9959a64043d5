"""4.4 的爬虫怎样读一页：链接 → 归一的网址，字节 → 文字 → 标题和链接。只有计算，没有网络。"""

import codecs
import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from bs4 import BeautifulSoup, SoupStrainer
from selectolax.lexbor import LexborHTMLParser
from yarl import URL  # aiohttp 自己用的网址库


def canonical(href: str, base: str = "") -> str | None:
    """同一页只有一种写法；不是网址 → None。

    小写主机、去掉默认端口和 #…、化简 ../、统一百分号编码。
    """
    try:
        url = URL(href.strip())
        if base:
            url = URL(base).join(url)
        if url.scheme not in ("http", "https") or not url.host:
            return None
        # with_path 顺手去掉 #…；http://site 和 http://site/ 也从此一样
        return str(url.with_user(None).with_path(url.raw_path, encoded=True, keep_query=True))
    except (ValueError, IndexError):  # 端口 99999、半个 IPv6；yarl 遇到 http://[:]@ 是 IndexError
        return None


URL_LENGTH = 2_000  # 更长的网址多半是陷阱；没有这条，一页带 <base> 的 1 MB 网页能撑出 200 MB 链接
LINKS_PER_PAGE = 5_000
FROM_ROOT = ("/", "http://", "https://")


class SameSite:
    """一个站点里的链接：home 是它的根，以 / 结尾。"""

    def __init__(self, home: str) -> None:
        self.home = home
        self._resolve = lru_cache(maxsize=10_000)(self._same_site)

    def links(self, hrefs: list[str], url: str, base: str) -> list[str]:
        """url 这一页的同站链接，归一，不重复，保持原来的顺序；base 是 <base href>。"""
        base = (base and canonical(base, url)) or url
        # 以 / 开头的链接和当前页无关，从站点根算起；别的多半只和它的文件夹有关。
        # 这样，页页都有的链接只算一次 (lru_cache)
        root = self.home if base.startswith(self.home) else base
        folder = base.partition("?")[0].rpartition("/")[0] + "/"
        found = {}
        for href in map(str.strip, hrefs[:LINKS_PER_PAGE]):
            if len(href) <= URL_LENGTH:
                if href.startswith(FROM_ROOT):
                    start = root
                else:
                    start = base if href[:1] in "?#" else folder
                found[self._resolve(href, start)] = None
        found.pop(None, None)
        return list(found)

    def _same_site(self, href: str, base: str) -> str | None:
        link = canonical(href, base)
        return link if link and link.startswith(self.home) and len(link) <= URL_LENGTH else None


META_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset=["'\s]*([\w.:-]+)""", re.IGNORECASE)
# 只信网页用的编码：Python 还认得 punycode，用它解 1 MB 要几分钟，而这个名字是对方给的
CHARSETS = ("utf-8", "utf8", "gb", "big5", "euc-", "shift", "iso-", "windows-", "koi8", "us-ascii")


def charset_of(body: bytes, declared: str | None = None) -> str:
    """与浏览器同序：BOM、HTTP 头、<meta>；都没说就是空的。"""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if body.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    name = declared or ""
    if not declared and (meta := META_CHARSET.search(body, 0, 1024)):
        name = meta[1].decode()
    name = name.lower()
    if name.startswith("gb"):
        return "gb18030"  # 写着 gb2312 的网页常有 gb2312 以外的字，gb18030 是它们的超集
    return name if name.startswith(CHARSETS) else ""


def decode(body: bytes, declared: str | None = None) -> str:
    """没说是什么编码就试 UTF-8，再试 GB18030；坏字节换成 �，不抛异常。"""
    if charset := charset_of(body, declared):
        try:
            return body.decode(charset, "replace")
        except (LookupError, ValueError):  # 没有这种编码
            pass
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("gb18030", "replace")


class Parsed(NamedTuple):
    title: str
    base: str  # <base href>，多数网页没有
    hrefs: list[str]


ONLY_NEEDED = SoupStrainer(["a", "title", "base"])  # 别的标签不建树，时间省一半以上
TAGS = 20_000  # 再多就是陷阱：1 MB 的 <a> 建树要 7 秒、140 MB，其间别的页都等到超时
LONG_TAG = re.compile(r"<[^<>]{10000,}")  # 不是图片 (data:)，就是陷阱：13 万个属性要 35 MB


def parse_soup(html: str) -> Parsed:
    html = html.replace("\0", "")  # libxml2 给每个 NUL 记一条错误，1 MB 就是 80 MB
    html = LONG_TAG.sub("", "<".join(html.split("<", TAGS)[:TAGS]))
    with warnings.catch_warnings(action="ignore"):  # XHTML、只有一句话的网页，它都要提醒
        soup = BeautifulSoup(html, "lxml", parse_only=ONLY_NEEDED)
    title, base = soup.title, soup.find("base", href=True)
    return Parsed(
        title.get_text() if title else "",  # 留下文字，别留 Tag：Tag 连着整棵树
        base["href"] if base else "",
        [link["href"] for link in soup("a", href=True)],
    )


LARGE = 100_000  # selectolax 遇到几万层嵌套是平方级的：500 KB 全是 <div> 要 20 多秒


def parse_fast(html: str | bytes) -> Parsed:
    """bytes 要是 UTF-8 的。"""
    tree = LexborHTMLParser(html)
    title, base = tree.css_first("title"), tree.head.css_first("base[href]")
    return Parsed(
        title.text() if title else "",
        (base.attributes["href"] or "") if base else "",
        [href for link in tree.css("a[href]") if (href := link.attributes["href"])],
    )


def read_soup(body: bytes, declared: str | None) -> Parsed:
    return parse_soup(decode(body, declared))


def read_fast(body: bytes, declared: str | None) -> Parsed:
    # selectolax 里面用的就是 UTF-8：多数网页直接给它，省下解码成 str、再编码回去
    if len(body) <= LARGE and charset_of(body, declared) in ("utf-8", "utf8"):
        with suppress(ValueError, SystemError):  # selectolax 1.0 以前，标题里有坏字节就这样
            return parse_fast(body)
    html = decode(body, declared)
    return parse_fast(html) if len(html) <= LARGE else parse_soup(html)


# 网页的字节，HTTP 头里的编码 → 标题和链接
PARSERS: dict[str, Callable[[bytes, str | None], Parsed]] = {"soup": read_soup, "fast": read_fast}
