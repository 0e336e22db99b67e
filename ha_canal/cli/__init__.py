"""The command line: `ha-canal serve`, `tail`, `status`, `check-config`."""
