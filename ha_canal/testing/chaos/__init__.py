"""The campaigns of `scripts/chaos`: faults thrown at a whole cluster by a seeded schedule, and what it showed."""
