# For other extensions only: see _rows.pxd.
