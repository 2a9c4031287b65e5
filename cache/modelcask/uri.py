"""Placeholder: the dataclass only; the parser is being written."""
from __future__ import annotations
from dataclasses import dataclass, field
from modelcask.digest import Digest


@dataclass(frozen=True, slots=True)
class HubRepo:
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class ModelURI:
    scheme: str
    source: str
    path: str = ""
    ref: str | None = None
    revision: str | None = None
    pin: Digest | None = None
    repo: HubRepo | None = None
    quant: str | None = None
    fetch_url: str | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
