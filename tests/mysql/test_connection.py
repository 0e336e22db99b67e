"""Logging in and inspecting, on real servers: who it is, and what is said when it cannot be read."""

from __future__ import annotations

import asyncio
import re
import ssl
import traceback
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pymysql
import pytest

from ha_canal.config import SourceSection
from ha_canal.errors import CanalError, ConfigError, SourceBusyError, SourceLostError, SourceRefusedError
from ha_canal.model.position import Position
from ha_canal.mysql.connection import (
    ServerInfo,
    end_of_binlog,
    explain,
    has_gtids_before,
    inspect,
    session,
    start_of_binlog,
)
from ha_canal.testing.database import Database, DatabaseServer
from ha_canal.testing.mariadb import mariadb_server
from ha_canal.testing.mysql import mysql_server
from ha_canal.testing.proxy import FaultProxy
from tests.mysql.sources import purge_up_to, source_of

SECRET = "geheim-7"


async def inspected(source: SourceSection) -> ServerInfo:
    async with session(source) as db:
        return await inspect(db, source)


async def ends(source: SourceSection) -> tuple[Position, Position]:
    async with session(source) as db:
        info = await inspect(db, source)
        return await start_of_binlog(db, info), await end_of_binlog(db, info)


def refusal(source: SourceSection) -> str:
    """Return the words with which the source is refused."""
    with pytest.raises(SourceRefusedError) as caught:
        asyncio.run(ends(source))
    assert source.address in str(caught.value)
    return str(caught.value)


def test_who_the_server_is(database: Database) -> None:
    server = database.server
    info = asyncio.run(inspected(source_of(server)))
    assert (info.flavor, info.server_id) == (server.flavor, server.server_id)
    assert info.gtids
    assert info.row_metadata_full
    assert info.address == f"127.0.0.1:{server.port}"
    uuid = server.run_sql("SELECT @@server_uuid")[0][0] if server.flavor == "mysql" else ""
    assert info.server_uuid == uuid


def test_the_end_of_the_binlog_moves_with_what_is_written(database: Database) -> None:
    source = source_of(database.server)
    oldest, before = asyncio.run(ends(source))
    database.run_sql("CREATE TABLE goods (id INT)")
    _, after = asyncio.run(ends(source))
    assert oldest.offset == 4
    assert (before.file, before.offset) < (after.file, after.offset)
    assert before.gtid_set != after.gtid_set
    assert after.server_id == database.server.server_id


def test_a_wrong_password(database: Database) -> None:
    with pytest.raises(SourceRefusedError, match="Check user and password") as caught:
        asyncio.run(inspected(source_of(database.server, password=SECRET)))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_missing_grants(database: Database) -> None:
    server = database.server
    server.run_sql("CREATE USER poor@'%' IDENTIFIED BY 'poor'")
    try:
        words = refusal(source_of(server, user="poor", password="poor"))
    finally:
        server.run_sql("DROP USER poor@'%'")
    assert "1227" in words
    assert "GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO" in words


@pytest.mark.parametrize("tls", ["required", "verify"])
def test_mariadb_without_tls_where_tls_is_required(mariadb: DatabaseServer, tls: str) -> None:
    assert f"the server has no TLS, and tls = '{tls}' asks for it" in refusal(source_of(mariadb, tls=tls))


def test_mysql_has_a_certificate_that_nobody_trusts(mysql: DatabaseServer) -> None:
    words = refusal(source_of(mysql, tls="verify"))
    assert "certificate cannot be trusted" in words
    assert "tls_ca" in words


def test_the_certificate_is_checked_against_the_authority_that_is_given(mysql: DatabaseServer) -> None:
    source = source_of(mysql, tls="verify", tls_ca=mysql.directory / "ca.pem")
    words = refusal(source)  # the server's own certificate names no host
    assert "certificate cannot be trusted" in words
    assert "mismatch" in words or "match" in words


def test_an_authority_that_is_none(mysql: DatabaseServer, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for path in (tmp_path / "none.pem", tmp_path / "empty.pem"):
        with pytest.raises(ConfigError, match=re.escape(f"tls_ca: {path} holds no certificates")):
            asyncio.run(inspected(source_of(mysql, tls="required", tls_ca=path)))


@pytest.mark.parametrize("tls", ["disabled", "preferred", "required"])
def test_what_is_encrypted(database: Database, tls: str) -> None:
    flavor = database.server.flavor
    if flavor == "mariadb" and tls == "required":
        return
    assert asyncio.run(_cipher(source_of(database.server, tls=tls))) is (flavor == "mysql" and tls != "disabled")


async def _cipher(source: SourceSection) -> bool:
    async with session(source) as db:
        rows = await db.query("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        assert isinstance(db._connection._sock, ssl.SSLSocket) is bool(rows[0][1])  # type: ignore[attr-defined]
        return bool(rows[0][1])


def server_with(flavor: str, options: Sequence[str]) -> AbstractAsyncContextManager[DatabaseServer]:
    return mariadb_server(options=options) if flavor == "mariadb" else mysql_server(options=options)


@pytest.mark.parametrize(
    ("flavor", "options", "words"),
    [
        ("mariadb", ["--skip-log-bin"], "the binlog is off. Start the server with log-bin"),
        ("mysql", ["--skip-log-bin", "--skip-log-replica-updates"], "the binlog is off. Start the server with log-bin"),
        ("mariadb", ["--binlog-format=STATEMENT"], "SET GLOBAL binlog_format = 'ROW'"),
        ("mariadb", ["--binlog-format=MIXED"], "binlog_format is MIXED"),
    ],
)
def test_servers_whose_binlog_cannot_be_read(flavor: str, options: list[str], words: str) -> None:
    async def check() -> None:
        async with server_with(flavor, options) as server:
            with pytest.raises(SourceRefusedError, match=words):
                await inspected(source_of(server))

    asyncio.run(check())


def test_a_server_without_gtids_and_with_metadata_as_it_is_by_default() -> None:
    async def check() -> None:
        options = ["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-row-metadata=MINIMAL"]
        async with mysql_server(options=options) as server:
            info = await inspected(source_of(server))
            assert not info.gtids
            assert not info.row_metadata_full
            assert (await ends(source_of(server)))[1].gtid_set == ""

    asyncio.run(check())


def test_whether_something_lies_before_a_place() -> None:
    async def check(server: DatabaseServer) -> None:
        source = source_of(server)
        async with session(source) as db:
            info = await inspect(db, source)
            fresh = await end_of_binlog(db, info)
            assert fresh.gtid_set == ""
            await server.execute("CREATE DATABASE shop")
            later = await end_of_binlog(db, info)
            assert not await has_gtids_before(db, info, await start_of_binlog(db, info))
            assert not await has_gtids_before(db, info, fresh)
            assert await has_gtids_before(db, info, later)
            await server.execute("FLUSH BINARY LOGS")
            assert await has_gtids_before(db, info, Position("mysql-bin.000002", 4))
            await purge_up_to(server, "mysql-bin.000002")
            oldest = await start_of_binlog(db, info)
            assert oldest.gtid_set == later.gtid_set
            assert await has_gtids_before(db, info, oldest)

    async def both() -> None:
        async with mariadb_server() as server:
            await check(server)
        async with mysql_server() as server:
            await check(server)

    asyncio.run(both())


def test_nobody_answers(mariadb: DatabaseServer) -> None:
    async def check() -> None:
        async with FaultProxy(mariadb.host, mariadb.port) as proxy:
            proxy.refuse()
            with pytest.raises(SourceLostError, match="Connection refused"):
                await inspected(source_of(proxy))
        with pytest.raises(SourceLostError, match="no connection to the database"):
            await inspected(source_of(mariadb, host="no-such-host.invalid"))

    asyncio.run(check())


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0-OpenSSH_9.2p1\r\n", b"\x01\0\0\0\x0a", b"\x04\0\0\0\x0a5.\0", b"\0\0\0\0", b"", b"x" * 9000]
)
def test_what_answers_is_no_database(greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()
        await writer.wait_closed()

    async def check() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            source = SourceSection.model_validate({"host": "127.0.0.1", "port": port, "user": "u", "password": SECRET})
            with pytest.raises(SourceLostError, match=f"127.0.0.1:{port}"):
                await inspected(source)

    asyncio.run(check())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (pymysql.OperationalError(1040, "Too many connections"), SourceBusyError, "cannot serve now"),
        (pymysql.OperationalError(1130, "Host 'x' is not allowed"), SourceRefusedError, "denies access"),
        (pymysql.OperationalError(2013, "Lost connection"), SourceLostError, "no connection"),
        (pymysql.OperationalError(3159, "insecure transport"), SourceRefusedError, "Set tls = 'preferred'"),
        (pymysql.InternalError("Packet sequence number wrong"), SourceLostError, "Packet sequence number wrong"),
        (pymysql.InternalError(), SourceLostError, "InternalError"),
        (pymysql.ProgrammingError(1064, "You have an error"), SourceRefusedError, "1064: You have an error"),
    ],
)
def test_every_error_of_the_server_is_one_of_ours(
    error: pymysql.MySQLError, kind: type[CanalError], words: str
) -> None:
    explained = explain(error, SourceSection.model_validate({"host": "db", "user": "u", "password": SECRET}))
    assert type(explained) is kind
    assert words in str(explained)
    assert "u@db:3306" in str(explained)
