"""What modelcask logs, shown on stderr: warnings always, with -v what is done, with -vv every detail."""

from __future__ import annotations

import logging

import modelcask
from modelcask_cli import streams

_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        streams.say(modelcask.display(self.format(record), 2000))


def show_log(verbosity: int) -> None:
    """Send the log of modelcask, and of nothing else, to stderr."""
    logger = logging.getLogger("modelcask")
    level = _LEVELS[min(verbosity, len(_LEVELS) - 1)]
    for former in list(logger.handlers):
        if isinstance(former, _ToStderr):
            logger.removeHandler(former)
    handler = _ToStderr(level)
    handler.setFormatter(
        logging.Formatter(
            "%(levelname)s: %(message)s" if not verbosity else "%(asctime)s %(name)s %(levelname)s %(message)s"
        )
    )
    logger.addHandler(handler)
    logger.setLevel(level)
