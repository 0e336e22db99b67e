"""The wire protocol as Python: modules which `scripts/generate` makes from `protos/`, never edited by hand."""
