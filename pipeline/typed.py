"""Plain data to frozen dataclasses, every field typed and checked.

Every error names the key, what was found, and what is expected.
"""

import dataclasses
import difflib
import sys
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

T = TypeVar("T")
MANY = 30
"""Names in one message."""
LONG = 200
"""Characters of a value in one message."""


class InputError(ValueError):
    """What cannot be used as it stands, of data or files; the message says what to do."""


class InputErrors(InputError):
    """Several of them, none of which hides the others."""

    MOST = 50
    """Of the message."""

    def __init__(self, each: Sequence[str]) -> None:
        self.each = tuple(each)
        more = [f"and {len(each) - self.MOST} more"] if len(each) > self.MOST else []
        super().__init__("\n".join([*each[: self.MOST], *more]))


class ConfigError(InputError):
    """A parameter that cannot be used as it stands."""


def did_you_mean(found: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, and others."""
    known = sorted(known)
    near = difflib.get_close_matches(found, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(known) - MANY} more" if len(known) > MANY else ""
    return f"{hint}known: {', '.join(known[:MANY]) or 'none'}{more}"


def reference(key: str, found: str, section: Collection[str], where: str = "") -> None:
    """Raises unless `found` is a name of `section`."""
    if found not in section:
        place = f" in {where}" if where else ""
        raise ConfigError(f"{key}: no {found!r}{place}; {did_you_mean(found, section)}")


def at_least(key: str, name: str, value: float, low: float) -> None:
    """Raises unless value >= low."""
    if not value >= low:
        raise ConfigError(f"{key}.{name}: {value}; expected at least {low}")


def within(key: str, name: str, value: float, low: float, high: float) -> None:
    """Raises unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"{key}.{name}: {value}; expected {low} to {high}")


def from_mapping(cls: type[T], value: Any, key: str, default: T | None = None) -> T:
    """A frozen dataclass from a mapping, every field typed and checked.

    Args:
      cls: the dataclass; its `check(key)`, if it has one, is called last.
      value: what YAML gave.
      key: dotted path of the mapping, for messages.
      default: has the fields that `value` lacks; without it they are the class's own. A nested
        mapping is laid over the field's default likewise.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key or 'top level'}: found {shown(value)}; expected a mapping")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in value:
        if name not in fields:
            raise ConfigError(f"{join(key, str(name))}: unknown; {did_you_mean(str(name), fields)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in value and default is None:
            raise ConfigError(f"{join(key, name)}: missing; expected {describe(hints[name])}")
    given = {}
    for name in value:
        base = default_of(fields[name]) if default is None else getattr(default, name)
        given[name] = convert(hints[name], value[name], join(key, name), base)
    built = cls(**given) if default is None else dataclasses.replace(default, **given)
    if hasattr(built, "check"):
        built.check(key)
    return built


def join(key: str, name: str) -> str:
    """The dotted path of `name` below `key`."""
    return f"{key}.{name}" if key else name


def default_of(f: dataclasses.Field) -> Any:
    """The default of a field, None if it has none."""
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return None if f.default is dataclasses.MISSING else f.default


def convert(hint: Any, value: Any, key: str, default: Any = None) -> Any:
    """`value` as the annotated type, or a ConfigError; numbers are not made from text.

    `default` is what the fields of a dataclass are taken from that `value` lacks.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        inner = [a for a in args if a is not type(None)]
        if value is None and len(inner) < len(args):
            return None
        return convert(inner[0], value, key, default)
    if origin is Literal and value in args and type(value) in map(type, args):
        return value
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, key, default)
    if origin is dict and isinstance(value, Mapping):
        return {str(k): convert(args[1], v, join(key, str(k))) for k, v in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) == len(value):
            return tuple(
                convert(k, v, f"{key}[{i}]")
                for i, (k, v) in enumerate(zip(kinds, value, strict=True))
            )
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if hint in (int, str, bool) and type(value) is hint and (hint is not int or abs(value) < 2**63):
        return value
    hint_text = " (write 5.0e-3 or 0.005)" if hint is float and isinstance(value, str) else ""
    raise ConfigError(f"{key}: found {shown(value)}; expected {describe(hint)}{hint_text}")


def shown(value: Any) -> str:
    """A value in a message; the beginning of a long one."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of so many digits
        return "a number of thousands of digits"
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def describe(hint: Any) -> str:
    """A type as a person would name it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("null" if a is type(None) else describe(a) for a in args)
    if origin is tuple:
        count = "" if args[-1] is Ellipsis else f" of {len(args)}"
        return f"a list{count}, each {describe(args[0])}"
    if origin is dict or dataclasses.is_dataclass(hint):
        return "a mapping"
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, str(hint))
