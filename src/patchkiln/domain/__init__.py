"""What the product talks about: runs, events, plans, checks, patches. Pure, no I/O."""
