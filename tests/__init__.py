"""The tests of ha_canal; a folder per room. Async tests are plain functions that call `asyncio.run`."""
