"""Experiments as plain functions: settings in, a record out."""
