"""The command line of `scripts/chaos`: which campaign, on what, and where the outcome is written."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ha_canal.testing.chaos import kills, report
from ha_canal.testing.chaos.campaign import Outcome, run
from ha_canal.testing.chaos.picture import timeline
from ha_canal.testing.chaos.schedule import KINDS, Fault, draw
from ha_canal.testing.chaos.stage import Scene

_PAUSE_S = 0.02
"""The mean pause of each writer: the machine that is under fire also carries every link through proxies."""


def main() -> None:
    """Parse the command line, run, and exit with 0 only if the verdict holds."""
    arguments = _parser().parse_args()
    logging.getLogger("ha_canal.client").setLevel(logging.ERROR)  # that nodes are down is no news here
    seed = random.SystemRandom().randrange(1_000_000) if arguments.seed is None else arguments.seed
    holds = _faults(arguments, seed) if arguments.minutes else _kills(arguments, seed)
    sys.exit(0 if holds else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Break a cluster on purpose, and judge it.")
    parser.add_argument("--minutes", type=float, default=0.0, help="throw faults of all kinds for so long")
    parser.add_argument(
        "--faults", type=_kinds, default=KINDS, metavar="KIND,KIND", help=f"only these of {', '.join(KINDS)}"
    )
    parser.add_argument("--without-gtids", action="store_true", help="nodes go by files and offsets")
    parser.add_argument(
        "--installed-zookeeper",
        action="store_true",
        help="not 3.9.6: Debian 12 has 3.8.0, which loses confirmed writes",
    )
    parser.add_argument("--picture", type=Path, default=None, metavar="FILE", help="draw the timeline there (SVG)")
    parser.add_argument("--kills", type=int, default=20, help="without --minutes: kill the leader so many times")
    parser.add_argument("--moves", type=int, default=0, help="planned moves of the instance, after the kills")
    parser.add_argument("--stops", type=int, default=0, help="clean stops of the leader, after the moves")
    parser.add_argument(
        "--seed", type=int, default=None, help="default: a new one, printed; the same one strikes alike"
    )
    parser.add_argument("--session-timeout", type=float, default=4.0, help="of ZooKeeper, in seconds")
    parser.add_argument("--source", choices=["mariadb", "mysql"], default="mariadb")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the outcome there, too")
    parser.add_argument("--logs", type=Path, default=None, metavar="FOLDER", help="keep logs and journals there")
    return parser


def _kinds(text: str) -> Sequence[str]:
    kinds = tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: no kind of fault; there are {', '.join(KINDS)}")
    return kinds


def _faults(arguments: argparse.Namespace, seed: int) -> bool:
    schedule = draw(seed, arguments.minutes * 60, session_timeout_s=arguments.session_timeout, kinds=arguments.faults)
    title = (
        f"{arguments.minutes:g} minutes of faults on {arguments.source}, seed {seed}, session timeout "
        f"{arguments.session_timeout:g} s{', without GTIDs' if arguments.without_gtids else ''}"
    )
    _say(f"{title}: {len(schedule)} faults")
    outcome = _campaign(arguments, schedule, seed)
    for line in ("", *report.table(outcome), "", *report.summary(outcome)):
        _say(line)
    if arguments.json:
        settings = {"source": arguments.source, "seed": seed, "minutes": arguments.minutes, "title": title}
        drawn = {"schedule": [asdict(fault) for fault in schedule]}
        _write(arguments.json, {**settings, **report.record(outcome), **drawn})
    if arguments.picture:
        arguments.picture.write_text(timeline(outcome, title), encoding="utf-8")
    return outcome.holds


def _campaign(arguments: argparse.Namespace, schedule: Sequence[Fault], seed: int) -> Outcome:
    with contextlib.ExitStack() as stack:
        directory = arguments.logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ha_canal_chaos_")))
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise SystemExit(f"{directory} is not empty: what is in it would be taken for this campaign's")
        scene = Scene(
            directory,
            arguments.source,
            arguments.session_timeout,
            use_gtids=not arguments.without_gtids,
            newer_zookeeper=not arguments.installed_zookeeper,
        )
        return asyncio.run(run(scene, schedule, seed=seed, pause_s=_PAUSE_S, say=_say))


def _kills(arguments: argparse.Namespace, seed: int) -> bool:
    options = kills.Options(arguments.kills, arguments.moves, arguments.stops, seed, arguments.session_timeout)
    _say(
        f"{options.kills} kills, {options.moves} moves, {options.stops} stops of the leader on {arguments.source}, "
        f"seed {seed}"
    )
    outcome = asyncio.run(kills.run(options, arguments.source, arguments.logs, say=_say))
    for line in kills.summary(outcome, options):
        _say(line)
    if arguments.json:
        _write(
            arguments.json,
            {"source": arguments.source, **asdict(options), **asdict(outcome), "holds": outcome.holds},
        )
    return outcome.holds


def _write(path: Path, record: dict[str, object]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
