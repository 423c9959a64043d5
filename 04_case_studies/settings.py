"""第 4 章共用：Redis 和 MySQL 在哪里，出事时说什么，Ctrl-C 怎么收场。

默认地址与 docker-compose.yml、`python tutorial.py services` 一致；
用环境变量 REDIS_URL、MYSQL_URL 改。
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import unquote, urlsplit

DEFAULTS = {
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "MYSQL_URL": "mysql://root:tutorial@127.0.0.1:3306",
}
# 连接、认证、断线；不含写错的 SQL
MYSQL_IS_AWAY = frozenset((1040, 1044, 1045, 1053, 1927, 2002, 2003, 2006, 2013))


class BadUrl(ValueError):
    """REDIS_URL 或 MYSQL_URL 不是一个能用的地址。"""


def redis_url() -> str:
    """redis.asyncio.Redis.from_url() 的参数；写错时抛 BadUrl。"""
    url, parts = _service_url("REDIS_URL", {"redis", "rediss"})
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise BadUrl("REDIS_URL 末尾应该是库的编号，例如 /0")
    return url


def mysql_options() -> dict[str, object]:
    """aiomysql.connect() 和 create_pool() 的参数，不含 db（每一课用自己的库）；写错时抛 BadUrl。"""
    _, parts = _service_url("MYSQL_URL", {"mysql"})
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
        "password": unquote(parts.password or ""),
        "charset": "utf8mb4",
        "connect_timeout": 5,
        "autocommit": True,  # aiomysql 默认 False：池里的连接会一直读旧快照，没提交的写入会悄悄消失
    }


def run(main: Callable[[], Awaitable[None]]) -> None:
    """asyncio.run(main())；Ctrl-C 只说“已中断”（退出码 130），服务出事只说一段中文（2）。"""
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("已中断", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        problems = [explain(leaf) for leaf in _leaves(error)]
        if None in problems:
            raise  # 程序自己的错，traceback 才有用
        print(problems[0], file=sys.stderr)
        sys.exit(2)


def explain(error: BaseException) -> str | None:
    """服务的事（没开、密码不对、断线、地址写错）→ 一段中文；别的异常 → None。"""
    if isinstance(error, BadUrl):
        return str(error)
    # 按名字认，用 Redis 的课就不必装 MySQL 的库
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    if kinds & {"redis.ConnectionError", "redis.TimeoutError"}:
        name, variable, wrong_password = "Redis", "REDIS_URL", "redis.AuthenticationError" in kinds
    elif kinds & {"pymysql.InterfaceError"} or (
        "pymysql.OperationalError" in kinds and error.args[0] in MYSQL_IS_AWAY
    ):
        name, variable, wrong_password = "MySQL", "MYSQL_URL", error.args[0] == 1045
    else:
        return None
    url = urlsplit(os.environ.get(variable) or DEFAULTS[variable])
    where = f"{name}（{url.hostname}:{url.port or DEFAULTS[variable].rsplit(':')[-1][:4]}）"
    what = f"{where}不认这个用户名或密码" if wrong_password else f"{where}连不上，或者中途断了"
    return (
        f"{what}：{error}\n"
        f"三条出路：docker compose up -d；或另开一个终端 python tutorial.py services；"
        f"或用环境变量 {variable} 指到你自己的服务，例如 {DEFAULTS[variable]}"
    )


def _service_url(variable: str, schemes: set[str]):
    url = os.environ.get(variable) or DEFAULTS[variable]
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # 端口不是 0–65535 的数字
        usable = False
    if not usable:
        raise BadUrl(f"环境变量 {variable} 不是能用的地址，它应该像 {DEFAULTS[variable]}")
    return url, parts


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """TaskGroup 会把异常包成（层层的）ExceptionGroup。"""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
