"""The exported model's logits against PyTorch's."""
