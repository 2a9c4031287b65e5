"""Settings: an argument beats the environment, the environment beats the config file, that beats the default.

The config file is TOML, ``config.toml`` in the user's config folder (``MODELCASK_CONFIG`` names another)::

    home = "/data/models"
    allow_http = false
    files_at_once = 8
    limit_rate = "20MB"

    [mirrors]
    "https://huggingface.co" = ["https://mirror.example/hub"]
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import platformdirs

from modelcask.access import Access
from modelcask.errors import ConfigError

HUB_ENDPOINT: Final = "https://huggingface.co"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a user can set. Durations in seconds, sizes in bytes."""

    home: Path
    """The root of the store."""
    offline: bool = False
    """Never use the network; what is cached still answers."""
    allow_http: bool = False
    """Allow plain http to hosts other than loopback without a pinned digest."""
    hf_endpoint: str = HUB_ENDPOINT
    """The Hub, or a mirror that speaks its protocol."""
    connections: int = 16
    """How many connections to one host may be open at a time; how many are depends on what they bring."""
    limit_rate: int | None = None
    """The most bytes a second that all transfers together may take."""
    max_time_s: float | None = None
    """How long a pull may take in all; what has arrived by then is kept."""
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Where else the bytes of URLs with a prefix lie; an empty prefix: of any URL."""
    files_at_once: int = 16
    """How many files of all running pulls are fetched at the same time."""
    retries: int = 5
    """How often a file's transfer is taken up again before the pull fails."""
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    """A connection that brings no byte for so long is dropped and taken up again."""
    ca_file: Path | None = None
    """Certificates to trust in place of the system's, in PEM."""
    access: Access = field(default_factory=Access)
    """Tokens and headers that a program gives; never read from a file or the environment, never shown."""


def _boolean(text: str) -> bool:
    value = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in value:
        raise ValueError("write true or false")
    return value[text.lower()]


def _whole(value: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", value.strip(), re.ASCII):
        raise ValueError("write a whole number")
    return int(value)


def _positive_int(value: str) -> int:
    number = _whole(value)
    if number < 1:
        raise ValueError("it must be 1 or more")
    return number


def _natural(value: str) -> int:
    number = _whole(value)
    if number < 0:
        raise ValueError("it must be 0 or more")
    return number


def _positive_float(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        raise ValueError("write a number") from None
    if not 0 < number < float("inf"):
        raise ValueError("it must be a number above 0")
    return number


_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?)b?|b)?", re.ASCII | re.IGNORECASE)


def parse_size(text: str) -> int:
    """Return the bytes that ``200GB``, ``1.5 MiB``, ``500k`` or ``4096`` mean: decimal units, binary with an ``i``.

    Raises:
        ValueError: it is none of these, or zero.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a size like 200GB, 1.5MiB or 4096")
    number, unit, binary = match.groups()
    size = int(float(number) * (1024 if binary else 1000) ** (" kmgtp".index(unit.lower()) if unit else 0))
    if size < 1:
        raise ValueError("it must be above 0")
    return size


def _endpoint(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("it must be an http or https URL")
    return value.rstrip("/")


def _mirrors(value: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Read ``prefix=base prefix=base``, or bases alone, which stand for any host."""
    rules: dict[str, list[str]] = {}
    for word in value.split():
        prefix, _, base = word.rpartition("=")
        if set(word) & {"?", "#", "@"}:
            raise ValueError("a mirror is a scheme, a host and a path: nobody is logged in there")
        rules.setdefault(prefix and _endpoint(prefix), []).append(_endpoint(base))
    return tuple((prefix, tuple(bases)) for prefix, bases in rules.items())


def _as_text(value: object) -> str:
    """Return what a file or a program gives as it would be written in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):  # the table of mirrors
        bases = [(prefix, [found] if isinstance(found, str) else found) for prefix, found in value.items()]
        return " ".join(f"{prefix}={base}" for prefix, found in bases for base in found)
    return str(value)


def _path(value: str) -> Path:
    if not value or "\0" in value:
        raise ValueError("it must name a file or folder")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such user") from error
    if not path.is_absolute():
        path = Path.cwd() / path
    return path


@dataclass(frozen=True, slots=True)
class _Reading:
    variable: str
    read: Callable[[str], Any]


_READINGS: Final = {
    "home": _Reading("MODELCASK_HOME", _path),
    "offline": _Reading("MODELCASK_OFFLINE", _boolean),
    "allow_http": _Reading("MODELCASK_ALLOW_HTTP", _boolean),
    "hf_endpoint": _Reading("HF_ENDPOINT", _endpoint),
    "files_at_once": _Reading("MODELCASK_FILES_AT_ONCE", _positive_int),
    "connections": _Reading("MODELCASK_CONNECTIONS", _positive_int),
    "limit_rate": _Reading("MODELCASK_LIMIT_RATE", parse_size),
    "max_time_s": _Reading("MODELCASK_MAX_TIME_S", _positive_float),
    "mirrors": _Reading("MODELCASK_MIRRORS", _mirrors),
    "retries": _Reading("MODELCASK_RETRIES", _natural),
    "connect_timeout_s": _Reading("MODELCASK_CONNECT_TIMEOUT_S", _positive_float),
    "stall_timeout_s": _Reading("MODELCASK_STALL_TIMEOUT_S", _positive_float),
    "ca_file": _Reading("MODELCASK_CA_FILE", _path),
}


VARIABLES: Final = ("MODELCASK_CONFIG", *(reading.variable for reading in _READINGS.values()))
"""The environment variables that are read."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force, with the place it was read from."""

    name: str
    value: object
    origin: str
    """``default``, ``argument``, the environment variable, or the config file's path."""
    variable: str


def config_file(environ: Mapping[str, str] | None = None) -> Path:
    """Return the path of the config file, whether or not it exists."""
    environ = os.environ if environ is None else environ
    named = environ.get("MODELCASK_CONFIG")
    return _path(named) if named else platformdirs.user_config_path("modelcask") / "config.toml"


def load_settings(environ: Mapping[str, str] | None = None, **arguments: object) -> Settings:
    """Return the settings in force; an argument that is None counts as not given.

    Raises:
        ConfigError: a value or a key cannot be read; the error says which and where.
    """
    return Settings(**{setting.name: setting.value for setting in explain_settings(environ, **arguments)})  # type: ignore[arg-type]


def explain_settings(environ: Mapping[str, str] | None = None, **arguments: object) -> list[Setting]:
    """Return each setting with its origin, in the order of :class:`Settings`.

    Raises:
        ConfigError: as :func:`load_settings`.
    """
    environ = os.environ if environ is None else environ
    path = config_file(environ)
    written = _read_file(path)
    found: list[Setting] = []
    for setting in fields(Settings):
        name = setting.name
        if name not in _READINGS:
            continue
        reading = _READINGS[name]
        value: object = setting.default
        origin = "default"
        if arguments.get(name) is not None:
            origin = "argument"
            value = _read(name, arguments[name], reading, origin)
        elif environ.get(reading.variable):
            origin = reading.variable
            value = _read(name, environ[reading.variable], reading, origin)
        elif name in written:
            origin = str(path)
            value = _read(name, written[name], reading, origin)
        elif name == "home":
            value = platformdirs.user_cache_path("modelcask")
        found.append(Setting(name, value, origin, reading.variable))
    return found


_SECRET: Final = re.compile(r"(?<=//)[^/\s@]*(?=@)|(?<=\?)[^\s'\"]+")
"""Whom a URL logs in, and what it asks for."""


def _read(name: str, value: object, reading: _Reading, origin: str) -> object:
    try:
        return reading.read(_as_text(value))
    except (TypeError, ValueError) as error:
        shown = _SECRET.sub("…", repr(value)) if "://" in str(value) else repr(value)
        raise ConfigError(f"{name} = {shown} (from {origin}) cannot be used: {error}") from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the config file {path} cannot be read: {error}") from error
    unknown = sorted(set(written) - set(_READINGS))
    if unknown:
        raise ConfigError(f"{path} has the unknown setting {unknown[0]!r}; known are {', '.join(_READINGS)}")
    return written
