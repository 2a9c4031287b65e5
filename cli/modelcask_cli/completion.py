"""Completion for shells: click's own, a bash script that knows that URIs hold colons, and the cached URIs."""

from __future__ import annotations

import os
import shlex
from typing import ClassVar, Final

import click
from click.shell_completion import (
    BashComplete,
    ShellComplete,
    add_completion_class,
    get_completion_class,
    split_arg_string,
)

import modelcask
from modelcask_cli.app import PROGRAM, app, given_home
from modelcask_cli.names import short_uri, without_kind

_VARIABLE: Final = f"_{PROGRAM.upper()}_COMPLETE"

# Differs from click's script in two things. It hands over the line, not the words: readline breaks words at colons.
# And it works with every bash: where `complete -o nosort` or `compopt` is not known, their effect alone is missing.
_BASH: Final = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames 2> /dev/null ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(_MODELCASK_LINE="${COMP_LINE:0:$COMP_POINT}" _MODELCASK_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2> /dev/null)
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2> /dev/null || complete -F %(complete_func)s %(prog_name)s
"""


class LineComplete(BashComplete):
    """Completion for bash, from the line up to the cursor."""

    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        """Return the script. Not click's way, which starts a bash to look at its version first."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the whole words before the cursor, and the one that is being written."""
        line = os.environ.get("_MODELCASK_LINE", "")
        words = split_arg_string(line)[1:]
        if line[-1:].isspace() or not words:
            return words, ""
        return words[:-1], words[-1]

    def complete(self) -> str:
        """Return what fits, each without what readline takes for words of their own before the last break."""
        args, incomplete = self.get_completion_args()
        breaks = os.environ.get("_MODELCASK_BREAKS", "")
        before = max((incomplete.rfind(mark) + 1 for mark in ":=@" if mark in breaks), default=0)
        # What the shell would read as more than a word is left out: bash puts it on the line as it is.
        return "\n".join(
            f"{item.type},{item.value[before:]}"
            for item in self.get_completions(args, incomplete)
            if item.type != "plain" or shlex.quote(item.value) == item.value
        )


def register() -> None:
    """Let click complete for bash in our way."""
    add_completion_class(LineComplete, "bash")


def script(shell: str) -> str:
    """Return the script that makes a shell ask modelcask."""
    register()
    found = get_completion_class(shell)
    assert found is not None  # noqa: S101 - the argument's choices are those that click has
    return found(app, {}, PROGRAM, _VARIABLE).source()


def cached_uris(ctx: click.Context, incomplete: str) -> list[str]:
    """Return the URIs of what is held that begin with ``incomplete``; none if anything at all is wrong."""
    try:
        with modelcask.ModelCache(settings=modelcask.load_settings(home=given_home(ctx))) as cache:
            rows = cache.list_snapshots()
        given = set(ctx.params.get("uris") or ())
        found = {name for row in rows for name in (short_uri(row), without_kind(row.source))}
        return sorted(uri for uri in found if uri.startswith(incomplete) and uri not in given)
    except Exception:  # noqa: BLE001 - a shell that completes must never see an error
        return []
