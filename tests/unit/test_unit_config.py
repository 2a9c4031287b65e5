"""Settings: what beats what, and what is said of a value that cannot be used."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from modelcask.config import VARIABLES, Settings, config_file, explain_settings, load_settings
from modelcask.errors import ConfigError

# For each setting: its variable, then the text and the value for environment, file and argument.
CASES: dict[str, tuple[str, tuple[str, object], tuple[str, object], object]] = {
    "home": ("MODELCASK_HOME", ("/env", Path("/env")), ('"/file"', Path("/file")), Path("/argument")),
    "offline": ("MODELCASK_OFFLINE", ("yes", True), ("true", True), True),
    "allow_http": ("MODELCASK_ALLOW_HTTP", ("on", True), ("true", True), True),
    "hf_endpoint": (
        "HF_ENDPOINT",
        ("https://env.example/", "https://env.example"),
        ('"http://file.example"', "http://file.example"),
        "https://argument.example",
    ),
    "connections": ("MODELCASK_CONNECTIONS", ("7", 7), ("8", 8), 9),
    "limit_rate": ("MODELCASK_LIMIT_RATE", ("1.5MiB", 1_572_864), ('"20MB"', 20_000_000), 500_000),
    "max_time_s": ("MODELCASK_MAX_TIME_S", ("60", 60.0), ("1.5", 1.5), 3.5),
    "mirrors": (
        "MODELCASK_MIRRORS",
        (
            "https://a.example=https://b.example/ https://c.example https://a.example=https://d.example",
            (
                ("https://a.example", ("https://b.example", "https://d.example")),
                ("", ("https://c.example",)),
            ),
        ),
        (
            '{ "https://a.example/x/" = ["https://b.example", "https://c.example"], "" = "https://d.example" }',
            (
                ("https://a.example/x", ("https://b.example", "https://c.example")),
                ("", ("https://d.example",)),
            ),
        ),
        {"https://a.example": ["https://e.example"]},
    ),
    "files_at_once": ("MODELCASK_FILES_AT_ONCE", ("7", 7), ("8", 8), 9),
    "retries": ("MODELCASK_RETRIES", ("0", 0), ("2", 2), 3),
    "connect_timeout_s": ("MODELCASK_CONNECT_TIMEOUT_S", ("0.5", 0.5), ("2", 2.0), 3.5),
    "stall_timeout_s": ("MODELCASK_STALL_TIMEOUT_S", ("1e1", 10.0), ("2.5", 2.5), 3.5),
    "ca_file": (
        "MODELCASK_CA_FILE",
        ("/env.pem", Path("/env.pem")),
        ('"/file.pem"', Path("/file.pem")),
        Path("/a.pem"),
    ),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_every_setting_is_in_the_table_above() -> None:
    """A new setting gets its row."""
    never_read = {"access"}
    assert set(CASES) == {field.name for field in fields(Settings)} - never_read
    assert set(VARIABLES) == {"MODELCASK_CONFIG", *(case[0] for case in CASES.values())}


@pytest.mark.parametrize("name", CASES)
def test_argument_beats_environment_beats_file_beats_default(name: str, config: Path) -> None:
    """Each setting can be given in three ways, and says where its value comes from."""
    variable, (env_text, env_value), (file_text, file_value), argument = CASES[name]
    plain = {"MODELCASK_CONFIG": str(config)}

    def found(environ: dict[str, str], **arguments: object) -> tuple[object, str]:
        [one] = [setting for setting in explain_settings(environ, **arguments) if setting.name == name]
        assert one.variable == variable
        assert getattr(load_settings(environ, **arguments), name) == one.value
        return one.value, one.origin

    default, origin = found(plain)
    assert origin == "default"
    config.write_text(f"{name} = {file_text}\n")
    assert found(plain) == (file_value, str(config))
    assert found({**plain, variable: env_text}) == (env_value, variable)
    value, origin = found({**plain, variable: env_text}, **{name: argument})
    assert origin == "argument"
    assert value == (argument if name != "mirrors" else (("https://a.example", ("https://e.example",)),))
    assert found({**plain, variable: ""}, **{name: None}) == (file_value, str(config))
    assert default != file_value


def test_the_defaults_are_safe(config: Path) -> None:
    """Out of the box: network allowed, plain http not, the user's own cache folder."""
    settings = load_settings({"MODELCASK_CONFIG": str(config)})
    assert (settings.offline, settings.allow_http, settings.ca_file) == (False, False, None)
    assert settings.home.is_absolute()
    assert settings.home.name == "modelcask"
    assert settings.hf_endpoint.startswith("https://")


WRONG = {
    "MODELCASK_OFFLINE": ["maybe", "2", " true", "truee"],
    "MODELCASK_ALLOW_HTTP": ["ja"],
    "HF_ENDPOINT": ["huggingface.co", "ftp://host", "//host"],
    "MODELCASK_FILES_AT_ONCE": ["0", "-1", "many", "1.5", ""],
    "MODELCASK_CONNECTIONS": ["0", "some"],
    "MODELCASK_LIMIT_RATE": ["0", "0.1B", "fast", "-1", "1ZB", "1MB/s"],
    "MODELCASK_MAX_TIME_S": ["0", "-1", "inf"],
    "MODELCASK_MIRRORS": ["mirror.example", "ftp://a=https://b", "https://a=", "=b"],
    "MODELCASK_RETRIES": ["-1", "x", "1e3"],
    "MODELCASK_CONNECT_TIMEOUT_S": ["0", "-1", "nan", "inf", "fast"],
    "MODELCASK_STALL_TIMEOUT_S": ["0", "1s"],
    "MODELCASK_HOME": ["~no-such-user-at-all/x"],
    "MODELCASK_CA_FILE": ["~no-such-user-at-all/x"],
}


@pytest.mark.parametrize(
    ("variable", "text"), [(name, text) for name, texts in WRONG.items() for text in texts if text]
)
def test_a_value_that_cannot_be_used_is_named_with_its_place(variable: str, text: str, config: Path) -> None:
    """The error says the setting, the value and that it came from the environment."""
    with pytest.raises(ConfigError) as caught:
        load_settings({"MODELCASK_CONFIG": str(config), variable: text})
    assert variable in str(caught.value)
    assert repr(text) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections": 0},
        {"files_at_once": -1},
        {"limit_rate": 0},
        {"stall_timeout_s": 0},
        {"retries": True},
        {"mirrors": {"https://a": 1}},
        {"mirrors": ["https://a"]},
    ],
)
def test_what_a_program_gives_is_checked_like_what_a_person_writes(wrong: dict[str, object], config: Path) -> None:
    """A number that would make a pull wait for ever is refused, whoever gives it."""
    with pytest.raises(ConfigError, match="from argument"):
        load_settings({"MODELCASK_CONFIG": str(config)}, **wrong)


def test_a_mirror_that_holds_a_secret_is_refused_without_it(config: Path) -> None:
    """Nobody is logged in at a mirror; the error shows neither password nor query."""
    for text in ("https://me:pw123@m.example", "https://m.example?key=pw123", "https://a=https://:pw123@m.example/b"):
        with pytest.raises(ConfigError) as caught:
            load_settings({"MODELCASK_CONFIG": str(config), "MODELCASK_MIRRORS": text})
        assert "pw123" not in str(caught.value) + repr(caught.value.__cause__)


FILES = {
    "not toml": "home = ",
    "unknown key": "hme = '/x'\n",
    "a table": "[network]\noffline = true\n",
    "wrong type": "retries = 'five'\n",
    "a list of mirrors": "mirrors = ['https://m.example']\n",
    "a mirror that is a number": "[mirrors]\n'https://a.example' = 5\n",
    "a list": "files_at_once = [1]\n",
    "a fraction": "retries = 2.5\n",
    "a boolean for a number": "retries = true\n",
    "an empty home": "home = ''\n",
    "a NUL in a path": 'home = "/a\\u0000b"\n',
    "no UTF-8": "home = '\udcff'\n",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
def test_a_config_file_that_cannot_be_used_is_refused_as_a_whole(content: str, config: Path) -> None:
    """A setting that is silently dropped would surprise later; the error names the file."""
    config.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError) as caught:
        load_settings({"MODELCASK_CONFIG": str(config)})
    assert str(config) in str(caught.value)


def test_a_config_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    """Not taken for absent."""
    with pytest.raises(ConfigError):
        load_settings({"MODELCASK_CONFIG": str(tmp_path)})


def test_paths_are_absolute_whatever_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    """A root must not move with the current folder; ``~`` is the user's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    environ = {"MODELCASK_CONFIG": str(config), "MODELCASK_HOME": "models"}
    assert load_settings(environ).home == tmp_path / "models"
    assert load_settings({**environ, "MODELCASK_HOME": "~/models"}).home == tmp_path / "me" / "models"
    assert load_settings(environ, home="other").home == tmp_path / "other"
    assert config_file({"MODELCASK_CONFIG": "c.toml"}) == tmp_path / "c.toml"


def test_the_environment_is_that_of_the_process_by_default(cask: Path) -> None:
    """Without a mapping, ``os.environ`` is read."""
    assert load_settings().home == cask
    assert config_file() == Path(os.environ["MODELCASK_CONFIG"])
    del os.environ["MODELCASK_CONFIG"]
    assert config_file().name == "config.toml"
