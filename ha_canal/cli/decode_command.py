"""The `decode` command: its options, its notes on stderr, and its exit status."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from ha_canal.errors import CanalError

INCOMPLETE = 3
_INTERRUPTED = 130


def _time(context: click.Context, parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time such as 2024-05-01, 2024-05-01T12:30:00 or 2024-05-01T12:30:00+02:00"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--table", "tables", multiple=True, help="schema.table, with * and ?; may be given several times")
@click.option("--schema", help="mysql://USER:PASSWORD@HOST:PORT, for the names of columns that the events do not carry")
@click.option("--start-offset", type=click.IntRange(min=4), default=4, help="in the first file; a transaction's start")
@click.option(
    "--stop-offset", type=click.IntRange(min=4), help="in the last file; transactions from there on are left out"
)
@click.option(
    "--start-time",
    metavar="TIME",
    callback=_time,
    help="leave out transactions before it; UTC unless it says otherwise",
)
@click.option("--stop-time", metavar="TIME", callback=_time, help="leave out transactions from then on")
@click.option("--summary", is_flag=True, help="count per table and kind of change; needs no names")
@click.option("--json", "as_json", is_flag=True, help="with --summary: for programs")
def decode(
    files: tuple[Path, ...],
    tables: tuple[str, ...],
    schema: str | None,
    start_offset: int,
    stop_offset: int | None,
    start_time: datetime | None,
    stop_time: datetime | None,
    summary: bool,
    as_json: bool,
) -> None:
    """Print the changes of binlog files as JSON lines, offline: the same lines as `ha-canal tail`.

    FILES must follow each other, under the names that their server gave them. Names of columns come from the events
    (binlog_row_metadata=FULL) or from --schema; without a password in its URL the variable HA_CANAL_PASSWORD is used.

    With --summary, bytes are those of row images and statements, without what wraps or compresses them.

    A file that is still being written, or that ends in the middle of something, is read up to its last whole event,
    and stderr says where that is.

    \b
    Exit status:
      0  everything was read
      1  an error: the message names file, offset and event; what came before it was printed
      2  wrong usage
      3  a file ends inside an event or a transaction; everything before was printed
    """
    from ha_canal.cli import decode as work

    logging.getLogger("ha_canal").setLevel(logging.WARNING)
    if as_json and not summary:
        raise click.UsageError("--json belongs to --summary: without it, the output is JSON anyway")
    if schema and summary:
        raise click.UsageError("--summary needs no names, and so no --schema")
    wanted = work.Wanted(files, tables, start_offset, stop_offset, start_time, stop_time)
    with _quiet_ends():
        if summary:
            counted, unfinished = work.summarize(wanted)
            click.echo(work.summary_as_json(counted) if as_json else work.summary_as_text(counted), nl=as_json)
        else:
            unfinished = work.print_changes(wanted, schema, sys.stdout.buffer.write)
        sys.stdout.flush()
        for one in unfinished:
            rest = f"; {one.missing}" if one.missing else " (so far)"
            click.echo(f"Note: {one.file} was read up to {one.offset}, its last whole event{rest}", err=True)
    if any(one.missing for one in unfinished):
        sys.exit(INCOMPLETE)


@contextlib.contextmanager
def _quiet_ends() -> Iterator[None]:
    """Say errors in one message; end without one where the user, or the reader of our output, wants no more."""
    try:
        yield
    except KeyboardInterrupt:
        _drop_output()
        sys.exit(_INTERRUPTED)
    except CanalError as error:
        _flush()
        raise click.ClickException(str(error)) from None
    except OSError as error:
        if error.errno != errno.EPIPE:
            _flush()
            raise click.ClickException(f"{error.filename or 'output'}: {error.strerror}") from None
        _drop_output()
        sys.exit(0)


def _flush() -> None:
    with contextlib.suppress(OSError):
        sys.stdout.flush()


def _drop_output() -> None:
    """Let nothing be written any more, also not at the interpreter's end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
