"""Bytes on the fullest device of a replica: weights, KV cache, activations."""
