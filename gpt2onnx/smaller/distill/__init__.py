"""A smaller student of a GPT-2, trained on its teacher's logits. Needs torch and transformers."""
