"""ha_canal: a highly available change-data-capture server for MySQL and MariaDB, and its client."""

__version__ = "0.1.0"
