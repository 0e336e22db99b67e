"""Every decoder fed with mutated real bytes and garbage: a value or an error of ours, in bounded time and memory."""
