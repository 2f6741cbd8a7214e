"""Task data: where it comes from, how it is verified, tokenised and batched."""
