"""The command line: `ha-canal serve`, `tail`, `decode`, `status`, `check-config`."""

from __future__ import annotations

import sys


def entry() -> None:
    """Run the command line, or say what to install: a bare ``pip install ha-canal`` brings the client only."""
    try:
        from ha_canal.cli.main import main
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("ha_canal"):
            raise
        sys.exit(
            f"ha-canal: the command line needs the server's libraries ({error.name}): pip install 'ha-canal[server]'"
        )
    main()
