"""``modelcask doctor``."""

from __future__ import annotations

import click

import modelcask
from modelcask_cli import streams
from modelcask_cli.app import examples, load_settings
from modelcask_cli.options import json_option


@click.command(epilog=examples("modelcask doctor"))
@json_option
def command(as_json: bool) -> int:
    """Tell what is wrong with the system, the store or the catalog.

    Exit 1 if anything is. Changes nothing.
    """
    with modelcask.ModelCache(settings=load_settings()) as cache:
        checks = cache.diagnose()
    if as_json:
        from modelcask_cli.documents import DoctorDocument  # noqa: PLC0415

        document: DoctorDocument = {
            "checks": [{"name": check.name, "health": check.health, "detail": check.detail} for check in checks]
        }
        streams.tell_json(document)
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            streams.tell(f"{check.health:<7}  {check.name:<{width}}  {modelcask.display(check.detail, 2000)}")
    return int(any(check.health is modelcask.Health.FAILURE for check in checks))
