"""Settings: an argument beats the environment, the environment beats the config file, that beats the default.

The config file is TOML, ``config.toml`` in the user's config folder (``MODELCASK_CONFIG`` names another)::

    home = "/data/models"
    allow_http = false
    files_at_once = 8
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import platformdirs

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
    files_at_once: int = 4
    """How many files of all running pulls are fetched at the same time."""
    retries: int = 5
    """How often a file's transfer is taken up again before the pull fails."""
    connect_timeout_s: float = 10.0
    stall_timeout_s: float = 30.0
    """A connection that brings no byte for so long is dropped and taken up again."""
    ca_file: Path | None = None
    """Certificates to trust in place of the system's, in PEM."""


def _boolean(text: str) -> bool:
    value = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in value:
        raise ValueError("write true or false")
    return value[text.lower()]


def _positive_int(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("it must be 1 or more")
    return number


def _natural(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("it must be 0 or more")
    return number


def _positive_float(value: str) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("it must be above 0")
    return number


def _endpoint(value: str) -> str:
    if not value.startswith(("https://", "http://")):
        raise ValueError("it must be an http or https URL")
    return value.rstrip("/")


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
    for field in fields(Settings):
        name, reading = field.name, _READINGS[field.name]
        value: object = field.default
        origin = "default"
        if arguments.get(name) is not None:
            value, origin = arguments[name], "argument"
            if isinstance(value, str):
                value = _read(name, value, reading, origin)
        elif environ.get(reading.variable):
            origin = reading.variable
            value = _read(name, environ[reading.variable], reading, origin)
        elif name in written:
            origin = str(path)
            raw = written[name]
            value = _read(name, str(raw).lower() if isinstance(raw, bool) else str(raw), reading, origin)
        elif name == "home":
            value = platformdirs.user_cache_path("modelcask")
        found.append(Setting(name, value, origin, reading.variable))
    return found


def _read(name: str, text: str, reading: _Reading, origin: str) -> object:
    try:
        return reading.read(text)
    except ValueError as error:
        raise ConfigError(f"{name} = {text!r} (from {origin}) cannot be used: {error}") from error


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
