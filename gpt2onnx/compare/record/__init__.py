"""What a comparison asked and found, as dataclasses: compare.json (docs/compare-schema.md)."""
