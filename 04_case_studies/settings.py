"""第 4 章共用：Redis 和 MySQL 在哪里，出事时说什么，Ctrl-C 怎么收场。

默认地址与 docker-compose.yml、`python tutorial.py services` 一致；
用环境变量 REDIS_URL、MYSQL_URL 改。
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import FrameType
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULTS = {
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "MYSQL_URL": "mysql://root:tutorial@127.0.0.1:3306",
}
# 连接、认证、断线；不含写错的 SQL
MYSQL_REFUSES = frozenset((1045, 1698))  # 1698：这个账号只许从本机的 socket 登录
MYSQL_IS_AWAY = MYSQL_REFUSES | {1040, 1044, 1053, 1129, 1130, 1203, 1226, 1927}
MYSQL_IS_AWAY |= {2002, 2003, 2006, 2013, 4031}
_interrupted: list[int] = []  # 收到过的 SIGINT
_main: asyncio.Task | None = None
CANCELLED_BY_US = "Cancelled during execution"  # aiomysql：查询被取消时连接就关了，你还在用它
# Redis 在，但它不肯：内存满了、只读副本、断了主库；只许本机连（保护模式）、存不了盘
REDIS_REFUSES = frozenset(f"redis.{why}Error" for why in ("OutOfMemory", "ReadOnly", "MasterDown"))
REDIS_DENIES = ("DENIED ", "MISCONF ")
REDIS_POOL_IS_FULL = "No connection available."  # BlockingConnectionPool 等过了 timeout


class BadUrl(ValueError):
    """REDIS_URL 或 MYSQL_URL 不是一个能用的地址。"""


def redis_url() -> str:
    """redis.asyncio 里各个 from_url() 的参数；写错时抛 BadUrl。

    from_url() 不重试，没人在马上知道；Redis(host=…) 默认重试 10 次，要等 4 秒。
    """
    url, parts = _service_url("REDIS_URL", {"redis", "rediss"})
    if parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise BadUrl("环境变量 REDIS_URL 的末尾应该是库的编号，例如 /0")
    return url


def mysql_options() -> dict[str, object]:
    """aiomysql.connect() 和 create_pool() 的参数，不含 db（每一课用自己的库）；写错时抛 BadUrl。"""
    _, parts = _service_url("MYSQL_URL", {"mysql"})
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
        # aiomysql 把密码按 latin1 编码，而 MySQL 要的是 UTF-8
        "password": unquote(parts.password or "").encode().decode("latin1"),
        "charset": "utf8mb4",
        "connect_timeout": 5,
        "autocommit": True,  # aiomysql 默认 False：池里的连接会一直读旧快照，没提交的写入会悄悄消失
    }


def run(
    main: Callable[[], Awaitable[None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """asyncio.run(main())；Ctrl-C 只说“已中断”（退出码 130），服务出事只说一段中文（2）。"""
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_to_the_end(main))
    except (KeyboardInterrupt, asyncio.CancelledError) as error:
        if not _interrupted and isinstance(error, asyncio.CancelledError):
            raise  # 没人按 Ctrl-C：多半是取了一个被取消的任务的 result()
        print("已中断", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        problems = [explain(leaf) for leaf in leaves(error)]
        if None in problems:
            raise  # 程序自己的错，traceback 才有用
        print(problems[0], file=sys.stderr)
        sys.exit(2)


async def all_at_once(*work: Coroutine) -> list:
    """像 asyncio.gather，但离开时没有谁还在跑：gather 一出错、一被取消就走，不等别的停下。

    出错时抛的是 ExceptionGroup。
    """
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
    return [task.result() for task in tasks]


def leaves(error: BaseException) -> Iterator[BaseException]:
    """TaskGroup 会把异常包成（层层的）ExceptionGroup。"""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def stop_if_cancelled() -> None:
    """问一句：是不是已经有人取消了我？是就抛 CancelledError。

    Python 3.11 的 asyncio.wait_for 会吞掉恰好在它完成时到的取消（3.12 修好了）；
    redis 发命令时用它，于是被取消的任务可能像没事一样接着跑。用 redis 的循环和等别人的地方都要问。
    """
    task = asyncio.current_task()
    # 主任务不看 cancelling()：3.13 以前，TaskGroup 收场时可能多记一次；对它看有没有过 Ctrl-C
    if _interrupted or (task is not _main and task.cancelling()):
        raise asyncio.CancelledError


def explain(error: BaseException) -> str | None:
    """服务的事（没开、密码不对、没权限、不肯、断线、池满、地址写错）→ 一段中文；别的 → None。"""
    if isinstance(error, BadUrl):
        return str(error)
    # 按名字认，用 Redis 的课就不必装 MySQL 的库
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(error).__mro__}
    code = error.args[0] if error.args else None
    if "redis.MaxConnectionsError" in kinds or code == REDIS_POOL_IS_FULL:
        return (
            f"连接池满了：{error}\n"
            "出路：BlockingConnectionPool 让任务排队，或者调大 max_connections 和 timeout"
        )
    refuses = "redis.ResponseError" in kinds and (
        kinds & REDIS_REFUSES or str(error).startswith(REDIS_DENIES)
    )
    lost = {"redis.ConnectionError", "redis.TimeoutError", "redis.NoPermissionError"}
    if refuses or kinds & lost:
        variable = "REDIS_URL"
    elif ("pymysql.InterfaceError" in kinds and code != CANCELLED_BY_US) or (
        "pymysql.OperationalError" in kinds and code in MYSQL_IS_AWAY
    ):
        variable = "MYSQL_URL"
    else:
        return None
    if "redis.AuthenticationError" in kinds or code in MYSQL_REFUSES:
        what = "不认这个用户名或密码"
    elif "redis.NoPermissionError" in kinds or code == 1044:
        what = "在，但这个用户没有权限"
    elif refuses:
        what = "在，但它不肯"
    else:
        what = "连不上，或者中途断了"
    return (
        f"{_where(variable)}{what}：{error}\n"
        f"三条出路：docker compose up -d；或另开一个终端 python tutorial.py services；"
        f"或用环境变量 {variable} 指到你自己的服务，例如 {DEFAULTS[variable]}"
    )


async def _to_the_end(main: Callable[[], Awaitable[None]]) -> None:
    global _main
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    _main = task
    cancel_main = signal.getsignal(signal.SIGINT)  # asyncio.run 装上的
    if not callable(cancel_main):  # 后台作业不理 Ctrl-C (SIG_IGN)
        return await main()

    def interrupt(number: int) -> None:
        if not task.done():
            _interrupted.append(number)
            cancel_main(number, None)
            # 取消若被吞掉，程序可能等在一个再没人叫醒的地方：过 6 秒（收摊该收完了）再取消一次
            loop.call_later(6, task.cancel)

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, cancel_main)  # 再按一次，就照 asyncio.run 自己的办法
        # 信号会插在任何两行之间，例如任务正跑着，或循环正要叫醒它：等这一轮走完再取消
        loop.call_soon_threadsafe(interrupt, number)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        await main()
    finally:
        signal.signal(signal.SIGINT, cancel_main)
    stop_if_cancelled()


def _service_url(variable: str, schemes: set[str]) -> tuple[str, SplitResult]:
    url = os.environ.get(variable) or DEFAULTS[variable]
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:  # 端口不是 0–65535 的数字
        usable = False
    if not usable or "@" in parts.path + parts.query + parts.fragment:
        raise BadUrl(  # 不把它印出来：里面可能有密码
            f"环境变量 {variable} 不是能用的地址，它应该像 {DEFAULTS[variable]}；"
            "密码里的 / ? # 要写成 %2F %3F %23"
        )
    return url, parts


def _where(variable: str) -> str:
    """“Redis（127.0.0.1:6379）”：没有用户名，也没有密码。"""
    default = urlsplit(DEFAULTS[variable])
    url = urlsplit(os.environ.get(variable) or DEFAULTS[variable])
    name = {"REDIS_URL": "Redis", "MYSQL_URL": "MySQL"}[variable]
    return f"{name}（{url.hostname}:{url.port or default.port}）"
