"""The commands, run as a user runs them: as processes, against real servers."""
