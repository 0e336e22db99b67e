"""A node's election: what an operator breaks in the coordinator, and mends, takes no restart."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from ha_canal.cluster.coordinator import Create, Set
from ha_canal.cluster.layout import Layout
from ha_canal.config import ClusterSection, InstanceSection, NodeConfig, SourceSection
from ha_canal.node import RunningNode
from ha_canal.testing.coordinator import MemoryEnsemble
from ha_canal.testing.eventually import eventually


def test_a_node_contends_again_when_the_epoch_node_is_mended(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, logger="ha_canal.node")
    unreachable = InstanceSection(name="shop", source=SourceSection(host="127.0.0.1", port=1, user="u"))
    config = NodeConfig(
        cluster=ClusterSection(mode="embedded", state_file=tmp_path / "unused"), instance=(unreachable,)
    )
    paths = Layout(config.cluster.root).instance("shop")

    async def main() -> None:
        session = MemoryEnsemble().session()
        await session.commit([Create(paths.epoch, b"garbage")])
        running = RunningNode(config, session)
        task = asyncio.create_task(running.run_for(unreachable))
        await eventually(lambda: "its election does not work" in caplog.text, within_s=10, what="the trouble is told")
        first = running._campaigns["shop"]
        await eventually(lambda: running._campaigns["shop"] is not first, within_s=10, what="another campaign")
        await session.commit([Set(paths.epoch, b"7")])
        await eventually(lambda: "shop" in running._instances, within_s=10, what="the instance runs")
        assert running._instances["shop"].epoch == 8
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()

    asyncio.run(main())
    said = [record.getMessage() for record in caplog.records if "election" in record.getMessage()]
    assert len(said) == 2
    assert "garbage" in said[0]
    assert said[1].endswith("its election works again")
