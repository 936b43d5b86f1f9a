"""Inspects a source before it is built: tables and contact sheets."""
