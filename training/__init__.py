"""How the bundled demo models were made: `python -m training`."""
