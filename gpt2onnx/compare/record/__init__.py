"""The record of a comparison as dataclasses: compare.json (docs/compare-schema.md)."""
