"""What a figure depends on besides the programs: the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def describe(work: Path) -> dict[str, str]:
    """Return the facts a reader needs to judge the figures; those that this system does not tell are left out."""
    facts = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "file system": _said(["df", "--output=fstype", str(work)]).rpartition("\n")[2],
        "nginx": _said(["nginx", "-v"]).rpartition("/")[2],
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }
    return {name: value for name, value in facts.items() if value}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _said(command: list[str]) -> str:
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return (told.stdout + told.stderr).strip() if told.returncode == 0 else ""
