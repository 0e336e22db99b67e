"""A table of goods in a database of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ha_canal.testing.database import Database, DatabaseServer


@pytest.fixture
def shop(mariadb: DatabaseServer) -> Iterator[Database]:
    """An own database on the shared MariaDB, with the table ``goods (id)``."""
    database = Database(mariadb, mariadb.create_database())
    database.run_sql("CREATE TABLE goods (id INT PRIMARY KEY)")
    yield database
    mariadb.drop_database(database.name)
