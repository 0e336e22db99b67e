"""`python -m ha_canal.cli`: the same commands, for a checkout that is not installed."""

from ha_canal.cli import entry

entry()
