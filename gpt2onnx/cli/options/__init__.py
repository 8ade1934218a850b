"""Options that several commands share: the model, the text, the parameters."""
