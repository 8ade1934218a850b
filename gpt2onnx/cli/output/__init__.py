"""What commands write: tables, progress, files."""
