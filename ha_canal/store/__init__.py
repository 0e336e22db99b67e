"""The ring: changes in commit order, bounded, read by subscriptions with cursors and filters of their own."""

from ha_canal.store.ring import Ring
from ha_canal.store.subscription import Batch, Subscription

__all__ = ["Batch", "Ring", "Subscription"]
