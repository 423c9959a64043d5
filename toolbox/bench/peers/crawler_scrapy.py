"""Scrapy, as its manual writes a crawl of one site, and tuned."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import scrapy
from scrapy.crawler import CrawlerProcess

from toolbox.bench.model import lesson

DEFAULT = {
    "ROBOTSTXT_OBEY": True,  # as the lesson's crawler does, and scrapy's own project template
    "LOG_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
}


def tuned(requests: int) -> dict[str, object]:
    """What a crawl of one host that is known to bear it is given."""
    return DEFAULT | {
        "CONCURRENT_REQUESTS": requests,
        "CONCURRENT_REQUESTS_PER_DOMAIN": requests,
        "DOWNLOAD_DELAY": 0,
        "COOKIES_ENABLED": False,
        "RETRY_TIMES": 2,
        "DOWNLOAD_TIMEOUT": 10,
    }


class Follow(scrapy.Spider):
    """Scrapy resolves the links and drops those it has seen."""

    name = "follow"
    started = ended = 0.0

    @classmethod
    def from_crawler(cls, crawler, *args, **kwargs):
        spider = super().from_crawler(crawler, *args, **kwargs)
        cls.home, cls.allowed_domains = spider.start_urls[0], ["127.0.0.1"]
        crawler.signals.connect(cls.opened, scrapy.signals.spider_opened)
        crawler.signals.connect(cls.closed_for_good, scrapy.signals.spider_closed)
        return spider

    @classmethod
    def opened(cls) -> None:
        cls.started = time.perf_counter()

    @classmethod
    def closed_for_good(cls) -> None:
        cls.ended = time.perf_counter()

    def parse(self, response) -> Iterator:
        yield {"url": response.url, "title": response.css("title::text").get()}
        yield from response.follow_all(css="a", callback=self.parse)


class Normalised(Follow):
    """The lesson's own normaliser, and a set in the spider: Scrapy sees a URL once."""

    name = "normalised"

    def parse(self, response) -> Iterator:
        if response.url == self.home:
            self.links = lesson("04_case_studies/web_page.py").SameSite(self.home).links
            self.seen = {self.home}
        yield {"url": response.url, "title": response.css("title::text").get()}
        for url in self.links(response.css("a::attr(href)").getall(), response.url, ""):
            if url not in self.seen:
                self.seen.add(url)
                yield scrapy.Request(url, self.parse, dont_filter=True)


def crawl(
    spider: type[Follow], home: str, settings: dict[str, object]
) -> tuple[dict[str, str], float]:
    """{url: title} and the seconds from the spider's opening to its close. As the lesson's crawler
    does, it writes its pages to a file of JSON lines."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pages.jsonl")
        feed = {"FEEDS": {str(out): {"format": "jsonlines", "encoding": "utf8"}}}
        process = CrawlerProcess(settings | feed)
        process.crawl(spider, start_urls=[home])
        process.start()
        pages = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    return {page["url"]: page["title"] for page in pages}, spider.ended - spider.started
