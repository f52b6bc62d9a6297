"""Boxes whose namespaces bubblewrap makes, where only it may.

`boxes` stands in for the zygote; the same agent serves inside, from `archive`.
"""
