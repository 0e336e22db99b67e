"""Servers that accept and never answer: questions end in time, and no thread stays behind."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ha_canal.errors import SourceLostError
from ha_canal.mysql.connection import session
from ha_canal.mysql.logins import Logins
from ha_canal.testing.database import Database
from ha_canal.testing.eventually import eventually
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import source_of

_NAME = "asking"


def _waiting() -> int:
    return sum(thread.name.startswith(_NAME) for thread in threading.enumerate())


@pytest.mark.parametrize("tls", ["disabled", "preferred"])
def test_a_login_and_a_question_that_hang_are_cut(database: Database, tls: str) -> None:
    async def main() -> None:
        async with FaultProxy("127.0.0.1", database.server.port) as link:
            threads = ThreadPoolExecutor(1, thread_name_prefix=_NAME)
            source = source_of(link, tls=tls)
            async with session(source, limit_s=10.0, threads=threads) as db:
                assert await db.query("SELECT 1") == [(1,)]
                link.black_hole()
                with pytest.raises(TimeoutError):  # whoever asks is cancelled
                    async with asyncio.timeout(0.1):
                        await db.query("SELECT 1")
            with pytest.raises(SourceLostError, match=r"no answer within 0\.2 s"):
                async with session(source, limit_s=0.2, threads=threads):
                    pass
            threads.shutdown(wait=False)
            await eventually(lambda: not _waiting(), what="no thread waits")

    asyncio.run(main())


def test_a_connection_that_was_logged_in_before_is_cut_too(database: Database) -> None:
    async def main() -> None:
        async with FaultProxy("127.0.0.1", database.server.port) as link:
            source = source_of(link)
            logins = Logins(source)
            async with logins.kept():
                await eventually(lambda: logins.count == 3, within_s=20, what="connections are ready")
            async with session(source, logins, limit_s=0.2) as db:
                link.black_hole()
                with pytest.raises(SourceLostError, match=r"no answer within 0\.2 s"):
                    await db.query("SELECT 1")
            logins.close()

    asyncio.run(main())
