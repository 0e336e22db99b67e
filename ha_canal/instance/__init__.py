"""One active instance: wires source, ring and readers together for one term of office."""

from ha_canal.instance.instance import Instance

__all__ = ["Instance"]
