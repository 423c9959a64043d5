"""Short texts for values, made without running the user's `__repr__`."""

SIMPLE = {int, float, complex, bool, str, bytes, type(None)}
BRACKETS = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", dict: "{}"}


def brief(value: object, depth: int = 2) -> str:
    """What the value looks like, in at most some sixty characters."""
    kind = type(value)
    if kind is int and value.bit_length() > 200:  # repr() of a huge one is slow, or refused
        return "<int>"
    if kind in SIMPLE:
        text = repr(value[:60] if kind in (str, bytes) else value)
        return text if len(text) <= 60 else text[:57] + "…" + text[-1]
    if kind in BRACKETS:
        return _container(value, BRACKETS[kind], depth)
    if isinstance(value, BaseException):
        arguments = BaseException.args.__get__(value)  # a class of the user's may have its own
        return f"{kind.__name__}({', '.join(brief(item, depth - 1) for item in arguments)})"
    return f"<{kind.__name__}>"


def _container(value, brackets: str, depth: int) -> str:
    if depth <= 0 and value:
        return f"{brackets[0]}…{brackets[1]}"
    parts = []
    for item in list(value)[:6]:
        text = brief(item, depth - 1)
        parts.append(f"{text}: {brief(value[item], depth - 1)}" if type(value) is dict else text)
    if len(value) > 6:
        parts.append("…")
    comma = "," if type(value) is tuple and len(value) == 1 else ""
    return f"{brackets[0]}{', '.join(parts)}{comma}{brackets[1]}"


def printable(text: str) -> str:
    """The text with lone surrogates escaped, so that any reader of JSON can take it."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
