"""What of the source's stream goes into the ring: table filters, and transactions without what is filtered out."""

from ha_canal.sink.filter import TableFilter, glob_to_filter
from ha_canal.sink.sink import Sink

__all__ = ["Sink", "TableFilter", "glob_to_filter"]
