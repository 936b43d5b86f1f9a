"""Reads sources whose labels are in tables: CSV, TSV, text, JSON lines, XLSX and Parquet."""
