"""What the product needs from the outside, as Protocols. Each has an adapter that works offline."""
