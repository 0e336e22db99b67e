"""What the tables look like: asked of the database, and checked against what the binlog says."""
