"""Durable cursors: their JSON, which is Canal's with additions, and the group commit that writes them."""

from ha_canal.cursor.record import cursor_from_json, cursor_to_json, remembered_from_json
from ha_canal.cursor.writer import CursorStorage, CursorWriter

__all__ = ["CursorStorage", "CursorWriter", "cursor_from_json", "cursor_to_json", "remembered_from_json"]
