"""The command line that all examples share."""

from __future__ import annotations

import argparse
from typing import Any

import microstream as ms

__all__ = ["parser", "run_options"]


def parser(description: str | None, name: str, **defaults: str) -> argparse.ArgumentParser:
    """Options of a query called `name`, and one option with a default per keyword (topics, mostly)."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--bootstrap-servers", default="localhost:9092", metavar="HOST:PORT")
    options.add_argument("--checkpoint", default=f"checkpoints/{name}", metavar="FOLDER_OR_URL")
    options.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster; else one is started here")
    options.add_argument("--once", action="store_true", help="work off what is there, then end")
    for option, default in defaults.items():
        options.add_argument(f"--{option.replace('_', '-')}", default=default)
    return options


def run_options(chosen: argparse.Namespace) -> dict[str, Any]:
    """What the shared options mean to `ms.start`."""
    trigger = ms.available_now() if chosen.once else ms.every("1s")
    return {"checkpoint": chosen.checkpoint, "client": chosen.scheduler, "trigger": trigger}
