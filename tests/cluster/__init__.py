"""Tests of coordination, election and fencing."""
