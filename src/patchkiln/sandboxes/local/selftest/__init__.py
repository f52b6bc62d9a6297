"""What this machine can isolate, what it cannot, and the exact fix.

`examination` makes a box and looks at it from both sides with `probe.sh`; `facts` reads the
machine; `diagnosis` explains a step that the kernel refused; `tools` and `toolchain` are what a
box is lent.
"""
