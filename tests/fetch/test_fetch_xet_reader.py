"""What hf_xet's process is told, and what it is not."""

from __future__ import annotations

import os
from pathlib import Path

from modelcask.config import Settings
from modelcask.fetch.xet_reader import environment

SETTINGS = Settings(home=Path("/nowhere"), connections=3, stall_timeout_s=12.5)


def test_no_token_of_the_user_reaches_hf_xet():
    """The variables that hold tokens stay here; proxies go along."""
    users = {"HF_TOKEN": "a", "HUGGING_FACE_HUB_TOKEN": "b", "HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "x.example"}
    told = environment(SETTINGS, users)
    assert {"a", "b"}.isdisjoint(told.values())
    assert told["HTTPS_PROXY"] == "http://proxy:1"
    assert told["NO_PROXY"] == "x.example,localhost,127.0.0.1,::1"


def test_telemetry_and_log_stay_off_whatever_the_user_has_set():
    """Neither can be switched on from outside; the speed of hf_xet can be tuned."""
    users = {"HF_XET_TELEMETRY_ENABLED": "1", "HF_XET_LOG_DEST": "/var/log/", "HF_XET_CLIENT_RETRY_BASE_DELAY": "9s"}
    told = environment(SETTINGS, users)
    assert told["HF_XET_TELEMETRY_ENABLED"] == "0"
    assert told["HF_XET_LOG_DEST"] == os.devnull
    assert told["HF_XET_CLIENT_RETRY_BASE_DELAY"] == "9s"


def test_the_settings_bound_hf_xet():
    """Connections, silence and certificates are those of the settings."""
    told = environment(Settings(home=Path("/nowhere"), connections=3, stall_timeout_s=12.5, ca_file=Path("/ca")), {})
    assert told["HF_XET_CLIENT_AC_MAX_DOWNLOAD_CONCURRENCY"] == "3"
    assert told["HF_XET_CLIENT_READ_TIMEOUT"] == "12500ms"
    assert told["SSL_CERT_FILE"] == "/ca"
    assert "SSL_CERT_FILE" not in environment(SETTINGS, {})
