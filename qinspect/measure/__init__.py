"""Streaming statistics, ranges, error metrics and sensitivity: arrays and files in, tables out."""
